package disruption

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// staleTimeout is how long a pod may announce its disruption without being deleted. Upstream:
// stalePodDisruptionTimeout.
const staleTimeout = 2 * time.Minute

// StaleKind is the kind of the plan.Later at which a pod's announcement will be stale.
const StaleKind = "stale-disruption"

// Announces reports whether a pod says that it is about to be deleted, and is not. What a kubelet
// says stands for as long as it takes, and on a pod that is over nothing matters any more.
//
// Upstream: nonTerminatingPodHasStaleDisruptionCondition.
func Announces(pod *corev1.Pod) bool {
	c := condition(pod, corev1.DisruptionTarget)
	return pod.DeletionTimestamp == nil && c != nil && c.Status == corev1.ConditionTrue && c.Reason != corev1.PodReasonTerminationByKubelet &&
		pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

// Stale takes back what a pod announces once it is stale, and until then asks to be called.
//
// Upstream: syncStalePodDisruption.
func Stale(pod *corev1.Pod, now time.Time) plan.Plan {
	if !Announces(pod) {
		return plan.Plan{}
	}
	end := condition(pod, corev1.DisruptionTarget).LastTransitionTime.Add(staleTimeout)
	if now.Before(end) {
		return plan.Plan{Later: []plan.Later{{
			At: end, Kind: StaleKind,
			Subject: plan.Ref{Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		}}}
	}
	changed := pod.DeepCopy()
	*condition(changed, corev1.DisruptionTarget) = corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(now.UTC().Truncate(time.Second)),
		ObservedGeneration: pod.Generation,
	}
	return plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.UpdateStatus, Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name, Object: changed,
			UID: pod.UID, ResourceVersion: pod.ResourceVersion, Reason: "its disruption was announced and did not come",
		}},
		Reads: []plan.Read{{Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name}},
	}
}
