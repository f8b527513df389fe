package bootstraptokens

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/cluster-bootstrap/util/secrets"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Expiry is the kind of what a token waits for until it goes.
const Expiry = "expiry"

// Clean removes a token that has expired, or whose expiration cannot be read, or asks to be called when it will have
// (evalSecret, tokencleaner.go).
func Clean(secret *corev1.Secret, now time.Time) plan.Plan {
	left, expired := secrets.GetExpiration(secret, now)
	switch {
	case expired:
		return plan.Plan{
			Writes: []plan.Write{{
				Verb: plan.Delete, Resource: plan.Secrets, Namespace: secret.Namespace, Name: secret.Name, UID: secret.UID,
				Reason: "the bootstrap token has expired",
			}},
			Reads: []plan.Read{{Resource: plan.Secrets, Namespace: secret.Namespace, Name: secret.Name}},
		}
	case left > 0:
		return plan.Plan{Later: []plan.Later{{At: now.Add(left), Subject: Ref(secret), Kind: Expiry}}}
	default:
		return plan.Plan{}
	}
}
