package scheduling

import (
	corev1 "k8s.io/api/core/v1"
	podresource "k8s.io/component-helpers/resource"
)

const reasonTooManyPods = "Too many pods"

// request is what a pending pod must find free on a node. asks tells a pod that asks for nothing but
// a place; upstream then looks no further than the number of pods.
type request struct {
	amounts
	asks bool
	// none is set where the rule is off.
	none    bool
	scalars []scalarRequest
}

type scalarRequest struct {
	name  corev1.ResourceName
	value int64
	// backed is set if devices have to do where a node does not offer it itself.
	backed bool
}

// short reports whether a node has too little of it.
//
// Upstream: shouldDelegateResourceToDRA in plugins/noderesources/fit.go.
func (s *scalarRequest) short(offered, used *amounts) bool {
	there := offered.scalars[s.name]
	return s.value > there-used.scalars[s.name] && (!s.backed || there != 0)
}

// newRequest follows computePodResourceRequest in plugins/noderesources/fit.go.
func newRequest(p *profile, pod *corev1.Pod) request {
	r := request{amounts: newAmounts(podresource.PodRequests(pod, podresource.PodResourcesOptions{}))}
	r.asks = r.cpu != 0 || r.memory != 0 || r.storage != 0 || len(r.amounts.scalars) > 0
	r.none = !p.Filters[NodeResourcesFit]
	for _, name := range sortedScalars(r.amounts.scalars) {
		if value := r.amounts.scalars[name]; value > 0 && !p.ignores(name) {
			r.scalars = append(r.scalars, scalarRequest{name: name, value: value})
		}
	}
	return r
}

// fits reports whether a node with this room can take the pod.
//
// Upstream: fitsRequest in plugins/noderesources/fit.go.
func (r *request) fits(offered, used *amounts) bool {
	if r.none {
		return true
	}
	if used.pods+1 > offered.pods {
		return false
	}
	if !r.asks {
		return true
	}
	if r.cpu > 0 && r.cpu > offered.cpu-used.cpu ||
		r.memory > 0 && r.memory > offered.memory-used.memory ||
		r.storage > 0 && r.storage > offered.storage-used.storage {
		return false
	}
	for i := range r.scalars {
		if r.scalars[i].short(offered, used) {
			return false
		}
	}
	return true
}

// shortfalls gives the reasons why fits is false, as upstream words them. resolvable is false when
// the node is too small for the pod even when empty, so that no preemption can help.
func (r *request) shortfalls(offered, used *amounts) (reasons []string, resolvable bool) {
	resolvable = true
	if used.pods+1 > offered.pods {
		reasons = append(reasons, reasonTooManyPods)
	}
	lacks := func(name corev1.ResourceName, want, offered, used int64) {
		if want > 0 && want > offered-used {
			reasons = append(reasons, "Insufficient "+string(name))
			resolvable = resolvable && want <= offered
		}
	}
	lacks(corev1.ResourceCPU, r.cpu, offered.cpu, used.cpu)
	lacks(corev1.ResourceMemory, r.memory, offered.memory, used.memory)
	lacks(corev1.ResourceEphemeralStorage, r.storage, offered.storage, used.storage)
	for i := range r.scalars {
		if s := &r.scalars[i]; s.short(offered, used) {
			lacks(s.name, s.value, offered.scalars[s.name], used.scalars[s.name])
		}
	}
	return reasons, resolvable
}
