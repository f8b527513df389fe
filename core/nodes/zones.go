package nodes

import (
	"cmp"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodetopology "k8s.io/component-helpers/node/topology"
)

// Upstream's defaults, from pkg/controller/nodelifecycle/config/v1alpha1/defaults.go and
// cmd/kube-controller-manager/app/options/nodelifecyclecontroller.go.
const (
	// evictionRate is how many nodes of a zone become tainted in a second (--node-eviction-rate), and
	// secondaryEvictionRate how many of a large zone of which many are lost (--secondary-node-eviction-rate).
	evictionRate          = 0.1
	secondaryEvictionRate = 0.01
	// unhealthyZoneThreshold is the part of a zone's nodes from which on many are lost, if that is more than
	// fewNodes (--unhealthy-zone-threshold).
	unhealthyZoneThreshold = float32(0.55)
	fewNodes               = 2
	// largeClusterSize is how many nodes a zone has at most that is not large (--large-cluster-size-threshold).
	largeClusterSize = 50
)

// exclusionLabel keeps a node from being counted for the state of its zone.
const exclusionLabel = "node.kubernetes.io/exclude-disruption"

// zoneState is how much of a zone is lost.
type zoneState string

const (
	normal            zoneState = "Normal"
	fullDisruption    zoneState = "FullDisruption"
	partialDisruption zoneState = "PartialDisruption"
)

// zone is the nodes of a zone, in the order of their names.
type zone struct {
	key   string
	nodes []*corev1.Node
}

// zonesOf divides nodes into zones. Those without labels of a zone are in one together.
func zonesOf(all []*corev1.Node) []zone {
	byKey := map[string][]*corev1.Node{}
	for _, node := range slices.SortedFunc(slices.Values(all), func(a, b *corev1.Node) int { return cmp.Compare(a.Name, b.Name) }) {
		key := nodetopology.GetZoneKey(node)
		byKey[key] = append(byKey[key], node)
	}
	out := make([]zone, 0, len(byKey))
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		out = append(out, zone{key: key, nodes: byKey[key]})
	}
	return out
}

// count returns how many nodes of the zone are ready and how many are not, of those that are counted.
// Nodes that became ready at the given time or later are counted as if they had not; zero for none.
func (z zone) count(before time.Time) (ready, notReady int) {
	for _, node := range z.nodes {
		if isExcluded(node) {
			continue
		}
		at, is := readySince(node)
		if is && (before.IsZero() || at.Before(before)) {
			ready++
		} else {
			notReady++
		}
	}
	return ready, notReady
}

// stateOf is the state of a zone with so many nodes.
//
// Upstream: ComputeZoneState in pkg/controller/nodelifecycle/node_lifecycle_controller.go.
func stateOf(ready, notReady int) zoneState {
	switch {
	case ready == 0 && notReady > 0:
		return fullDisruption
	case notReady > fewNodes && float32(notReady)/float32(notReady+ready) >= unhealthyZoneThreshold:
		return partialDisruption
	default:
		return normal
	}
}

// rateOf is how many nodes of a zone with so many may be tainted in a second, 0 for none.
//
// Upstream: setLimiterInZone, HealthyQPSFunc and ReducedQPSFunc.
func rateOf(ready, notReady int) float64 {
	if stateOf(ready, notReady) != partialDisruption {
		return evictionRate
	}
	if ready+notReady > largeClusterSize {
		return secondaryEvictionRate
	}
	return 0
}

// outage reports whether every zone is lost: it is then not the nodes, but the way to them, or their way
// here. before is as in zone.count. Zones of which no node is counted do not matter.
func outage(zones []zone, before time.Time) bool {
	counted := false
	for _, z := range zones {
		ready, notReady := z.count(before)
		if ready > 0 {
			return false
		}
		counted = counted || notReady > 0
	}
	return counted
}

// readySince returns since when a node has been ready, if it is.
func readySince(node *corev1.Node) (time.Time, bool) {
	c := condition(node, corev1.NodeReady)
	if c == nil || c.Status != corev1.ConditionTrue {
		return time.Time{}, false
	}
	return c.LastTransitionTime.Time, true
}

func isExcluded(node *corev1.Node) bool {
	_, excluded := node.Labels[exclusionLabel]
	return excluded
}

// MovesZones reports whether a change of a node may change what Zones decides. Either may be nil.
func MovesZones(before, after *corev1.Node) bool {
	if before == nil || after == nil {
		return before != after
	}
	_, wasReady := readySince(before)
	_, ready := readySince(after)
	return wasReady != ready || isExcluded(before) != isExcluded(after) || waits(before) != waits(after) ||
		nodetopology.GetZoneKey(before) != nodetopology.GetZoneKey(after)
}
