// Package certificates is the function that keeps requests for certificates and the trust bundle of the API server: a change of
// one, or of what somebody may do, in; approvals, certificates and deletions out. The decisions are those of core/certificates.
package certificates

import (
	"context"
	"log/slog"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/certificates"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// The controllers of kube-system in whose names the function acts.
const (
	controller      = "certificate-controller"
	podCleaner      = "podcertificaterequestcleaner"
	bundlePublisher = "kube-apiserver-serving-clustertrustbundle-publisher"
)

// maxPause bounds the pause after a refusal, or after a certificate that could not be signed, which doubles (NewCertificateController,
// pkg/controller/certificates/certificate_controller.go).
const maxPause = 1000 * time.Second

var (
	requests    = plan.SigningRequests.GroupResource()
	podRequests = plan.PodCertificateRequests.GroupResource()
	bundles     = plan.TrustBundles.GroupResource()
)

// Authority signs certificates as the cluster's CA.
type Authority interface {
	// Sign returns a certificate, in PEM. It fails when the CA has expired by now, or the request is not signed by its own key.
	Sign(order certificates.Order, now time.Time) ([]byte, error)
}

// Options of the function.
type Options struct {
	Authority Authority
	// RootCA, in PEM, signs the certificates of the API server.
	RootCA string
}

// Function returns the function. It hears of roles and bindings, too, since they may allow what was asked for before.
func Function(o Options) consumer.Function {
	f := function{o}
	return consumer.Function{Name: "certificates", Groups: []string{kubestorage.ObjectsGroup, kubestorage.ConfigGroup}, Handle: f.handle}
}

type function struct{ Options }

// touched collects the subjects of a batch.
type touched struct {
	*consumer.Batch
	function
	requests, podRequests consumer.Set
	// bundles is set when the trust bundles are to be looked at, rights when what somebody may do has changed.
	bundles, rights bool
}

func (f function) handle(ctx context.Context, b *consumer.Batch) error {
	t := &touched{Batch: b, function: f, requests: consumer.Set{}, podRequests: consumer.Set{}}
	err := b.Gather(t.everything, t.change, func(l plan.Later) {
		switch l.Subject.Resource {
		case plan.SigningRequests:
			t.requests.Add("", l.Subject.Name)
		case plan.PodCertificateRequests:
			t.podRequests.Add(l.Subject.Namespace, l.Subject.Name)
		case plan.TrustBundles:
			t.bundles = true
		}
	})
	if err != nil {
		return err
	}
	if t.rights {
		if err := t.recognized(); err != nil {
			return err
		}
	}
	if err := consumer.Each(ctx, t.requests.Sorted(), t.decideRequest); err != nil {
		return err
	}
	if err := consumer.Each(ctx, t.podRequests.Sorted(), t.cleanPod); err != nil {
		return err
	}
	if t.bundles {
		return t.publish(ctx)
	}
	return nil
}

func (t *touched) everything() error {
	t.bundles = true
	if err := consumer.AddAll[*certificatesv1.CertificateSigningRequest](t.Snapshot, requests, t.requests); err != nil {
		return err
	}
	return consumer.AddAll[*certificatesv1.PodCertificateRequest](t.Snapshot, podRequests, t.podRequests)
}

func (t *touched) change(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	switch {
	case gr == requests:
		t.requests.Add("", name)
	case gr == podRequests:
		t.podRequests.Add(namespace, name)
	case gr == bundles:
		t.bundles = true
	case gr.Group == rbacv1.GroupName:
		t.rights = true
	}
	return nil
}

// recognized adds the requests that wait for their users to be allowed to make them.
func (t *touched) recognized() error {
	return consumer.AddMatching(t.Snapshot, requests, "", t.requests, func(csr *certificatesv1.CertificateSigningRequest) bool {
		return len(certificates.Recognize(csr)) > 0
	})
}

// decideRequest approves, signs and removes a request.
func (t *touched) decideRequest(ctx context.Context, n consumer.Named) error {
	for _, decide := range []func(context.Context, *certificatesv1.CertificateSigningRequest) (plan.Plan, error){t.approve, t.sign, t.clean} {
		var of plan.Ref
		var since time.Time
		out, err := t.Decide(ctx, controller, func(s *consumer.Snapshot) (plan.Plan, error) {
			csr, ok, err := consumer.Get[*certificatesv1.CertificateSigningRequest](s, requests, "", n.Name)
			if err != nil || !ok {
				return plan.Plan{}, err
			}
			of, since = certificates.Ref(csr), csr.CreationTimestamp.Time
			return decide(ctx, csr)
		})
		if err != nil {
			return err
		}
		if out.Refused != nil {
			t.Later(consumer.TryAgain(of, t.Now, since, maxPause))
		}
	}
	return nil
}

// approve asks whether the user of a recognized request may make it (sarApprover.handle,
// pkg/controller/certificates/approver/sarapprove.go).
func (t *touched) approve(ctx context.Context, csr *certificatesv1.CertificateSigningRequest) (plan.Plan, error) {
	for _, as := range certificates.Recognize(csr) {
		allowed, err := t.Review(ctx, controller, question(csr, as))
		switch {
		case err != nil && (ctx.Err() != nil || planclient.Malfunction(err)):
			return plan.Plan{}, err
		case err != nil:
			return t.again(ctx, csr, err), nil
		}
		if allowed {
			return certificates.Approve(csr, as), nil
		}
	}
	return plan.Plan{}, nil
}

func question(csr *certificatesv1.CertificateSigningRequest, as certificates.Recognition) authorizationv1.SubjectAccessReviewSpec {
	extra := make(map[string]authorizationv1.ExtraValue, len(csr.Spec.Extra))
	for k, v := range csr.Spec.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	return authorizationv1.SubjectAccessReviewSpec{
		User: csr.Spec.Username, UID: csr.Spec.UID, Groups: csr.Spec.Groups, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: requests.Group, Version: "*", Resource: requests.Resource, Subresource: as.Subresource, Verb: "create",
		},
	}
}

