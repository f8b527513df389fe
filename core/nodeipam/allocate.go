package nodeipam

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	netutils "k8s.io/utils/net"

	"github.com/zeroplane/zeroplane/core/plan"
)

// component is who says that there is no range left.
const component = "cidrAllocator"

// Input is what ranges are given out by.
type Input struct {
	// Ranges of the cluster. A node gets one of each.
	Ranges []Range
	// Services is the range of Services' addresses, of which nodes get nothing.
	Services netip.Prefix
	// Nodes are all that there are.
	Nodes []*corev1.Node
	// Changed are the names of those that changed, and say it if there is no range for them.
	Changed map[string]bool
}

// Lacks reports whether a node needs ranges.
func Lacks(node *corev1.Node) bool {
	return len(node.Spec.PodCIDRs) == 0 && node.DeletionTimestamp == nil
}

// Allocate gives ranges to the nodes that have none, in the order in which they were made.
//
// Upstream: AllocateOrOccupyCIDR, updateCIDRsAllocation and filterOutServiceRange in
// pkg/controller/nodeipam/ipam/range_allocator.go.
func Allocate(in Input) plan.Plan {
	nodes := slices.SortedFunc(slices.Values(in.Nodes), func(a, b *corev1.Node) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	free := make([]*freeRanges, len(in.Ranges))
	for i, r := range in.Ranges {
		free[i] = freeOf(r, in.Services, nodes)
	}
	var p plan.Plan
	for _, node := range nodes {
		if !Lacks(node) {
			continue
		}
		if slices.ContainsFunc(free, (*freeRanges).empty) {
			if in.Changed[node.Name] {
				p.Notices = append(p.Notices, notAvailable(node))
			}
			continue
		}
		var given []string
		for _, f := range free {
			given = append(given, f.take().String())
		}
		p.Writes = append(p.Writes, assign(node, given))
		p.Reads = append(p.Reads, plan.Read{Resource: plan.Nodes, Name: node.Name})
	}
	if len(p.Writes) > 0 {
		p.Reads = append(p.Reads, plan.Read{Resource: plan.Nodes, Ranged: true})
	}
	return p
}

// freeRanges are the ranges of nodes that are left of a cluster's.
type freeRanges struct {
	of   Range
	used []bool
	// left is how many there are, and next where to look first.
	left, next int
}

// freeOf finds what is left by the Services and by the nodes, which are in the order in which they were made.
func freeOf(r Range, services netip.Prefix, nodes []*corev1.Node) *freeRanges {
	f := &freeRanges{of: r, used: make([]bool, r.size()), left: r.size()}
	if services.IsValid() {
		f.occupy(services)
	}
	var newest time.Time
	for _, node := range nodes {
		for _, text := range node.Spec.PodCIDRs {
			_, cidr, err := netutils.ParseCIDRSloppy(text)
			if err != nil {
				continue
			}
			prefix, err := netip.ParsePrefix(cidr.String())
			if err != nil {
				continue
			}
			last, ok := f.occupy(prefix)
			if !ok {
				continue
			}
			// Of nodes that were made in one second, the one with the last range came last.
			if made := node.CreationTimestamp.Time; made.After(newest) || f.next <= last {
				newest, f.next = made, last+1
			}
		}
	}
	return f
}

// occupy takes what has addresses of a range, and returns the last index of it.
func (f *freeRanges) occupy(prefix netip.Prefix) (last int, ok bool) {
	first, last, ok := f.of.indexes(prefix)
	for i := first; ok && i <= last; i++ {
		if !f.used[i] {
			f.used[i] = true
			f.left--
		}
	}
	return last, ok
}

func (f *freeRanges) empty() bool { return f.left == 0 }

// take takes the next free range. There must be one.
func (f *freeRanges) take() netip.Prefix {
	i := f.next % len(f.used)
	for f.used[i] {
		i = (i + 1) % len(f.used)
	}
	f.used[i] = true
	f.left--
	f.next = i + 1
	return f.of.at(i)
}

// assign follows PatchNodeCIDRs in k8s.io/component-helpers/node/util/cidr.go.
func assign(node *corev1.Node, cidrs []string) plan.Write {
	// Of plain strings, which always encode.
	body, _ := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": node.UID},
		"spec":     map[string]any{"podCIDR": cidrs[0], "podCIDRs": cidrs},
	})
	return plan.Write{
		Verb: plan.Patch, Resource: plan.Nodes, Name: node.Name, UID: node.UID,
		PatchType: types.MergePatchType, PatchBody: body, Reason: "the node has no range for its pods",
	}
}

// notAvailable follows RecordNodeStatusChange in pkg/controller/util/node/controller_utils.go.
func notAvailable(node *corev1.Node) plan.Notice {
	return plan.Notice{
		Regarding: corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: node.Name, UID: node.UID},
		Type:      corev1.EventTypeNormal, Reason: "CIDRNotAvailable", Component: component,
		Message: fmt.Sprintf("Node %s status is now: CIDRNotAvailable", node.Name),
	}
}
