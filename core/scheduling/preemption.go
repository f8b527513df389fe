package scheduling

import "maps"

const (
	reasonNoHelp    = "Preemption is not helpful for scheduling"
	reasonNoVictims = "No preemption victims found for incoming pod"
	reasonNever     = "not eligible due to preemptionPolicy=Never."
)

// preemption is a dry run: whether taking all pods of lower priority off a node would make room, and
// if it would on no node, why not. It chooses no victims.
//
// Upstream: plugins/defaultpreemption/default_preemption.go and framework/preemption/preemption.go.
type preemption struct {
	helps   bool
	reasons map[string]int
}

// consider looks at a node that refused the class with the verdict.
func (p *preemption) consider(c *class, n *nodeState, refused verdict, around others) {
	if p.reasons == nil {
		p.reasons = map[string]int{}
	}
	if !refused.resolvable {
		p.reasons[reasonNoHelp]++
		return
	}
	used := n.used
	used.scalars = maps.Clone(n.used.scalars)
	ports := maps.Clone(n.ports)
	around.victims = nil
	for _, e := range n.pods {
		if priorityOf(e.pod) >= c.priority {
			continue
		}
		around.victims = append(around.victims, e)
		used.add(&e.charge.taken, -1)
		used.pods--
		ports.add(e.charge.ports, -1)
	}
	if len(around.victims) == 0 {
		p.reasons[reasonNoVictims]++
		return
	}
	v := verdictOn(c, n, &used, ports, around)
	p.helps = p.helps || len(v.reasons) == 0
	for _, reason := range v.reasons {
		p.reasons[reason]++
	}
}

// withPreemption appends what preemption has to say to the filters' message.
func withPreemption(message string, c *class, outcome string) string {
	if c.neverPreempts {
		outcome = reasonNever
	}
	return message + " preemption: " + outcome
}
