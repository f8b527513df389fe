package scheduling

// A pod that made room for itself by preemption is nominated to the node: pods of no higher priority leave that room to it
// while the victims go.
//
// Upstream: backend/queue/nominator.go, and addGENominatedPods in framework/runtime/framework.go.

// nominate leaves room on a node to a waiting pod.
func (c *Cluster) nominate(e *entry, n *nodeState) {
	n.journal.touch(n.at)
	e.nominee = n
	n.nominated = append(n.nominated, e)
	c.nominations++
}

// withdraw takes a nomination back, and returns the node that it was of, nil for none.
func (c *Cluster) withdraw(e *entry) *nodeState {
	n := e.nominee
	if n == nil {
		return nil
	}
	n.journal.touch(n.at)
	e.nominee = nil
	for i, other := range n.nominated {
		if other == e {
			n.nominated = append(n.nominated[:i], n.nominated[i+1:]...)
			break
		}
	}
	c.nominations--
	return n
}

// yieldsTo are the pods that are nominated to a node and that the class may not take the room of.
func (cl *class) yieldsTo(n *nodeState) []*entry {
	var out []*entry
	for _, e := range n.nominated {
		if e.class.priority >= cl.priority {
			out = append(out, e)
		}
	}
	return out
}

// fitsBeside reports whether the class has room on a node beside the pods that are nominated to it.
func (cl *class) fitsBeside(n *nodeState) bool {
	asIs := n.asIs()
	with := asIs.with(cl.yieldsTo(n))
	return with.ports.free(cl.ports) && cl.request.fits(&n.offered, with.used)
}

// withdraw is that of the cluster, which the boards follow.
func (r *run) withdraw(e *entry) *nodeState {
	n := r.cluster.withdraw(e)
	if n != nil {
		r.steps = append(r.steps, step{at: n.at})
	}
	return n
}

// nominate is that of the cluster, which the boards follow.
func (r *run) nominate(e *entry, n *nodeState) {
	r.cluster.nominate(e, n)
	r.steps = append(r.steps, step{at: n.at})
}

// nominateAsBefore undoes what a run did to nominations.
func (c *Cluster) nominateAsBefore(waiting []*entry) {
	for _, e := range waiting {
		c.withdraw(e)
		if name := e.pod.Status.NominatedNodeName; name != "" {
			c.nominate(e, c.nodeNamed(name))
		}
	}
}
