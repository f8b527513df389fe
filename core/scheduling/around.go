package scheduling

// around is the pods of all nodes, as far as a group's rules ask about pods on other nodes, kept up during a run.
type around struct {
	spreads  []*spread
	interpod *interpod
	// volumes is what the group mounts, and devices what it asks for of devices; nil for nothing.
	volumes *volumes
	devices *allocating
	// barred is why no node at all can take the group.
	barred verdict
}

// around starts it for a group. The caller releases it.
func (r *run) around(g group, k *kin) around {
	volumes, devices := r.cluster.newVolumes(g.class.profile, g.mounts), r.cluster.newAllocating(g.class.profile, g.needs, r.now)
	return around{
		spreads:  r.cluster.newSpreads(g.class, g.class.spreading.hard, true),
		interpod: r.cluster.newInterpod(g.class.profile, g.neighbourhood, k, r.heard[k].terms),
		volumes:  volumes,
		devices:  devices,
		barred:   bars(g.class, volumes, devices),
	}
}

// bars is why no node at all can take the class with its volumes and devices, found before nodes are looked at.
//
// Upstream: RunPreFilterPlugins in framework/runtime/framework.go.
func bars(c *class, v *volumes, a *allocating) verdict {
	switch {
	case c.affinity.conflict():
		return verdict{plugin: NodeAffinity, reasons: []string{reasonAffinityConflict}}
	case v != nil && len(v.barred.reasons) > 0:
		return v.barred
	case a != nil:
		return a.barred
	}
	return verdict{}
}

// isBarred reports whether no node at all can take the group.
func (a *around) isBarred() bool { return len(a.barred.reasons) > 0 }

// refresh looks at the group's volumes and devices again if what the run has assumed of others may have changed the
// answers, and reports whether it did.
func (a *around) refresh(c *Cluster) (anew bool) {
	if a.devices.stale() {
		a.devices, anew = a.devices.again(), true
	}
	if a.volumes.stale() {
		a.volumes, anew = c.newVolumes(a.volumes.profile, a.volumes.mounts), true
	}
	return anew
}

// fault is what makes no sense about the group, as far as is known, whatever node: nobody looks further then.
func (a *around) fault() string {
	if a.devices == nil || a.isBarred() {
		return ""
	}
	return a.devices.fault
}

func (a *around) release(c *Cluster) {
	c.releaseSpreads(a.spreads)
	c.releaseInterpod(a.interpod)
}

// asks reports whether a placement on one node may change what others are worth, volumes aside.
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
		with := m.with(nominated)
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
	if v := a.volumes.refusal(m.node, &m.moved); len(v.reasons) > 0 {
		return v
	}
	if plugin, reason, resolvable := a.refusal(m.node.at, &m.moved); reason != "" {
		return verdict{plugin, []string{reason}, resolvable}
	}
	if v := a.devices.refusal(m.node); len(v.reasons) > 0 {
		return v
	}
	if !m.node.declares(c) {
		return verdict{plugin: NodeDeclaredFeatures, reasons: []string{reasonFeatures}}
	}
	return verdict{}
}
