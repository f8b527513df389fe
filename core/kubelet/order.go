package kubelet

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// byName sorts the statuses of the main containers, as a kubelet does; those of init containers stay
// in the order in which they run.
//
// Upstream: SortedContainerStatuses in pkg/kubelet/types/types.go.
func byName(statuses []corev1.ContainerStatus) []corev1.ContainerStatus {
	slices.SortFunc(statuses, func(a, b corev1.ContainerStatus) int { return cmp.Compare(a.Name, b.Name) })
	return statuses
}
