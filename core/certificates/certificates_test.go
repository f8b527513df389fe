package certificates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

var (
	noon    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	kubelet = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	serving = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}
)

// asks is a request of somebody for a certificate of a subject, created at noon.
func asks(t *testing.T, signer, name string, usages []certificatesv1.KeyUsage, alter ...func(*x509.CertificateRequest)) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name, Organization: []string{"system:nodes"}}}
	for _, change := range alter {
		change(template)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "csr", UID: "uid", ResourceVersion: "7", CreationTimestamp: metav1.NewTime(noon)},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: signer, Usages: usages, Username: "someone",
		},
	}
}

func with(csr *certificatesv1.CertificateSigningRequest, types ...certificatesv1.RequestConditionType) *certificatesv1.CertificateSigningRequest {
	csr = csr.DeepCopy()
	for _, t := range types {
		csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: t, Status: corev1.ConditionTrue, LastUpdateTime: metav1.NewTime(noon.Add(time.Minute)),
		})
	}
	return csr
}

func by(csr *certificatesv1.CertificateSigningRequest, user string) *certificatesv1.CertificateSigningRequest {
	csr = csr.DeepCopy()
	csr.Spec.Username = user
	return csr
}

// expiring is a certificate that ends at a time.
func expiring(t *testing.T, at time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: noon, NotAfter: at}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func issued(csr *certificatesv1.CertificateSigningRequest, certificate []byte) *certificatesv1.CertificateSigningRequest {
	csr = csr.DeepCopy()
	csr.Status.Certificate = certificate
	return csr
}

