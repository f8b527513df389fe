package certificates

import (
	"crypto/x509"
	"encoding/pem"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// How long a request is kept in each state (cleaner/cleaner.go).
const (
	keepIssued  = time.Hour
	keepDenied  = time.Hour
	keepFailed  = time.Hour
	keepPending = 24 * time.Hour
)

// keepPodRequest is how long a request for a pod's certificate is kept (newPodCertificateRequestCleanerController,
// cmd/kube-controller-manager/app/certificates.go).
const keepPodRequest = 15 * time.Minute

// CleanUp is the kind of what a request waits for until it goes.
const CleanUp = "cleanup"

// Clean removes a request whose time is over, or asks to be called when it will be (CSRCleanerController.handle,
// cleaner/cleaner.go).
func Clean(csr *certificatesv1.CertificateSigningRequest, now time.Time) plan.Plan {
	end := endOf(csr)
	if end.IsZero() {
		return plan.Plan{}
	}
	return removeAt(Ref(csr), csr.ResourceVersion, end, now)
}

// CleanPod is Clean for a request for a pod's certificate (PCRCleanerController.handle, cleaner/pcrcleaner.go).
func CleanPod(pcr *certificatesv1.PodCertificateRequest, now time.Time) plan.Plan {
	ref := plan.Ref{Resource: plan.PodCertificateRequests, Namespace: pcr.Namespace, Name: pcr.Name, UID: pcr.UID}
	return removeAt(ref, pcr.ResourceVersion, pcr.CreationTimestamp.Add(keepPodRequest), now)
}

func removeAt(of plan.Ref, version string, end, now time.Time) plan.Plan {
	if now.Before(end) {
		return plan.Plan{Later: []plan.Later{{At: end, Subject: of, Kind: CleanUp}}}
	}
	return plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.Delete, Resource: of.Resource, Namespace: of.Namespace, Name: of.Name, UID: of.UID, ResourceVersion: version,
			Reason: "its time is over",
		}},
		Reads: []plan.Read{readOf(of)},
	}
}

// endOf is when a request goes, zero for never.
func endOf(csr *certificatesv1.CertificateSigningRequest) time.Time {
	var end time.Time
	until := func(t time.Time) {
		if end.IsZero() || t.Before(end) {
			end = t
		}
	}
	after := func(since metav1.Time, kept time.Duration) {
		if !since.IsZero() {
			until(since.Add(kept))
		}
	}
	if len(csr.Status.Conditions) == 0 {
		after(csr.CreationTimestamp, keepPending)
	}
	for _, c := range csr.Status.Conditions {
		switch {
		case c.Type == certificatesv1.CertificateDenied:
			after(c.LastUpdateTime, keepDenied)
		case c.Type == certificatesv1.CertificateFailed:
			after(c.LastUpdateTime, keepFailed)
		case c.Type == certificatesv1.CertificateApproved && len(csr.Status.Certificate) == 0:
			after(c.LastUpdateTime, keepPending)
		case c.Type == certificatesv1.CertificateApproved:
			after(c.LastUpdateTime, keepIssued)
			if expiry, ok := expiryOf(csr.Status.Certificate); ok {
				until(expiry)
			}
		}
	}
	return end
}

// expiryOf returns when the first of some certificates expires, if it can be read (isExpired, cleaner/cleaner.go).
func expiryOf(certificate []byte) (time.Time, bool) {
	block, _ := pem.Decode(certificate)
	if block == nil {
		return time.Time{}, false
	}
	all, err := x509.ParseCertificates(block.Bytes)
	if err != nil || len(all) == 0 {
		return time.Time{}, false
	}
	return all[0].NotAfter, true
}
