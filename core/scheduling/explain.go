package scheduling

import (
	"fmt"
	"slices"
	"strings"
)

const reasonNoNodes = "no nodes available to schedule pods"

// explain says why no node can take a pod of the group, and what came of attempts to change that.
//
// Upstream: FitError.Error in pkg/scheduler/framework/types.go, RunPostFilterPlugins in framework/runtime/framework.go and
// ErrNoNodesAvailable in pkg/scheduler/scheduler.go.
func (r *run) explain(g group, k *kin, a attempt) string {
	c := r.cluster
	if c.known == 0 {
		return reasonNoNodes
	}
	p := r.prospectsOf(g, k)
	if fault := p.fault(); fault != "" {
		return fault
	}
	message := sayReasons(c.known, p.reasons)
	if p.isBarred() {
		message = fmt.Sprintf("0/%d nodes are available: %s.", c.known, p.barred.reasons[0])
	}
	if a.stateless {
		return message + " " + reasonStateless
	}
	var after []string
	if given := a.release.reason(); given != "" && a.found == nil {
		after = append(after, given)
	}
	if outcome := a.outcome(r, g); outcome != "" {
		after = append(after, "preemption: "+outcome)
	}
	if len(after) == 0 {
		return message
	}
	return message + " " + strings.Join(after, ", ")
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
