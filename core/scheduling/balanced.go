package scheduling

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	podresource "k8s.io/component-helpers/resource"
)

// balancedShare is the pod's share as BalancedAllocation sees it: what was asked, no defaults.
//
// Upstream: NewBalancedAllocation in plugins/noderesources/balanced_allocation.go.
func balancedShare(pod *corev1.Pod) share {
	requests := balancedRequests(pod)
	return share{requests.Cpu().MilliValue(), requests.Memory().Value()}
}

// balancedRequests are what NodeResourcesBalancedAllocation scores.
func balancedRequests(pod *corev1.Pod) corev1.ResourceList {
	return podresource.PodRequests(pod, podresource.PodResourcesOptions{
		UseStatusResources: true,
		InPlacePodLevelResourcesVerticalScalingEnabled: true,
	})
}

// balancedAllocation scores a node by how much closer the pod brings the used fractions of its CPU
// and memory to each other. A pod that asks for neither is not scored.
//
// Upstream: plugins/noderesources/balanced_allocation.go.
func balancedAllocation(pod share, n *nodeState) int64 {
	if pod == (share{}) {
		return 0
	}
	with := balance(n.used.cpu+pod.cpu, n.used.memory+pod.memory, n)
	without := balance(n.used.cpu, n.used.memory, n)
	return betterBalance(with, without)
}

// betterBalance is the score for a balance with the pod beside that without it.
func betterBalance(with, without int64) int64 { return maxScore/2 + (maxScore/2+with-without)/2 }

// balance is (1 - standard deviation of the used fractions) of maxScore. With two fractions the
// deviation is half their distance; with fewer it is zero.
func balance(cpu, memory int64, n *nodeState) int64 {
	if n.offered.cpu == 0 || n.offered.memory == 0 {
		return maxScore
	}
	c := min(float64(cpu)/float64(n.offered.cpu), 1)
	m := min(float64(memory)/float64(n.offered.memory), 1)
	deviation := math.Abs((c - m) / 2)
	return int64((1 - deviation) * float64(maxScore))
}
