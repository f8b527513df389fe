// Package podstate says in which state a pod is, as controllers see it: pkg/api/v1/pod/util.go and
// pkg/controller/controller_utils.go. (The former is not imported because it brings the API server's
// feature gates along.)
package podstate

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// ReadyCondition is GetPodReadyCondition if it is true, else nil.
func ReadyCondition(pod *corev1.Pod) *corev1.PodCondition {
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

// IsReady is IsPodReady.
func IsReady(pod *corev1.Pod) bool { return ReadyCondition(pod) != nil }

// IsAvailable reports whether a pod has been ready for minReadySeconds: IsPodAvailable.
func IsAvailable(pod *corev1.Pod, minReadySeconds int32, now time.Time) bool {
	if !IsReady(pod) {
		return false
	}
	at := availableAt(pod, minReadySeconds)
	return minReadySeconds == 0 || !at.IsZero() && !at.After(now)
}

// availableAt is when a ready pod becomes available if it stays ready; zero when that is not known.
func availableAt(pod *corev1.Pod, minReadySeconds int32) time.Time {
	c := ReadyCondition(pod)
	if c == nil || c.LastTransitionTime.IsZero() {
		return time.Time{}
	}
	return c.LastTransitionTime.Add(time.Duration(minReadySeconds) * time.Second)
}

// NextAvailable is when the first of the ready pods that are not available becomes so, zero if there is none:
// FindMinNextPodAvailabilityCheck. (Upstream's callers fall back to minReadySeconds from now for pods whose ready time is
// unknown; those become available only by changing, which calls anyway.)
func NextAvailable(pods []*corev1.Pod, minReadySeconds int32, now time.Time) time.Time {
	var next time.Time
	for _, pod := range pods {
		at := availableAt(pod, minReadySeconds)
		if minReadySeconds > 0 && at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// IsTerminal reports whether a pod has ended: IsPodTerminal.
func IsTerminal(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// IsActive is IsPodActive.
func IsActive(pod *corev1.Pod) bool {
	return !IsTerminal(pod) && pod.DeletionTimestamp == nil
}

// IsTerminating is IsPodTerminating.
func IsTerminating(pod *corev1.Pod) bool {
	return !IsTerminal(pod) && pod.DeletionTimestamp != nil
}

// Sidecars are the names of the init containers that run beside the others.
func Sidecars(pod *corev1.Pod) map[string]bool {
	names := map[string]bool{}
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			names[c.Name] = true
		}
	}
	return names
}
