package rollout

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The states of a pod, from pkg/api/v1/pod/util.go and controller_utils.go. (The former is not
// imported because it brings the API server's feature gates along.)

// readyCondition is GetPodReadyCondition if it is true, else nil.
func readyCondition(pod *corev1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady {
			if c.Status == corev1.ConditionTrue {
				return c
			}
			return nil
		}
	}
	return nil
}

func isReady(pod *corev1.Pod) bool { return readyCondition(pod) != nil }

// isAvailable reports whether a pod has been ready for minReadySeconds: IsPodAvailable.
func isAvailable(pod *corev1.Pod, minReadySeconds int32, now time.Time) bool {
	if !isReady(pod) {
		return false
	}
	at := availableAt(pod, minReadySeconds)
	return minReadySeconds == 0 || !at.IsZero() && !at.After(now)
}

// availableAt is when a ready pod becomes available if it stays ready; zero when that is not known.
func availableAt(pod *corev1.Pod, minReadySeconds int32) time.Time {
	c := readyCondition(pod)
	if c == nil || c.LastTransitionTime.IsZero() {
		return time.Time{}
	}
	return c.LastTransitionTime.Add(time.Duration(minReadySeconds) * time.Second)
}

// isActive is IsPodActive.
func isActive(pod *corev1.Pod) bool {
	return !isTerminal(pod) && pod.DeletionTimestamp == nil
}

// isTerminating is IsPodTerminating.
func isTerminating(pod *corev1.Pod) bool {
	return !isTerminal(pod) && pod.DeletionTimestamp != nil
}
