package accounttokens

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Remove removes a Secret whose account is gone (deleteToken, tokens_controller.go).
func Remove(secret *corev1.Secret, gone Account) plan.Plan {
	return plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.Delete, Resource: plan.Secrets, Namespace: secret.Namespace, Name: secret.Name, UID: secret.UID,
			Reason: "the ServiceAccount of its token is gone",
		}},
		Reads: []plan.Read{readSecret(secret), readAccount(gone.Namespace, gone.Name)},
	}
}

// Concerns reports whether a Secret holds a token of an account that there was (listTokenSecrets, tokens_controller.go).
func Concerns(secret *corev1.Secret, account *corev1.ServiceAccount) bool {
	return secret.Namespace == account.Namespace && serviceaccount.IsServiceAccountToken(secret, account)
}

// Forget takes a Secret that is gone out of those that its account lists (removeSecretReference, tokens_controller.go).
func Forget(account *corev1.ServiceAccount, secret string) plan.Plan {
	if !references(account, secret) {
		return plan.Plan{}
	}
	without := account.DeepCopy()
	without.Secrets = []corev1.ObjectReference{}
	for _, ref := range account.Secrets {
		if ref.Name != secret {
			without.Secrets = append(without.Secrets, ref)
		}
	}
	return plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.Update, Resource: plan.ServiceAccounts, Namespace: account.Namespace, Name: account.Name, Object: without,
			Reason: "it lists the Secret of a token that is gone",
		}},
		Reads: []plan.Read{{Resource: plan.ServiceAccounts, Namespace: account.Namespace, Name: account.Name}},
	}
}
