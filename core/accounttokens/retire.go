package accounttokens

import (
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

// The labels of a Secret that say when its token was used last, and since when it is not valid any more
// (pkg/serviceaccount/legacy.go).
const (
	lastUsedLabel     = "kubernetes.io/legacy-token-last-used"
	invalidSinceLabel = "kubernetes.io/legacy-token-invalid-since"
)

const (
	// unusedFor is how long a token must not have been used before it is invalidated, and then before it is removed
	// (RecommendedDefaultLegacySATokenCleanerConfiguration, config/v1alpha1/defaults.go).
	unusedFor = 365 * 24 * time.Hour
	// interval is how often upstream looks (DefaultCleanerSyncInterval, legacy_serviceaccount_token_cleaner.go).
	interval = 24 * time.Hour
)

// Look is the kind of what a token waits for until it is looked at.
const Look = "look"

// Legacy is a token that Kubernetes may have made, and what decides whether it is used.
type Legacy struct {
	Secret *corev1.Secret
	// Owner is the account that the Secret names, nil if there is none.
	Owner *corev1.ServiceAccount
	// TrackedSince is since when uses are noted.
	TrackedSince time.Time
	// Mounted is set when a pod of the namespace refers to the Secret.
	Mounted bool
}

// retirement is when a token may be invalidated, or removed if it is invalid. It is not ok for one that Kubernetes has not made, or
// of which it cannot be told when it was used. Dates are of days that have to be over.
func (l Legacy) retirement() (at time.Time, ok bool) {
	account, ok := Of(l.Secret)
	if !ok || l.Secret.DeletionTimestamp != nil || !account.Is(l.Owner) || !references(l.Owner, l.Secret.Name) {
		return time.Time{}, false
	}
	// Times of creation are of whole seconds, and what is as old as that is not older.
	at = later(l.TrackedSince, l.Secret.CreationTimestamp.Add(time.Second))
	if label, used := l.Secret.Labels[lastUsedLabel]; used {
		day, err := time.Parse(dateFormat, label)
		if err != nil {
			return time.Time{}, false
		}
		at = later(at, dayAfter(day))
	}
	if day, err := time.Parse(dateFormat, l.Secret.Labels[invalidSinceLabel]); err == nil {
		at = later(at, dayAfter(day))
	}
	return at.Add(unusedFor), true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// NextLook is when a token is to be looked at after something about it has changed. It is not ok if time changes nothing about it.
func NextLook(l Legacy, now time.Time) (next plan.Later, ok bool) {
	at, ok := l.retirement()
	return plan.Later{At: later(at, now.Add(interval)), Subject: Ref(l.Secret), Kind: Look}, ok
}

// Ripe reports whether a token would be retired, if no pod mounts it.
func Ripe(l Legacy, now time.Time) bool {
	at, ok := l.retirement()
	return ok && !now.Before(at)
}

// Retire invalidates a token that has not been used for a year, or removes it if it has been invalid for a year since
// (evaluateSATokens, legacy_serviceaccount_token_cleaner.go). Else it asks to be called again when that may be so.
func Retire(l Legacy, now time.Time) plan.Plan {
	if !Ripe(l, now) || l.Mounted {
		next, ok := NextLook(l, now)
		if !ok {
			return plan.Plan{}
		}
		return plan.Plan{Later: []plan.Later{next}}
	}
	write := plan.Write{
		Verb: plan.Delete, Resource: plan.Secrets, Namespace: l.Secret.Namespace, Name: l.Secret.Name, UID: l.Secret.UID,
		ResourceVersion: l.Secret.ResourceVersion, Reason: "its token has been invalid for a year",
	}
	if _, err := time.Parse(dateFormat, l.Secret.Labels[invalidSinceLabel]); err != nil {
		write = invalidate(l.Secret, now)
	}
	return plan.Plan{
		Writes: []plan.Write{write},
		Reads: []plan.Read{
			readSecret(l.Secret), readAccount(l.Owner.Namespace, l.Owner.Name),
			{Resource: plan.Pods, Namespace: l.Secret.Namespace, Arrivals: true, Again: true},
		},
	}
}

// invalidate labels a Secret whose token is not valid from now on. The patch names the UID, which the API takes for a precondition.
func invalidate(secret *corev1.Secret, now time.Time) plan.Write {
	var patch struct {
		Metadata struct {
			UID    types.UID         `json:"uid"`
			Labels map[string]string `json:"labels"`
		} `json:"metadata"`
	}
	patch.Metadata.UID = secret.UID
	patch.Metadata.Labels = map[string]string{invalidSinceLabel: dateOf(now)}
	body, err := json.Marshal(patch)
	if err != nil {
		panic("accounttokens: encoding a label: " + err.Error())
	}
	return plan.Write{
		Verb: plan.Patch, Resource: plan.Secrets, Namespace: secret.Namespace, Name: secret.Name,
		PatchType: types.MergePatchType, PatchBody: body, Reason: "its token has not been used for a year",
	}
}
