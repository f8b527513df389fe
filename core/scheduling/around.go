package scheduling

// around is the pods of all nodes, as far as a group's rules ask about pods on other nodes, kept up during a run.
type around struct {
	spreads  []*spread
	interpod *interpod
}

// around starts it for a group. The caller releases it.
func (r *run) around(g group, k *kin) around {
	return around{
		spreads:  r.cluster.newSpreads(g.class, g.class.spreading.hard, true),
		interpod: r.cluster.newInterpod(g.neighbourhood, k, r.heard[k].terms),
	}
}

func (a *around) release(c *Cluster) {
	c.releaseSpreads(a.spreads)
	c.releaseInterpod(a.interpod)
}

// asks reports whether a placement on one node may change what others are worth.
func (a *around) asks() bool { return len(a.spreads) > 0 || a.interpod != nil }

// follow counts a pod that was placed.
func (a *around) follow(e *entry, at int) {
	for _, s := range a.spreads {
		s.follow(e, at)
	}
	a.interpod.follow(e, at)
}

// refusal is the first reason of the rules about other pods to refuse a node, or nothing.
func (a *around) refusal(at int, m *moved) (plugin, reason string, resolvable bool) {
	if reason, resolvable := spreadRefusal(a.spreads, at, m); reason != "" {
		return PodTopologySpread, reason, resolvable
	}
	if reason, resolvable := a.interpod.refusal(at, m); reason != "" {
		return InterPodAffinity, reason, resolvable
	}
	return "", "", false
}

// verdict is why one node cannot take a class; no reasons means that it can.
type verdict struct {
	// plugin that refuses it, as upstream names it.
	plugin  string
	reasons []string
	// resolvable is upstream's Unschedulable, as opposed to UnschedulableAndUnresolvable: other pods
	// stand in the way, and taking them off the node may help.
	resolvable bool
}

// judge asks the rules in upstream's order about a node: with the pods that are nominated to it and that the class yields
// to, and without them, since some rules ask for pods and others keep away from them.
//
// Upstream: RunFilterPluginsWithNominatedPods in framework/runtime/framework.go.
func (a *around) judge(c *class, m *room) verdict {
	if plugin, reason := refusal(c, m.node.node); reason != "" {
		return verdict{plugin: plugin, reasons: []string{reason}}
	}
	return a.judgeOthers(c, m)
}

// judgeOthers is judge for a node that the rules over its object alone let in.
func (a *around) judgeOthers(c *class, m *room) verdict {
	if nominated := c.yieldsTo(m.node); len(nominated) > 0 {
		with := m.sketch()
		for _, e := range nominated {
			with.think(e)
		}
		if v := a.judgeRoom(c, &with); len(v.reasons) > 0 {
			return v
		}
	}
	return a.judgeRoom(c, m)
}

// judgeRoom asks the rules that look at other pods.
func (a *around) judgeRoom(c *class, m *room) verdict {
	if !m.ports.free(c.ports) {
		return verdict{NodePorts, []string{reasonPorts}, true}
	}
	if !c.request.fits(&m.node.offered, m.used) {
		reasons, resolvable := c.request.shortfalls(&m.node.offered, m.used)
		return verdict{NodeResourcesFit, reasons, resolvable}
	}
	if plugin, reason, resolvable := a.refusal(m.node.at, &m.moved); reason != "" {
		return verdict{plugin, []string{reason}, resolvable}
	}
	return verdict{}
}
