package certificates

import (
	"crypto/sha256"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// ServingSigner is the signer whose trust bundle is the CA of the API server
// (newKubeAPIServerSignerClusterTrustBundledPublisherController, cmd/kube-controller-manager/app/certificates.go).
const ServingSigner = "kubernetes.io/kube-apiserver-serving"

// bundleHash is how many bytes of a bundle's hash are in its name.
const bundleHash = 12

// ServingBundle is the ClusterTrustBundle of a CA, in PEM, that signs the API server's certificates
// (constructBundleName, clustertrustbundlepublisher/publisher.go).
func ServingBundle(ca string) *certificatesv1.ClusterTrustBundle {
	sum := sha256.Sum256([]byte(ca))
	return &certificatesv1.ClusterTrustBundle{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s:%x", strings.ReplaceAll(ServingSigner, "/", ":"), sum[:bundleHash])},
		Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: ServingSigner, TrustBundle: ca},
	}
}

// PublishBundle has the CA of the API server, in PEM, be the signer's only bundle: it is created or repaired, and others go
// (syncClusterTrustBundle, clustertrustbundlepublisher/publisher.go). existing are all bundles. Without a CA nothing is published.
func PublishBundle(existing []*certificatesv1.ClusterTrustBundle, ca string) plan.Plan {
	if ca == "" {
		return plan.Plan{}
	}
	var p plan.Plan
	want := ServingBundle(ca)
	found := false
	var others []plan.Write
	for _, bundle := range existing {
		switch {
		case bundle.Spec.SignerName != ServingSigner:
		case bundle.Name != want.Name:
			others = append(others, plan.Write{
				Verb: plan.Delete, Resource: plan.TrustBundles, Name: bundle.Name, UID: bundle.UID, ResourceVersion: bundle.ResourceVersion,
				Reason: "its signer has another CA",
			})
		default:
			found = true
			if bundle.Spec.TrustBundle != ca {
				repaired := bundle.DeepCopy()
				repaired.Spec.TrustBundle = ca
				p.Writes = append(p.Writes, plan.Write{
					Verb: plan.Update, Resource: plan.TrustBundles, Name: want.Name, Object: repaired, Reason: "it was altered",
				})
			}
		}
	}
	if !found {
		p.Writes = append(p.Writes, plan.Write{
			Verb: plan.Create, Resource: plan.TrustBundles, Name: want.Name, Object: want, Reason: "the API server's CA is published",
		})
	}
	if p.Writes = append(p.Writes, others...); len(p.Writes) > 0 {
		p.Reads = []plan.Read{{Resource: plan.TrustBundles}}
	}
	return p
}
