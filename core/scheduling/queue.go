package scheduling

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
)

// inQueueOrder compares pending pods: the highest priority first, then the oldest. Pods of one second
// follow by namespace and name, so that the order does not depend on how the cluster was built.
//
// Upstream: plugins/queuesort/priority_sort.go.
func inQueueOrder(a, b *entry) int {
	return cmp.Or(
		cmp.Compare(b.class.priority, a.class.priority),
		a.pod.CreationTimestamp.Compare(b.pod.CreationTimestamp.Time),
		cmp.Compare(a.pod.Namespace, b.pod.Namespace),
		cmp.Compare(a.pod.Name, b.pod.Name),
	)
}

// inTurn sorts those of a run: the pods that were promised a node before all others.
func (r *run) inTurn(a, b *entry) int {
	if first := r.promised[a]; first != r.promised[b] {
		if first {
			return -1
		}
		return 1
	}
	return inQueueOrder(a, b)
}

// priorityOf follows PodPriority of component-helpers/scheduling/corev1.
func priorityOf(pod *corev1.Pod) int32 {
	if pod.Spec.Priority != nil {
		return *pod.Spec.Priority
	}
	return 0
}