func TestRecognize(t *testing.T) {
	node := asks(t, certificatesv1.KubeAPIServerClientKubeletSignerName, "system:node:a", kubelet)
	for name, test := range map[string]struct {
		csr  *certificatesv1.CertificateSigningRequest
		want []string
	}{
		"a bootstrapping kubelet":  {node, []string{"nodeclient"}},
		"a node for itself":        {by(node, "system:node:a"), []string{"selfnodeclient", "nodeclient"}},
		"with the older usages":    {asks(t, certificatesv1.KubeAPIServerClientKubeletSignerName, "system:node:a", append(kubelet, certificatesv1.UsageKeyEncipherment)), []string{"nodeclient"}},
		"approved":                 {with(node, certificatesv1.CertificateApproved), nil},
		"denied":                   {with(node, certificatesv1.CertificateDenied), nil},
		"failed, but not decided":  {with(node, certificatesv1.CertificateFailed), []string{"nodeclient"}},
		"issued":                   {issued(node, []byte("x")), nil},
		"of another signer":        {asks(t, certificatesv1.KubeAPIServerClientSignerName, "system:node:a", kubelet), nil},
		"of no node":               {asks(t, certificatesv1.KubeAPIServerClientKubeletSignerName, "a", kubelet), nil},
		"to serve with":            {asks(t, certificatesv1.KubeAPIServerClientKubeletSignerName, "system:node:a", serving), nil},
		"with a name of a machine": {asks(t, certificatesv1.KubeAPIServerClientKubeletSignerName, "system:node:a", kubelet, func(r *x509.CertificateRequest) { r.DNSNames = []string{"a"} }), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, as := range Recognize(test.csr) {
				got = append(got, as.Subresource)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestApprove(t *testing.T) {
	csr := asks(t, certificatesv1.KubeAPIServerClientKubeletSignerName, "system:node:a", kubelet)
	approved := csr.DeepCopy()
	approved.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{
		Type: "Approved", Status: "True", Reason: "AutoApproved", Message: "Auto approving kubelet client certificate after SubjectAccessReview.",
	}}
	want := plan.Plan{
		Writes: []plan.Write{{Verb: plan.Update, Resource: plan.SigningRequests, Name: "csr", Subresource: "approval", Object: approved, Reason: "its user may make such requests"}},
		Reads:  []plan.Read{{Resource: plan.SigningRequests, Name: "csr"}},
	}
	if diff := cmp.Diff(want, Approve(csr, Recognize(csr)[0])); diff != "" {
		t.Error(diff)
	}
}

func TestSign(t *testing.T) {
	approved := func(signer string, usages []certificatesv1.KeyUsage, alter ...func(*x509.CertificateRequest)) *certificatesv1.CertificateSigningRequest {
		return with(asks(t, signer, "system:node:a", usages, alter...), certificatesv1.CertificateApproved)
	}
	lasting := func(seconds int32) *certificatesv1.CertificateSigningRequest {
		csr := approved(certificatesv1.KubeAPIServerClientSignerName, kubelet)
		csr.Spec.ExpirationSeconds = &seconds
		return csr
	}
	address := func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{{10, 0, 0, 1}} }
	const year = 365 * 24 * time.Hour
	for name, test := range map[string]struct {
		csr      *certificatesv1.CertificateSigningRequest
		lifetime time.Duration // of the certificate, 0 for none
		failure  string
	}{
		"a client":                        {approved(certificatesv1.KubeAPIServerClientSignerName, kubelet), year, ""},
		"a kubelet as a client":           {approved(certificatesv1.KubeAPIServerClientKubeletSignerName, kubelet), year, ""},
		"a kubelet as a server":           {approved(certificatesv1.KubeletServingSignerName, serving, address), year, ""},
		"nobody in particular":            {approved(legacyUnknown, serving), year, ""},
		"for a day":                       {lasting(86400), 24 * time.Hour, ""},
		"for no time at all":              {lasting(1), 10 * time.Minute, ""},
		"for ever":                        {lasting(1 << 30), year, ""},
		"another signer's":                {approved("example.com/signer", kubelet), 0, ""},
		"pending":                         {asks(t, certificatesv1.KubeAPIServerClientSignerName, "a", kubelet), 0, ""},
		"approved and denied":             {with(approved(certificatesv1.KubeAPIServerClientSignerName, kubelet), certificatesv1.CertificateDenied), 0, ""},
		"failed":                          {with(approved(certificatesv1.KubeAPIServerClientSignerName, kubelet), certificatesv1.CertificateFailed), 0, ""},
		"issued":                          {issued(approved(certificatesv1.KubeAPIServerClientSignerName, kubelet), []byte("x")), 0, ""},
		"a client that serves":            {approved(certificatesv1.KubeAPIServerClientSignerName, serving), 0, "invalid usage for client certificate: server auth"},
		"a client that does nothing":      {approved(certificatesv1.KubeAPIServerClientSignerName, nil), 0, "missing required usage for client certificate: client auth"},
		"a kubelet without an address":    {approved(certificatesv1.KubeletServingSignerName, serving), 0, "DNS or IP subjectAltName is required"},
		"a kubelet, a client, serving":    {approved(certificatesv1.KubeAPIServerClientKubeletSignerName, serving), 0, "usages did not match [client auth digital signature key encipherment]"},
		"a kubelet client with addresses": {approved(certificatesv1.KubeAPIServerClientKubeletSignerName, kubelet, address), 0, "IP subjectAltNames are not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			before := test.csr.DeepCopy()
			order, p := Sign(test.csr, noon)
			if diff := cmp.Diff(before, test.csr); diff != "" {
				t.Errorf("the decision altered its input: %s", diff)
			}
			if (order != nil) != (test.lifetime > 0) || order != nil && order.Lifetime != test.lifetime {
				t.Fatalf("ordered %+v", order)
			}
			if test.failure == "" {
				if !p.Empty() {
					t.Errorf("plan %+v", p)
				}
				return
			}
			after := test.csr.DeepCopy()
			after.Status.Conditions = append(after.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
				Type: "Failed", Status: "True", Reason: "SignerValidationFailure", Message: test.failure, LastUpdateTime: metav1.NewTime(noon),
			})
			if diff := cmp.Diff([]plan.Write{{
				Verb: plan.UpdateStatus, Resource: plan.SigningRequests, Name: "csr", Object: after, Reason: "it does not ask for what its signer gives",
			}}, p.Writes); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestClean(t *testing.T) {
	csr := asks(t, certificatesv1.KubeAPIServerClientSignerName, "a", kubelet)
	decided := noon.Add(time.Minute) // as with says
	soon, late := expiring(t, decided.Add(10*time.Minute)), expiring(t, decided.Add(24*time.Hour))
	undated := with(csr, certificatesv1.CertificateDenied)
	undated.Status.Conditions[0].LastUpdateTime = metav1.Time{}
	for name, test := range map[string]struct {
		csr *certificatesv1.CertificateSigningRequest
		end time.Time // zero for never
	}{
		"pending":                    {csr, noon.Add(24 * time.Hour)},
		"approved":                   {with(csr, certificatesv1.CertificateApproved), decided.Add(24 * time.Hour)},
		"issued":                     {issued(with(csr, certificatesv1.CertificateApproved), late), decided.Add(time.Hour)},
		"issued for a short time":    {issued(with(csr, certificatesv1.CertificateApproved), soon), decided.Add(10 * time.Minute)},
		"issued, unreadable":         {issued(with(csr, certificatesv1.CertificateApproved), []byte("x")), decided.Add(time.Hour)},
		"denied":                     {with(csr, certificatesv1.CertificateDenied), decided.Add(time.Hour)},
		"failed":                     {with(csr, certificatesv1.CertificateFailed), decided.Add(time.Hour)},
		"approved, then failed":      {with(csr, certificatesv1.CertificateApproved, certificatesv1.CertificateFailed), decided.Add(time.Hour)},
		"denied nobody knows when":   {undated, time.Time{}},
		"a condition of another one": {with(csr, "Noticed"), time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			if test.end.IsZero() {
				if p := Clean(test.csr, noon.Add(1000*time.Hour)); !p.Empty() {
					t.Errorf("%+v", p)
				}
				return
			}
			wait := plan.Plan{Later: []plan.Later{{At: test.end, Subject: plan.Ref{Resource: plan.SigningRequests, Name: "csr", UID: "uid"}, Kind: "cleanup"}}}
			remove := plan.Plan{
				Writes: []plan.Write{{Verb: plan.Delete, Resource: plan.SigningRequests, Name: "csr", UID: "uid", ResourceVersion: "7", Reason: "its time is over"}},
				Reads:  []plan.Read{{Resource: plan.SigningRequests, Name: "csr"}},
			}
			if diff := cmp.Diff(wait, Clean(test.csr, test.end.Add(-time.Second))); diff != "" {
				t.Errorf("before: %s", diff)
			}
			if diff := cmp.Diff(remove, Clean(test.csr, test.end)); diff != "" {
				t.Errorf("after: %s", diff)
			}
		})
	}
}

func TestRequestsForPodsGoAfterAQuarterOfAnHour(t *testing.T) {
	pcr := &certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ns", Name: "pcr", UID: "uid", ResourceVersion: "7", CreationTimestamp: metav1.NewTime(noon),
	}}
	end := noon.Add(15 * time.Minute)
	if p := CleanPod(pcr, end.Add(-time.Second)); len(p.Writes) > 0 || len(p.Later) != 1 || !p.Later[0].At.Equal(end) || p.Later[0].Subject.Namespace != "ns" {
		t.Errorf("before: %+v", p)
	}
	if p := CleanPod(pcr, end); len(p.Later) > 0 || len(p.Writes) != 1 || p.Writes[0].Verb != plan.Delete || p.Writes[0].Namespace != "ns" || p.Writes[0].UID != "uid" {
		t.Errorf("after: %+v", p)
	}
}

func TestPublishBundle(t *testing.T) {
	bundle := func(name, signer, ca string) *certificatesv1.ClusterTrustBundle {
		return &certificatesv1.ClusterTrustBundle{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: "uid", ResourceVersion: "7"},
			Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: ca},
		}
	}
	current := ServingBundle("ca").Name
	for name, test := range map[string]struct {
		ca       string
		existing []*certificatesv1.ClusterTrustBundle
		want     []string // verbs and names
	}{
		"none":                  {"ca", nil, []string{"create " + current}},
		"as it should be":       {"ca", []*certificatesv1.ClusterTrustBundle{bundle(current, ServingSigner, "ca")}, nil},
		"altered":               {"ca", []*certificatesv1.ClusterTrustBundle{bundle(current, ServingSigner, "other")}, []string{"update " + current}},
		"the one of another CA": {"ca", []*certificatesv1.ClusterTrustBundle{bundle("old", ServingSigner, "old")}, []string{"create " + current, "delete old"}},
		"another signer's":      {"ca", []*certificatesv1.ClusterTrustBundle{bundle("x", "example.com/x", "x"), bundle(current, ServingSigner, "ca")}, nil},
		"nobody knows the CA":   {"", []*certificatesv1.ClusterTrustBundle{bundle("old", ServingSigner, "old")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := PublishBundle(test.existing, test.ca)
			var got []string
			for _, w := range p.Writes {
				got = append(got, string(w.Verb)+" "+w.Name)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
