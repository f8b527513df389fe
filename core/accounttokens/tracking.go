package accounttokens

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// TrackingConfigMap of kube-system says since when it is noted that tokens are used (legacytokentracking/controller.go).
const TrackingConfigMap = "kube-apiserver-legacy-service-account-token-tracking"

const (
	sinceKey   = "since"
	dateFormat = "2006-01-02"
)

// Tracking is the ConfigMap of a cluster in which uses are noted from now on.
func Tracking(now time.Time) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: TrackingConfigMap},
		Data:       map[string]string{sinceKey: dateOf(now)},
	}
}

// Track creates the ConfigMap, or repairs it when it does not say since when (syncConfigMap, legacytokentracking/controller.go).
// existing is nil if there is none.
func Track(existing *corev1.ConfigMap, now time.Time) plan.Plan {
	write := plan.Write{Resource: plan.ConfigMaps, Namespace: metav1.NamespaceSystem, Name: TrackingConfigMap}
	if existing == nil {
		write.Verb, write.Object, write.Reason = plan.Create, Tracking(now), "uses of tokens are noted from now on"
	} else {
		if _, err := time.Parse(dateFormat, existing.Data[sinceKey]); err == nil {
			return plan.Plan{}
		}
		repaired := existing.DeepCopy()
		if repaired.Data == nil {
			repaired.Data = map[string]string{}
		}
		repaired.Data[sinceKey] = dateOf(now)
		write.Verb, write.Object, write.Reason = plan.Update, repaired, "it does not say since when uses of tokens are noted"
	}
	return plan.Plan{
		Writes: []plan.Write{write},
		Reads:  []plan.Read{{Resource: plan.ConfigMaps, Namespace: metav1.NamespaceSystem, Name: TrackingConfigMap}},
	}
}

// TrackedSince returns the first midnight, UTC, since when every use is noted for sure; not ok if that is not known
// (latestPossibleTrackedSinceTime, legacy_serviceaccount_token_cleaner.go). The ConfigMap is nil if there is none.
func TrackedSince(tracking *corev1.ConfigMap) (since time.Time, ok bool) {
	if tracking == nil {
		return time.Time{}, false
	}
	day, err := time.Parse(dateFormat, tracking.Data[sinceKey])
	return dayAfter(day), err == nil
}

func dateOf(t time.Time) string { return t.UTC().Format(dateFormat) }

func dayAfter(day time.Time) time.Time { return day.AddDate(0, 0, 1) }
