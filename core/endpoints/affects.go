package endpoints

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/podstate"
)

// PodChange says what a change of a pod, from before to after, means for the Services that select it; before is nil for a
// new pod and after for one that is gone. If relabelled, it may be another Service's than before; if changed, its endpoints may be
// others. Heartbeats of containers, and most else that a kubelet writes, are neither.
//
// Upstream: util/controller_utils.go podEndpointsChanged, and the phase and the node besides.
func PodChange(before, after *corev1.Pod) (relabelled, changed bool) {
	if before == nil || after == nil {
		return false, before != after
	}
	sameIP := func(a, b corev1.PodIP) bool { return a.IP == b.IP }
	changed = before.UID != after.UID || (before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) ||
		podstate.IsReady(before) != podstate.IsReady(after) || podstate.IsTerminal(before) != podstate.IsTerminal(after) ||
		(before.Status.PodIP == "") != (after.Status.PodIP == "") || !slices.EqualFunc(before.Status.PodIPs, after.Status.PodIPs, sameIP) ||
		before.Spec.NodeName != after.Spec.NodeName || before.Spec.Hostname != after.Spec.Hostname || before.Spec.Subdomain != after.Spec.Subdomain
	return !maps.Equal(before.Labels, after.Labels), changed
}

// NodeChange says what a change of a node means; before is nil for a new node and after for one that is gone. If moved, the
// endpoints of its pods may be others; if zones, the zones' shares may be. Heartbeats are neither.
//
// Upstream: endpointslice_controller.go updateNode. There only Services that have too few endpoints in a zone are looked at again.
func NodeChange(before, after *corev1.Node) (moved, zones bool) {
	moved = (before == nil) != (after == nil) || zoneOf(before) != zoneOf(after)
	return moved, moved || supplyOf(before) != supplyOf(after)
}

func zoneOf(node *corev1.Node) string {
	if node == nil {
		return ""
	}
	return node.Labels[corev1.LabelTopologyZone]
}
