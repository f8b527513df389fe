package accounttokens

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Content is what a Secret of a token is filled with.
type Content struct {
	// RootCA, in PEM, signs the certificates of the API server; empty if it is not known.
	RootCA string
	// Token was signed for a Secret that needs one.
	Token string
}

// NeedsToken reports whether a token must be signed for a Secret before it is filled (secretUpdateNeeded, tokens_controller.go).
func NeedsToken(secret *corev1.Secret) bool {
	return len(secret.Data[corev1.ServiceAccountTokenKey]) == 0
}

// Fill gives a Secret what it lacks: token, namespace, the CA, and by annotations the account, which is the one that it names
// (generateTokenIfNeeded, tokens_controller.go).
func Fill(secret *corev1.Secret, account *corev1.ServiceAccount, with Content) plan.Plan {
	needsToken := NeedsToken(secret)
	needsNamespace := len(secret.Data[corev1.ServiceAccountNamespaceKey]) == 0
	needsCA := with.RootCA != "" && string(secret.Data[corev1.ServiceAccountRootCAKey]) != with.RootCA
	if !needsToken && !needsNamespace && !needsCA {
		return plan.Plan{}
	}
	filled := secret.DeepCopy()
	if filled.Annotations == nil {
		filled.Annotations = map[string]string{}
	}
	if filled.Data == nil {
		filled.Data = map[string][]byte{}
	}
	if needsCA {
		filled.Data[corev1.ServiceAccountRootCAKey] = []byte(with.RootCA)
	}
	if needsNamespace {
		filled.Data[corev1.ServiceAccountNamespaceKey] = []byte(secret.Namespace)
	}
	if needsToken {
		filled.Data[corev1.ServiceAccountTokenKey] = []byte(with.Token)
	}
	filled.Annotations[corev1.ServiceAccountNameKey] = account.Name
	filled.Annotations[corev1.ServiceAccountUIDKey] = string(account.UID)
	return plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.Update, Resource: plan.Secrets, Namespace: secret.Namespace, Name: secret.Name, Object: filled,
			Reason: "it lacks what a ServiceAccount's token consists of",
		}},
		Reads: []plan.Read{readSecret(secret), readAccount(account.Namespace, account.Name)},
	}
}
