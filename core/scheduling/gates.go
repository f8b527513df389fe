package scheduling

import corev1 "k8s.io/api/core/v1"

// SchedulerName is the spec.schedulerName of the default profile.
const SchedulerName = corev1.DefaultSchedulerName

// waits reports whether the pod is to be placed here: unassigned, ours, not going away, not finished
// and not held by a scheduling gate. The API server has given a gated pod its condition, so nothing
// is said about it. An empty schedulerName is the default, which the API server fills in.
//
// Upstream: plugins/schedulinggates/scheduling_gates.go, responsibleForPod in eventhandlers.go and
// skipPodSchedule in schedule_one.go.
func (c *Cluster) waits(pod *corev1.Pod) bool {
	return pod.Spec.NodeName == "" && c.profileOf(pod) != nil && pod.DeletionTimestamp == nil &&
		!finished(pod) && !c.isGated(pod)
}

// isGated reports whether a gate holds one of our pods. With the plugin off the scheduler takes no notice of gates, and the API
// refuses the binding.
func (c *Cluster) isGated(pod *corev1.Pod) bool {
	return len(pod.Spec.SchedulingGates) > 0 && c.profileOf(pod).PreEnqueues[SchedulingGates]
}

// finished reports whether the pod has run to its end and so takes nothing from its node.
//
// Upstream: the field selector of NewInformerFactory in pkg/scheduler/scheduler.go.
func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
