package scheduling

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// A pod that made room for itself by preemption is nominated to the node: pods of no higher priority leave that room to it
// while the victims go.
//
// Upstream: backend/queue/nominator.go, and addGENominatedPods in framework/runtime/framework.go.

// hopes reports whether room is left to a pod that nobody looks for a node for: one that is nominated, and gated.
//
// Upstream: Add and Update of backend/queue/scheduling_queue.go tell the nominator of every pod without a node.
func (c *Cluster) hopes(pod *corev1.Pod) bool {
	return pod.Spec.NodeName == "" && pod.Status.NominatedNodeName != "" && !finished(pod) && c.profileOf(pod) != nil && c.isGated(pod)
}

// nominate leaves room on a node to a pod.
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

// nominateAsBefore undoes what a run did to nominations: of the pods that it looked at, and of those that had to yield.
func (r *run) nominateAsBefore(queue []*entry) {
	for _, e := range slices.AppendSeq(slices.Clone(queue), maps.Keys(r.yielded)) {
		r.cluster.withdraw(e)
		if name := e.pod.Status.NominatedNodeName; name != "" {
			r.cluster.nominate(e, r.cluster.nodeNamed(name))
		}
	}
}

// passesOver reports whether the run does not look for a node for a pod.
func (r *run) passesOver(e *entry) bool {
	c := r.cluster
	return c.waiting[nameOf(e.pod)] != e || c.devices.holds(e.needs) || c.isLeftAlone(e, r.now)
}
