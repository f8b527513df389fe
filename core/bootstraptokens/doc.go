// Package bootstraptokens decides what becomes of bootstrap tokens, by which machines join a cluster: the Secrets of kube-system of
// type bootstrap.kubernetes.io/token.
//
//   - what is signed with them: the ConfigMap cluster-info of kube-public, which a machine that knows a token checks before it
//     trusts it: [SignClusterInfo];
//   - when they go: [Clean].
//
// Upstream: pkg/controller/bootstrap of k8s.io/kubernetes v1.37.2. kube-controller-manager leaves both controllers off unless it is
// asked for them, as kubeadm does; here they are on.
//
// # Differences from upstream
//
// What the API refuses is tried again; upstream waits for the next change of a token.
package bootstraptokens

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Where the tokens and what they sign are (DefaultSignerOptions, bootstrapsigner.go).
const (
	Namespace            = metav1.NamespaceSystem
	ClusterInfoNamespace = metav1.NamespacePublic
	ClusterInfo          = bootstrapapi.ConfigMapClusterInfo
)

// Is reports whether a Secret is a bootstrap token.
func Is(secret *corev1.Secret) bool {
	return secret.Namespace == Namespace && secret.Type == corev1.SecretType(bootstrapapi.SecretTypeBootstrapToken)
}

// Ref names a Secret.
func Ref(secret *corev1.Secret) plan.Ref {
	return plan.Ref{Resource: plan.Secrets, Namespace: secret.Namespace, Name: secret.Name, UID: secret.UID}
}
