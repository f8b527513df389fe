package certificates

import (
	"crypto/x509"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/apis/certificates"

	"github.com/zeroplane/zeroplane/core/plan"
)

// legacyUnknown is the signer of requests made before signers had names (certificates/v1beta1 LegacyUnknownSignerName).
const legacyUnknown = "kubernetes.io/legacy-unknown"

const (
	// maxLifetime of a certificate, the default of kube-controller-manager's --cluster-signing-duration.
	maxLifetime = 365 * 24 * time.Hour
	// minLifetime of a certificate, twice Backdate (signer.duration, signer/signer.go).
	minLifetime = 10 * time.Minute

	// Backdate is how long before it was signed a certificate begins, for those whose clocks are late (signer.sign, signer/signer.go).
	Backdate = 5 * time.Minute
	// ShortLifetime is the lifetime below which a certificate does not end earlier because it begins earlier.
	ShortLifetime = 8 * time.Hour
)

// Order is a certificate to be signed by the cluster's CA.
type Order struct {
	// Request is what is asked for, in DER.
	Request []byte
	Usages  []certificatesv1.KeyUsage
	// Lifetime from when it is signed; the CA's end is the end of the certificate at the latest.
	Lifetime time.Duration
}

// Sign returns the certificate to be signed for a request, or the plan that says why it cannot have one. Both are empty when the
// request is not approved, has failed or has its certificate, or is another signer's (signer.handle, signer/signer.go).
func Sign(csr *certificatesv1.CertificateSigningRequest, now time.Time) (*Order, plan.Plan) {
	if len(csr.Status.Certificate) > 0 || !has(csr, certificatesv1.CertificateApproved) || has(csr, certificatesv1.CertificateDenied) || failed(csr) {
		return nil, plan.Plan{}
	}
	validate := validator(csr.Spec.SignerName)
	if validate == nil {
		return nil, plan.Plan{}
	}
	request, err := certificates.ParseCSR(csr.Spec.Request)
	if err != nil {
		return nil, plan.Plan{}
	}
	if err := validate(request, csr); err != nil {
		return nil, fail(csr, err, now)
	}
	return &Order{Request: request.Raw, Usages: csr.Spec.Usages, Lifetime: lifetime(csr.Spec.ExpirationSeconds)}, plan.Plan{}
}

// failed reports whether a request has failed (certificates.HasTrueCondition, certificate_controller_utils.go).
func failed(csr *certificatesv1.CertificateSigningRequest) bool {
	for _, c := range csr.Status.Conditions {
		if c.Type == certificatesv1.CertificateFailed && (c.Status == "" || c.Status == corev1.ConditionTrue) {
			return true
		}
	}
	return false
}

// validator returns what a signer asks of its requests, nil for the signers of others (getCSRVerificationFuncForSignerName,
// signer/signer.go).
func validator(signer string) func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequest) error {
	switch signer {
	case certificatesv1.KubeletServingSignerName:
		return func(r *x509.CertificateRequest, csr *certificatesv1.CertificateSigningRequest) error {
			return certificates.ValidateKubeletServingCSR(r, usages(csr))
		}
	case certificatesv1.KubeAPIServerClientKubeletSignerName:
		return func(r *x509.CertificateRequest, csr *certificatesv1.CertificateSigningRequest) error {
			return certificates.ValidateKubeletClientCSR(r, usages(csr))
		}
	case certificatesv1.KubeAPIServerClientSignerName:
		return func(_ *x509.CertificateRequest, csr *certificatesv1.CertificateSigningRequest) error {
			return validateClient(csr.Spec.Usages)
		}
	case legacyUnknown:
		return func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequest) error { return nil }
	default:
		return nil
	}
}

// validateClient checks the usages of a client of the API (validAPIServerClientUsages, signer/signer.go).
func validateClient(usages []certificatesv1.KeyUsage) error {
	client := false
	for _, u := range usages {
		switch u {
		case certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment:
		case certificatesv1.UsageClientAuth:
			client = true
		default:
			return fmt.Errorf("invalid usage for client certificate: %s", u)
		}
	}
	if !client {
		return fmt.Errorf("missing required usage for client certificate: %s", certificatesv1.UsageClientAuth)
	}
	return nil
}

// lifetime is how long a certificate is good for, given what was asked for (signer.duration, signer/signer.go).
func lifetime(seconds *int32) time.Duration {
	if seconds == nil {
		return maxLifetime
	}
	return min(max(time.Duration(*seconds)*time.Second, minLifetime), maxLifetime)
}

func fail(csr *certificatesv1.CertificateSigningRequest, why error, now time.Time) plan.Plan {
	failed := csr.DeepCopy()
	failed.Status.Conditions = append(failed.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue, Reason: "SignerValidationFailure", Message: why.Error(),
		LastUpdateTime: metav1.NewTime(now),
	})
	return status(csr, failed, "it does not ask for what its signer gives")
}

// Issue gives a request its certificate, in PEM (signer.handle, signer/signer.go).
func Issue(csr *certificatesv1.CertificateSigningRequest, certificate []byte) plan.Plan {
	issued := csr.DeepCopy()
	issued.Status.Certificate = certificate
	return status(csr, issued, "it is approved")
}

func status(csr, after *certificatesv1.CertificateSigningRequest, reason string) plan.Plan {
	return plan.Plan{
		Writes: []plan.Write{{Verb: plan.UpdateStatus, Resource: plan.SigningRequests, Name: csr.Name, Object: after, Reason: reason}},
		Reads:  []plan.Read{readOf(Ref(csr))},
	}
}
