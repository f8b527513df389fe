package scheduling

import (
	corev1 "k8s.io/api/core/v1"
	podresource "k8s.io/component-helpers/resource"
)

// maxScore is the highest score that one rule gives a node.
const maxScore = 100

// share is what a pod adds to a node's CPU and memory when the node is scored.
type share struct{ cpu, memory int64 }

// leastShare is the pod's share as LeastAllocated sees it: containers without requests count with
// the defaults, and requests of the pod as a whole do not count, since upstream builds this scorer
// without the gate for them.
//
// Upstream: NewFit in plugins/noderesources/fit.go and calculatePodResourceRequest in
// plugins/noderesources/resource_allocation.go.
func leastShare(pod *corev1.Pod) share {
	requests := fitRequests(pod)
	return share{requests.Cpu().MilliValue(), requests.Memory().Value()}
}

// fitRequests are what NodeResourcesFit scores.
func fitRequests(pod *corev1.Pod) corev1.ResourceList {
	return podresource.PodRequests(pod, podresource.PodResourcesOptions{
		SkipPodLevelResources:       true,
		NonMissingContainerRequests: defaultRequests(),
	})
}

// leastAllocated scores a node by the part of its CPU and memory that stays free.
//
// Upstream: plugins/noderesources/least_allocated.go.
func leastAllocated(pod share, n *nodeState) int64 {
	var score, weight int64
	if n.offered.cpu != 0 {
		score += leftOver(n.cpuShown+pod.cpu, n.offered.cpu)
		weight++
	}
	if n.offered.memory != 0 {
		score += leftOver(n.memoryShown+pod.memory, n.offered.memory)
		weight++
	}
	if weight == 0 {
		return 0
	}
	return score / weight
}

func leftOver(requested, capacity int64) int64 {
	if requested > capacity {
		return 0
	}
	return (capacity - requested) * maxScore / capacity
}
