package scheduling

import (
	"fmt"
	"slices"
	"strings"
)

const reasonNoNodes = "no nodes available to schedule pods"

// verdict is why one node cannot take a class; no reasons means that it can.
type verdict struct {
	// plugin that refuses it, as upstream names it.
	plugin  string
	reasons []string
	// resolvable is upstream's Unschedulable, as opposed to UnschedulableAndUnresolvable: other pods
	// stand in the way, and taking them off the node may help.
	resolvable bool
}

// verdictOn asks the rules in upstream's order about a node with this room.
func verdictOn(c *class, n *nodeState, used *amounts, ports portSet, others others) verdict {
	if plugin, reason := refusal(c, n.node); reason != "" {
		return verdict{plugin: plugin, reasons: []string{reason}}
	}
	if !ports.free(c.ports) {
		return verdict{NodePorts, []string{reasonPorts}, true}
	}
	if reasons, resolvable := c.request.shortfalls(&n.offered, used); len(reasons) > 0 {
		return verdict{NodeResourcesFit, reasons, resolvable}
	}
	if v := others.volumes.refusal(n, others.victims); len(v.reasons) > 0 {
		return v
	}
	if reason, resolvable := spreadRefusal(others.spreads, n.at, others.victims); reason != "" {
		return verdict{PodTopologySpread, []string{reason}, resolvable}
	}
	if reason, resolvable := others.interpod.refusal(n.at, others.victims); reason != "" {
		return verdict{InterPodAffinity, []string{reason}, resolvable}
	}
	return verdict{}
}

// bars is why no node at all can take the class and its volumes, found before nodes are looked at.
//
// Upstream: RunPreFilterPlugins in framework/runtime/framework.go.
func bars(c *class, v *volumes) verdict {
	if c.affinity.conflict() {
		return verdict{plugin: NodeAffinity, reasons: []string{reasonAffinityConflict}}
	}
	if v != nil {
		return v.barred
	}
	return verdict{}
}

// others are the pods elsewhere that count, and those of the node itself that would go before.
type others struct {
	spreads  []*spread
	interpod *interpod
	volumes  *volumes
	victims  []*entry
}

// explain says why no node can take the class.
//
// Upstream: FitError.Error in pkg/scheduler/framework/types.go and ErrNoNodesAvailable in
// pkg/scheduler/scheduler.go.
func (r *run) explain(g group, k *kin) string {
	c, cl := r.cluster, g.class
	if c.known == 0 {
		return reasonNoNodes
	}
	volumes := c.newVolumes(g.mounts)
	if barred := bars(cl, volumes); len(barred.reasons) > 0 {
		all := map[string]int{reasonNoHelp: c.known}
		return withPreemption(fmt.Sprintf("0/%d nodes are available: %s.", c.known, barred.reasons[0]),
			cl, sayReasons(c.known, all))
	}
	reasons := map[string]int{}
	spreads := c.newSpreads(cl, cl.spreading.hard, true)
	defer c.releaseSpreads(spreads)
	interpod := c.newInterpod(g.neighbourhood, k, r.heard[k].terms)
	defer c.releaseInterpod(interpod)
	around := others{spreads: spreads, interpod: interpod, volumes: volumes}
	dryRun := preemption{}
	for _, n := range c.nodes {
		if n.node == nil {
			continue
		}
		v := verdictOn(cl, n, &n.used, n.ports, around)
		for _, reason := range v.reasons {
			reasons[reason]++
		}
		dryRun.consider(cl, n, v, around)
	}
	message := sayReasons(c.known, reasons)
	if dryRun.helps && !cl.neverPreempts {
		return message
	}
	return withPreemption(message, cl, sayReasons(c.known, dryRun.reasons))
}

// sayReasons is "0/3 nodes are available: 1 this, 2 that.", with the reasons in the order of their
// text, counts included.
func sayReasons(nodes int, reasons map[string]int) string {
	counted := make([]string, 0, len(reasons))
	for reason, count := range reasons {
		counted = append(counted, fmt.Sprintf("%d %s", count, reason))
	}
	slices.Sort(counted)
	message := fmt.Sprintf("0/%d nodes are available:", nodes)
	if len(counted) > 0 {
		message += " " + strings.Join(counted, ", ") + "."
	}
	return message
}
