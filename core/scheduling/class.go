package scheduling

import (
	corev1 "k8s.io/api/core/v1"
	features "k8s.io/component-helpers/nodedeclaredfeatures"
)

// class is what the rules see of a pending pod. Pods of one class have equal answers on every node,
// so that a run asks once for all of them.
//
// Upstream: the pod signatures of the OpportunisticBatching gate (KEP 5598).
type class struct {
	profile       *profile
	priority      int32
	neverPreempts bool
	tolerations   []corev1.Toleration
	affinity      affinity
	ports         []hostPort
	request       request
	least         share
	balanced      share
	images        []string
	features      features.FeatureSet
	spreading     spreading
	// wants is for profiles that score other resources than the default one.
	wants wants
	// drawn are the devices if some that the class asks for are scored; what they are worth on a node may change when no node
	// does.
	drawn *devices

	// kept is the view of the last run, nil for none.
	kept *view

	key  string
	refs int
}

func newClass(p *profile, pod *corev1.Pod, spreading spreading) *class {
	policy := pod.Spec.PreemptionPolicy
	c := &class{
		profile:       p,
		priority:      priorityOf(pod),
		neverPreempts: policy != nil && *policy == corev1.PreemptNever,
		tolerations:   pod.Spec.Tolerations,
		affinity:      newAffinity(p, pod),
		ports:         hostPortsOf(pod),
		request:       newRequest(p, pod),
		least:         leastShare(pod),
		balanced:      balancedShare(pod),
		images:        imageNames(pod),
		features:      featuresOf(pod),
		spreading:     spreading,
	}
	if !p.plain {
		c.wants = wantsOf(pod, p)
	}
	if !p.Filters[NodePorts] {
		c.ports = nil
	}
	if p.weights.images == 0 {
		c.images = nil
	}
	return c
}

// chargeOf finds the charge that the pod shares with others, or makes it.
func (c *Cluster) chargeOf(pod *corev1.Pod) *charge {
	c.key = appendResources(c.key[:0], pod)
	shared, ok := c.charges[string(c.key)]
	if !ok {
		shared = newCharge(pod)
		shared.key = string(c.key)
		c.charges[shared.key] = shared
	}
	shared.refs++
	return shared
}

// classOf finds the class that the pod shares with others, or makes it.
func (c *Cluster) classOf(pod *corev1.Pod) *class {
	spreading := c.spreadingOf(pod)
	p := c.profileOf(pod)
	c.key = appendString(c.key[:0], p.SchedulerName)
	c.key = appendSpreading(appendConstraints(appendResources(c.key, pod), pod), &spreading)
	shared, ok := c.classes[string(c.key)]
	if !ok {
		shared = newClass(p, pod, spreading)
		shared.key = string(c.key)
		c.classes[shared.key] = shared
		c.devices.mark(shared)
	}
	shared.refs++
	return shared
}

// release forgets what only this pod needed.
func (c *Cluster) release(e *entry) {
	if e.charge.refs--; e.charge.refs == 0 {
		delete(c.charges, e.charge.key)
	}
	c.releaseNeighbourhood(e.neighbourhood)
	c.releaseMounts(e.mounts)
	if e.class != nil {
		c.releaseClass(e.class)
	}
}

func (c *Cluster) releaseClass(cl *class) {
	if cl.refs--; cl.refs == 0 && cl.kept == nil {
		delete(c.classes, cl.key)
	}
}
