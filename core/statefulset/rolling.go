package statefulset

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// partition is the first of the replicas, counted from 0, that an update touches.
func (r *decision) partition() int {
	if rolling := r.set.Spec.UpdateStrategy.RollingUpdate; rolling != nil && rolling.Partition != nil {
		return int(*rolling.Partition)
	}
	return 0
}

// maxUnavailable is stateful_set_utils.go getStatefulSetMaxUnavailable: at least 1. It is not ok when
// it cannot be read.
func (r *decision) maxUnavailable() (int, bool) {
	var given *intstr.IntOrString
	if rolling := r.set.Spec.UpdateStrategy.RollingUpdate; rolling != nil {
		given = rolling.MaxUnavailable
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(given, intstr.FromInt32(1)), size(r.set), false)
	return max(n, 1), err == nil
}

// rollingUpdate takes away pods of another revision than the wanted one, from the last to the
// partition, as many as may be unavailable: stateful_set_control.go
// updateStatefulSetAfterInvariantEstablished. They are made again when they are gone.
func (r *decision) rollingUpdate() {
	maxUnavailable, ok := r.maxUnavailable()
	if !ok {
		return
	}
	unavailable, broken := 0, 0
	for _, pod := range r.replicas {
		if r.isUnavailable(pod) {
			unavailable++
			if r.isOld(pod) {
				broken++
			}
		}
	}
	if r.inOrder() {
		r.takeAway(maxUnavailable-unavailable, func(*corev1.Pod) bool { return true })
		return
	}
	if unavailable >= maxUnavailable && broken == 0 {
		return
	}
	// In parallel, those that are unavailable anyway go first, and cost nothing.
	r.takeAway(len(r.replicas), func(pod *corev1.Pod) bool { return !r.isAvailable(pod) })
	r.takeAway(maxUnavailable-unavailable, r.isAvailable)
}

// isOld reports whether a pod is there to be replaced. One that this plan makes is not there yet.
func (r *decision) isOld(pod *corev1.Pod) bool {
	return isCreated(pod) && revisionOf(pod) != r.update.Name && !isTerminating(pod)
}

// takeAway removes at most budget old pods of those that suit.
func (r *decision) takeAway(budget int, suits func(*corev1.Pod) bool) {
	first := min(r.partition(), len(r.replicas))
	for _, pod := range slices.Backward(r.replicas[first:]) {
		if budget <= 0 {
			return
		}
		if r.isOld(pod) && suits(pod) {
			r.deletePod(pod, "it is of another revision")
			r.status.CurrentReplicas--
			budget--
		}
	}
}
