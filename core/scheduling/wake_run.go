package scheduling

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// place is where a pod is on a node, or where room is left to it; no node if neither.
type place struct {
	node string
	on   bool
}

func placeOf(e *entry) place {
	switch {
	case e == nil:
	case e.on != nil:
		return place{e.on.name, true}
	case e.nominee != nil:
		return place{e.nominee.name, false}
	}
	return place{}
}

// podChanged tells of a pod that was in one place and is in another now, or is nil. What came as a run took it for granted is
// no news: those who sleep have failed with it.
func (c *Cluster) podChanged(old *entry, was place, e *entry) {
	d, is := &c.dormitory, placeOf(e)
	if old != nil {
		x, expected := d.expected[old]
		d.leave(old)
		if e == nil || is.on {
			delete(c.refusals, old.pod.UID)
		}
		switch {
		case !expected:
		case x.isMet(old, e, is):
			c.tellNothing()
			if x.waits && !is.on {
				d.expected[e] = x
			}
			return
		default:
			d.stirAll()
		}
	}
	if was.on && is == was && old.pod.UID == e.pod.UID {
		tell(c, podHint, old, e)
		return
	}
	c.tellNothing()
	if was.node != "" {
		tell(c, podHint, old, nil)
	}
	if is.on {
		tell(c, podHint, nil, e)
	}
}

// isMet reports whether a pod is where a run has put it, and otherwise as it was.
func (x expectation) isMet(old, e *entry, is place) bool {
	if is.node != x.node {
		return false
	}
	if e == nil {
		return true
	}
	if old.kin.key != e.kin.key || old.charge.key != e.charge.key {
		return false
	}
	return is.on == x.placed || x.waits
}

// expect notes what a run took for granted, if there is anybody who failed since.
func (c *Cluster) expect(result *Result) {
	d := &c.dormitory
	clear(d.expected)
	if len(d.sleepers) == 0 {
		return
	}
	note := func(pod *corev1.Pod, x expectation) {
		d.expected[c.pods[nameOf(pod)]] = x
	}
	for i := range result.Placements {
		p := &result.Placements[i]
		note(p.Pod, expectation{node: p.Node, placed: true, waits: p.Waits})
	}
	for i := range result.Preemptions {
		made := &result.Preemptions[i]
		note(made.Pod, expectation{node: made.Node})
		for _, yields := range made.Yields {
			note(yields, expectation{})
		}
	}
	for i := range result.Unschedulable {
		if failed := &result.Unschedulable[i]; failed.Forget {
			note(failed.Pod, expectation{})
		}
	}
}

// tellPlaced tells that a pod was placed, and that room is not left to it elsewhere any more.
func (r *run) tellPlaced(e *entry, nominee *nodeState, placed *Placement) {
	c := r.cluster
	if nominee != nil && nominee != e.on {
		tell(c, podHint, e, nil)
	}
	tell(c, podHint, nil, e)
	for _, pv := range placed.Volumes {
		tell(c, volumeHint, c.storage.volumes[pv.Name].object, pv)
	}
	for _, pvc := range placed.Claims {
		tell(c, claimHint, pvc, pvc)
	}
	for _, use := range placed.Devices {
		if use.Before != use.After {
			tell(c, deviceClaimHint, use.Before, use.After)
		}
	}
}

// tellUnkept wakes everybody if a pod that a run before this one has promised a node is not on it now.
func (r *run) tellUnkept(e *entry) {
	d := &r.cluster.dormitory
	if x, expected := d.expected[e]; expected && (e.on == nil || e.on.name != x.node) {
		d.stirAll()
	}
}

// joinWoken puts pods that woke in the turn of one pod into the queue if their turn comes, and to those that failed if it
// is over.
func (r *run) joinWoken(e *entry, queue, failed []*entry) (joined, missed []*entry) {
	d := &r.cluster.dormitory
	woken := d.woken
	if d.woken = nil; len(woken) == 0 {
		return queue, failed
	}
	queue = slices.Clone(queue)
	for _, w := range woken {
		switch {
		case r.cluster.isLeftAlone(w, r.now):
		case r.inTurn(e, w) < 0:
			r.left[r.groupOf(w)]++
			queue = append(queue, w)
		default:
			failed = append(failed, w)
		}
	}
	slices.SortFunc(queue, r.inTurn)
	return queue, failed
}
