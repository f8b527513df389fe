// Package accounttokens decides what becomes of Secrets that hold a token of a ServiceAccount for good: those of type
// kubernetes.io/service-account-token, which users make, and which Kubernetes made for every account until version 1.24.
//
//	fill.go     token, namespace and CA of a Secret whose account there is
//	remove.go   Secrets whose account is gone, references to Secrets that are gone
//	retire.go   tokens that Kubernetes made and nobody uses: they are invalidated, and removed later
//	tracking.go since when uses of tokens are noted
//
// Upstream: pkg/controller/serviceaccount/tokens_controller.go and legacy_serviceaccount_token_cleaner.go, and
// pkg/controlplane/controller/legacytokentracking, of k8s.io/kubernetes v1.37.2. That a token was used is noted by the API's authenticator.
//
// # Differences from upstream
//
// Upstream looks for unused tokens once a day. Here each token that Kubernetes made has a moment at which it will have been
// unused for long enough, and is looked at then: at the earliest a day after something about it has changed, so that whoever takes
// the mark of an invalid token off has the time to use it that upstream gives. A token that pods mount by then is looked at once a day.
//
// The ConfigMap of tracking is made anew at once where it is deleted; upstream lets half an hour pass between two.
package accounttokens

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Account is whose token a Secret holds.
type Account struct {
	Namespace, Name string
	// UID is empty while the Secret does not say which of all that had, or will have, the name.
	UID types.UID
}

// Of returns whose token a Secret holds. It is not ok for a Secret of another type, or one that names nobody
// (makeSecretQueueKey, parseSecretQueueKey, tokens_controller.go).
func Of(secret *corev1.Secret) (account Account, ok bool) {
	account = Account{
		Namespace: secret.Namespace, Name: secret.Annotations[corev1.ServiceAccountNameKey],
		UID: types.UID(secret.Annotations[corev1.ServiceAccountUIDKey]),
	}
	return account, secret.Type == corev1.SecretTypeServiceAccountToken && account.Name != ""
}

// Is reports whether a ServiceAccount, nil if there is none, is the one (getServiceAccount, tokens_controller.go).
func (a Account) Is(sa *corev1.ServiceAccount) bool {
	return sa != nil && sa.Namespace == a.Namespace && sa.Name == a.Name && (a.UID == "" || a.UID == sa.UID)
}

// Ref names a Secret.
func Ref(secret *corev1.Secret) plan.Ref {
	return plan.Ref{Resource: plan.Secrets, Namespace: secret.Namespace, Name: secret.Name, UID: secret.UID}
}

func readSecret(secret *corev1.Secret) plan.Read {
	return plan.Read{Resource: plan.Secrets, Namespace: secret.Namespace, Name: secret.Name}
}

// readAccount has the account, which lies in another log than Secrets, be looked at once more.
func readAccount(namespace, name string) plan.Read {
	return plan.Read{Resource: plan.ServiceAccounts, Namespace: namespace, Name: name, Again: true}
}

func references(sa *corev1.ServiceAccount, secret string) bool {
	for _, ref := range sa.Secrets {
		if ref.Name == secret {
			return true
		}
	}
	return false
}
