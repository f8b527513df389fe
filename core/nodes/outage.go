package nodes

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// ZonesKind is the kind of the plan.Later at which the next node of a zone may be tainted. Its subject is no
// node, but the nodes as a whole.
const ZonesKind = "zones"

// Zones decides which of all nodes become tainted so that their pods leave: those that are not ready, in
// the order in which they ceased to be, and of each zone so many in a second as its state allows. If no
// node of the cluster is ready none is tainted, and those that were are so no more.
//
// Upstream: handleDisruption, markNodeForTainting and doNoExecuteTaintingPass in
// pkg/controller/nodelifecycle/node_lifecycle_controller.go.
func Zones(all []*corev1.Node, now time.Time) plan.Plan {
	var p plan.Plan
	zones := zonesOf(all)
	if outage(zones, time.Time{}) {
		for _, node := range all {
			if taints := slices.DeleteFunc(slices.Clone(node.Spec.Taints), evictsForHealth); len(taints) < len(node.Spec.Taints) {
				p.Writes = append(p.Writes, taintWrite(node, taints))
			}
		}
	} else {
		p = taintZones(zones, now)
	}
	if len(p.Writes) > 0 {
		// Any node that changes may change the state of its zone, or take its turn.
		p.Reads = []plan.Read{{Resource: plan.Nodes}}
	}
	return p
}

// taintZones taints at most one node of each zone, and asks to be called when there may be the next one.
func taintZones(zones []zone, now time.Time) plan.Plan {
	var p plan.Plan
	var next time.Time
	for _, z := range zones {
		waiting, rate := z.waiting(), rateOf(z.count(time.Time{}))
		if len(waiting) == 0 || rate == 0 {
			continue
		}
		interval := time.Duration(float64(time.Second) / rate)
		at := z.last(zones).Add(interval)
		if !now.Before(at) {
			p.Writes = append(p.Writes, evictionTaint(waiting[0], now))
			waiting = waiting[1:]
			at = now.UTC().Truncate(time.Second).Add(interval)
		}
		if len(waiting) > 0 && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if !next.IsZero() {
		p.Later = []plan.Later{{At: next, Kind: ZonesKind, Subject: plan.Ref{Resource: plan.Nodes}}}
	}
	return p
}

// evictionTaint gives a node that is not ready the taint that makes its pods leave.
func evictionTaint(node *corev1.Node, now time.Time) plan.Write {
	taints := slices.Clone(node.Spec.Taints)
	for _, taint := range noExecuteTaints(condition(node, corev1.NodeReady).Status) {
		at := metav1.NewTime(now.UTC().Truncate(time.Second))
		taint.TimeAdded = &at
		taints = append(taints, taint)
	}
	return taintWrite(node, taints)
}

// waiting are the nodes of the zone that are not ready and not tainted for it, in the order in which they
// ceased to be ready.
func (z zone) waiting() []*corev1.Node {
	var out []*corev1.Node
	for _, node := range z.nodes {
		if waits(node) {
			out = append(out, node)
		}
	}
	slices.SortStableFunc(out, func(a, b *corev1.Node) int {
		since := func(n *corev1.Node) time.Time { return condition(n, corev1.NodeReady).LastTransitionTime.Time }
		return cmp.Or(since(a).Compare(since(b)), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// waits reports whether a node is not ready and not tainted for it. One that has either taint is not to be
// tainted anew: Check exchanges it at once.
func waits(node *corev1.Node) bool {
	ready := condition(node, corev1.NodeReady)
	return ready != nil && ready.Status != corev1.ConditionTrue && !slices.ContainsFunc(node.Spec.Taints, evictsForHealth)
}

// last is the moment from which on the time counts after which the next node of the zone may be tainted: when the last one
// was, or when what had kept the zone's nodes from being tainted at all was over, if that was later.
//
// Upstream: the token bucket of the zone, of one token, and SwapLimiter in
// pkg/controller/nodelifecycle/scheduler/rate_limited_queue.go, which empties it.
func (z zone) last(zones []zone) time.Time {
	var last time.Time
	for _, node := range z.nodes {
		for _, taint := range node.Spec.Taints {
			if evictsForHealth(taint) && taint.TimeAdded != nil && taint.TimeAdded.After(last) {
				last = taint.TimeAdded.Time
			}
		}
	}
	newest := newestReady(zones)
	if newest.After(last) && (outage(zones, newest) || rateOf(z.count(newest)) == 0) {
		return newest
	}
	return last
}

// newestReady is when the node became ready that did so last, zero if none is.
func newestReady(zones []zone) time.Time {
	var newest time.Time
	for _, z := range zones {
		for _, node := range z.nodes {
			if at, ready := readySince(node); ready && at.After(newest) {
				newest = at
			}
		}
	}
	return newest
}

// evictsForHealth reports whether a taint makes pods leave a node that is not ready.
func evictsForHealth(taint corev1.Taint) bool {
	return taint.Effect == corev1.TaintEffectNoExecute && isOurs(taint)
}
