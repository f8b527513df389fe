package scheduling

import (
	"math"

	corev1 "k8s.io/api/core/v1"
)

// wants is what a pod adds to each of some resources when nodes are scored.
type wants struct {
	fit, balanced []int64
}

// wantsOf follows calculatePodResourceRequestList in plugins/noderesources/resource_allocation.go, as the two plugins use
// it: see leastShare and balancedShare.
func wantsOf(pod *corev1.Pod, p *profile) wants {
	fit, balanced := fitRequests(pod), balancedRequests(pod)
	var w wants
	for _, r := range p.Fit.Resources {
		w.fit = append(w.fit, valueOf(fit, r.Name))
	}
	for _, name := range p.Balanced {
		w.balanced = append(w.balanced, valueOf(balanced, name))
	}
	return w
}

func valueOf(list corev1.ResourceList, name corev1.ResourceName) int64 {
	q := list[name]
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// allocation is what a node offers of a resource and what is taken of it, for scoring.
//
// Upstream: calculateResourceAllocatableRequest in plugins/noderesources/resource_allocation.go.
func (n *nodeState) allocation(name corev1.ResourceName, shown bool) (offered, taken int64) {
	switch name { //nolint:exhaustive // the others are scalars
	case corev1.ResourceCPU:
		if shown {
			return n.offered.cpu, n.cpuShown
		}
		return n.offered.cpu, n.used.cpu
	case corev1.ResourceMemory:
		if shown {
			return n.offered.memory, n.memoryShown
		}
		return n.offered.memory, n.used.memory
	case corev1.ResourceEphemeralStorage:
		return n.offered.storage, n.used.storage
	}
	return n.offered.scalars[name], n.used.scalars[name]
}

// fitScore scores a node by what is used of its resources with the pod.
//
// Upstream: least_allocated.go, most_allocated.go and requested_to_capacity_ratio.go in plugins/noderesources.
func (p *profile) fitScore(w *wants, drawn *devices, n *nodeState) int64 {
	var score, weights int64
	for i, r := range p.Fit.Resources {
		if w.fit[i] == 0 && isScalar(r.Name) {
			continue
		}
		offered, taken := n.allocation(r.Name, true)
		if offered == 0 && drawn != nil {
			offered, taken = drawn.drawn(r.Name, n.node)
		}
		if offered == 0 {
			continue
		}
		one := p.Fit.of(taken+w.fit[i], offered)
		if p.Fit.Strategy == RequestedToCapacityRatio && one <= 0 {
			continue
		}
		score += one * r.Weight
		weights += r.Weight
	}
	switch {
	case weights == 0:
		return 0
	case p.Fit.Strategy == RequestedToCapacityRatio:
		return int64(math.Round(float64(score) / float64(weights)))
	}
	return score / weights
}

// of is the score of one resource.
func (s *Scoring) of(requested, capacity int64) int64 {
	switch s.Strategy {
	case MostAllocated:
		return min(requested, capacity) * maxScore / capacity
	case RequestedToCapacityRatio:
		if requested > capacity {
			return s.Shape.at(100)
		}
		return s.Shape.at(requested * 100 / capacity)
	case LeastAllocated:
	}
	return leftOver(requested, capacity)
}

// balanceScore is balancedAllocation over any resources.
func (p *profile) balanceScore(w *wants, drawn *devices, n *nodeState) int64 {
	asks := false
	for _, v := range w.balanced {
		asks = asks || v != 0
	}
	if !asks {
		return 0
	}
	with := p.balanceOf(w.balanced, drawn, n, true)
	without := p.balanceOf(w.balanced, drawn, n, false)
	return betterBalance(with, without)
}

// balanceOf follows balancedResourceScore in plugins/noderesources/balanced_allocation.go.
func (p *profile) balanceOf(asked []int64, drawn *devices, n *nodeState, with bool) int64 {
	var fractions []float64
	var sum float64
	for i, name := range p.Balanced {
		if asked[i] == 0 && isScalar(name) {
			continue
		}
		offered, taken := n.allocation(name, false)
		if offered == 0 && drawn != nil {
			offered, taken = drawn.drawn(name, n.node)
		}
		if offered == 0 {
			continue
		}
		if with {
			taken += asked[i]
		}
		fraction := min(float64(taken)/float64(offered), 1)
		sum += fraction
		fractions = append(fractions, fraction)
	}
	deviation := 0.0
	switch {
	case len(fractions) == 2:
		deviation = math.Abs((fractions[0] - fractions[1]) / 2)
	case len(fractions) > 2:
		mean, squares := sum/float64(len(fractions)), 0.0
		for _, f := range fractions {
			squares += (f - mean) * (f - mean)
		}
		deviation = math.Sqrt(squares / float64(len(fractions)))
	}
	return int64((1 - deviation) * maxScore)
}
