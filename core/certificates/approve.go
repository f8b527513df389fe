package certificates

import (
	"crypto/x509"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/kubernetes/pkg/apis/certificates"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Recognition is a kind of request that is approved if its user may make such requests.
type Recognition struct {
	// Subresource of certificatesigningrequests that the user must be allowed to create.
	Subresource string
	message     string
}

// The kinds that are recognized, the narrower first (recognizers, approver/sarapprove.go).
var (
	selfNodeClient = Recognition{"selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."}
	nodeClient     = Recognition{"nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."}
)

// Recognize returns what a request is recognized as, in the order in which it is to be asked whether its user may make it: none
// when the request is decided already, or is not of a kubelet's client certificate (sarApprover.handle,
// approver/sarapprove.go).
func Recognize(csr *certificatesv1.CertificateSigningRequest) []Recognition {
	if len(csr.Status.Certificate) > 0 || has(csr, certificatesv1.CertificateApproved) || has(csr, certificatesv1.CertificateDenied) ||
		csr.Spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName {
		return nil
	}
	request, err := certificates.ParseCSR(csr.Spec.Request)
	if err != nil || !certificates.IsKubeletClientCSR(request, usages(csr)) {
		return nil
	}
	if isOwn(csr, request) {
		return []Recognition{selfNodeClient, nodeClient}
	}
	return []Recognition{nodeClient}
}

// isOwn reports whether a node asks for itself (isSelfNodeClientCert, approver/sarapprove.go).
func isOwn(csr *certificatesv1.CertificateSigningRequest, request *x509.CertificateRequest) bool {
	return csr.Spec.Username == request.Subject.CommonName
}

// Approve approves a request that is recognized and whose user may make it (appendApprovalCondition, approver/sarapprove.go). The
// API says when.
func Approve(csr *certificatesv1.CertificateSigningRequest, as Recognition) plan.Plan {
	approved := csr.DeepCopy()
	approved.Status.Conditions = append(approved.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "AutoApproved", Message: as.message,
	})
	return plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.Update, Resource: plan.SigningRequests, Name: csr.Name, Subresource: "approval", Object: approved,
			Reason: "its user may make such requests",
		}},
		Reads: []plan.Read{readOf(Ref(csr))},
	}
}

// Ref names a request.
func Ref(csr *certificatesv1.CertificateSigningRequest) plan.Ref {
	return plan.Ref{Resource: plan.SigningRequests, Name: csr.Name, UID: csr.UID}
}

func has(csr *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) bool {
	for _, c := range csr.Status.Conditions {
		if c.Type == t {
			return true
		}
	}
	return false
}

func usages(csr *certificatesv1.CertificateSigningRequest) sets.String { //nolint:staticcheck // what upstream's checks take
	out := sets.NewString()
	for _, u := range csr.Spec.Usages {
		out.Insert(string(u))
	}
	return out
}
