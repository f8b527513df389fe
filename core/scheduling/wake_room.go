package scheduling

import (
	corev1 "k8s.io/api/core/v1"
)

// What gives room to pods that lack it.

// hasRoom is a node that could take the pod if it were empty, and that came, or offers more of what the pod asks for, or
// nothing itself of what is had by devices then.
//
// Upstream: isSchedulableAfterNodeChange in plugins/noderesources/fit.go.
func hasRoom(c *Cluster, s *sleeper, old, now *corev1.Node) bool {
	if now == nil {
		return false
	}
	r, offers := &s.class.request, newAmounts(now.Status.Allocatable)
	if !r.fits(&offers, &amounts{}) {
		return false
	}
	if old == nil {
		return true
	}
	offered := newAmounts(old.Status.Allocatable)
	return offers.pods > offered.pods || r.moreOf(&offered, &offers) || c.devices.isLeft(r, &offers)
}

// moreOf reports whether there is more of something that is asked for.
//
// Upstream: haveAnyRequestedResourcesIncreased in plugins/noderesources/fit.go.
func (r *request) moreOf(old, now *amounts) bool {
	if r.cpu > 0 && now.cpu > old.cpu || r.memory > 0 && now.memory > old.memory || r.storage > 0 && now.storage > old.storage {
		return true
	}
	for name, value := range r.amounts.scalars {
		if value != 0 && now.scalars[name] > old.scalars[name] {
			return true
		}
	}
	return false
}

// freesRoom is a pod that went from a node, or takes less of something that is asked for.
//
// Upstream: isSchedulableAfterAssignedPodDelete and isSchedulableAfterAssignedPodScaleDown in plugins/noderesources/fit.go.
func freesRoom(_ *Cluster, s *sleeper, old, now *entry) bool {
	return old != nil && (now == nil || s.class.request.moreOf(&now.charge.taken, &old.charge.taken))
}

// freesPorts is a pod that went and had a port that the pod wants.
//
// Upstream: isSchedulableAfterAssignedPodDeleted in plugins/nodeports/node_ports.go.
func freesPorts(_ *Cluster, s *sleeper, old, now *entry) bool {
	if old == nil || now != nil {
		return false
	}
	held := portSet{}
	held.add(old.charge.ports, 1)
	return !held.free(s.class.ports)
}