// again puts off what could not be done about a request: it keeps nobody else from being served.
func (t *touched) again(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, err error) plan.Plan {
	slog.WarnContext(ctx, "cannot serve a request for a certificate", "cluster", t.Name, "request", csr.Name, "error", err)
	return plan.Plan{Later: []plan.Later{consumer.TryAgain(certificates.Ref(csr), t.Now, csr.CreationTimestamp.Time, maxPause)}}
}

// sign has a certificate signed. One that cannot be signed, since the CA has expired, is tried again later.
func (t *touched) sign(ctx context.Context, csr *certificatesv1.CertificateSigningRequest) (plan.Plan, error) {
	order, p := certificates.Sign(csr, t.Now)
	if order == nil {
		return p, nil
	}
	certificate, err := t.Authority.Sign(*order, t.Now)
	if err != nil {
		return t.again(ctx, csr, err), nil
	}
	return certificates.Issue(csr, certificate), nil
}

func (t *touched) clean(_ context.Context, csr *certificatesv1.CertificateSigningRequest) (plan.Plan, error) {
	return certificates.Clean(csr, t.Now), nil
}

func (t *touched) cleanPod(ctx context.Context, n consumer.Named) error {
	return consumer.Step[*certificatesv1.PodCertificateRequest]{
		Load: func(s *consumer.Snapshot) (*certificatesv1.PodCertificateRequest, bool, error) {
			return consumer.Get[*certificatesv1.PodCertificateRequest](s, podRequests, n.Namespace, n.Name)
		},
		Decide: func(pcr *certificatesv1.PodCertificateRequest) plan.Plan { return certificates.CleanPod(pcr, t.Now) },
		Again: func(pcr *certificatesv1.PodCertificateRequest) plan.Later {
			return consumer.Refusal(plan.PodCertificateRequests, pcr, t.Now, pcr.CreationTimestamp.Time)
		},
	}.Take(ctx, t.Batch, podCleaner)
}

func (t *touched) publish(ctx context.Context) error {
	return consumer.Step[[]*certificatesv1.ClusterTrustBundle]{
		Load: func(s *consumer.Snapshot) ([]*certificatesv1.ClusterTrustBundle, bool, error) {
			all, err := consumer.List[*certificatesv1.ClusterTrustBundle](s, bundles, "")
			return all, err == nil, err
		},
		Decide: func(all []*certificatesv1.ClusterTrustBundle) plan.Plan {
			return certificates.PublishBundle(all, t.RootCA)
		},
		Again: func([]*certificatesv1.ClusterTrustBundle) plan.Later {
			return consumer.Refusal(plan.TrustBundles, certificates.ServingBundle(t.RootCA), t.Now, time.Time{})
		},
	}.Take(ctx, t.Batch, bundlePublisher)
}
