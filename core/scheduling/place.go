package scheduling

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Input is a whole cluster, for callers that keep no [Cluster] between runs.
type Input struct {
	Nodes []*corev1.Node
	// Pods are all pods of the cluster: assigned ones count, waiting ones are placed.
	Pods []*corev1.Pod
	// What pods mount.
	Claims         []*corev1.PersistentVolumeClaim
	Volumes        []*corev1.PersistentVolume
	StorageClasses []*storagev1.StorageClass
	CSINodes       []*storagev1.CSINode
	CSIDrivers     []*storagev1.CSIDriver
	Capacities     []*storagev1.CSIStorageCapacity
	Attachments    []*storagev1.VolumeAttachment
	// Seed breaks ties between nodes with equal scores.
	Seed uint64
	Now  time.Time
}

// Placement is a pod and the node that was chosen for it.
type Placement struct {
	Pod  *corev1.Pod
	Node string
	// Score is the weighted sum of the rules' scores.
	Score int64
	// Nominated is set when room was made for it there before, and no other node was looked at.
	Nominated bool
	// Waits is set if the pod's claims are to be bound before it is bound itself. Volumes are the PersistentVolumes that
	// are given to them for that, and Claims those whose volumes are to be made for the node.
	Waits   bool
	Volumes []*corev1.PersistentVolume
	Claims  []*corev1.PersistentVolumeClaim
	// Turn tells the order of decisions, from 1.
	Turn int
}

// Failure is a pod that no node can take, and why, in upstream's words.
type Failure struct {
	Pod     *corev1.Pod
	Message string
	// Forget is set when the pod loses its nomination to a node.
	Forget bool
	// Turn is when it lost it, 0 if it yielded it to a pod of higher priority.
	Turn int
}

// Result is what a run decided: placements in the order in which they were made, the others in queue order.
type Result struct {
	Placements    []Placement
	Preemptions   []Preemption
	Unschedulable []Failure
	// Neighbours is set when some placement depends on pods of other nodes.
	Neighbours bool
	Plan       plan.Plan
}

// run is one pass over the pending pods.
type run struct {
	cluster *Cluster
	seed    uint64
	now     time.Time
	boards  map[group]*board
	// left counts the pods of each group that are still to be served.
	left map[group]int
	// heard are the terms of pods on nodes that concern pods of a kind.
	heard map[*kin]hearing
	// steps are what happened to nodes, in order.
	steps       []step
	assumed     []*entry
	placements  []Placement
	preemptions []Preemption
	prospects   map[group]*prospects
	// yielded are the pods that lost their nomination to one of higher priority.
	yielded map[*entry]bool
	// opened counts what may let in pods that failed: placements, and nominations that are given up.
	opened int
	// turn counts decisions, and forgot are the turns at which nominations were given up.
	turn   int
	forgot map[*entry]int
	// neighbours is set when one of them depends on pods of other nodes.
	neighbours bool
	// failedAt tells how much was opened when a group failed, and hopeless are the groups that no node can take in this run.
	failedAt map[group]int
	hopeless map[group]bool
}

// step is something that happened to a node: it got a pod, or, without one, other nominations.
type step struct {
	at  int
	pod *entry
}

// group is pods that no rule can tell apart: of one class, that ask the same of other pods, and hear the same from them.
type group struct {
	class         *class
	neighbourhood *neighbourhood
	hears         string
	mounts        *mounts
}

// hearing is the terms that concern pods of a kind, and a text that tells them apart.
type hearing struct {
	terms []*carried
	text  string
}

// groupOf returns the group of a pod in this run.
func (r *run) groupOf(e *entry) group {
	h, known := r.heard[e.kin]
	if !known {
		h.terms, h.text = r.cluster.heard(e.kin)
		r.heard[e.kin] = h
	}
	g := group{e.class, e.neighbourhood, h.text, e.mounts}
	if e.neighbourhood != nil && e.neighbourhood.wants(r.cluster, e.kin) {
		g.hears += "itself"
	}
	return g
}

// Place decides for every waiting pod of a cluster.
func Place(in Input) Result {
	c := NewCluster()
	for _, node := range in.Nodes {
		c.SetNode(node)
	}
	for _, pod := range in.Pods {
		c.SetPod(pod)
	}
	each(in.Claims, c.SetClaim)
	each(in.Volumes, c.SetVolume)
	each(in.StorageClasses, c.SetStorageClass)
	each(in.CSINodes, c.SetCSINode)
	each(in.CSIDrivers, c.SetCSIDriver)
	each(in.Capacities, c.SetStorageCapacity)
	each(in.Attachments, c.SetAttachment)
	return c.Place(in.Seed, in.Now)
}

func each[T any](objects []T, set func(T)) {
	for _, object := range objects {
		set(object)
	}
}

// Place decides for every waiting pod, in queue order, and leaves the cluster as it was: placements
// take effect here when their pods come back through SetPod.
//
// Upstream: schedulePod in pkg/scheduler/schedule_one.go.
func (c *Cluster) Place(seed uint64, now time.Time) Result {
	r := newRun(c, seed, now)

	c.settleColumns()
	c.regroup()

	// 1. The queue.
	waiting := make([]*entry, 0, len(c.waiting))
	for _, e := range c.waiting {
		waiting = append(waiting, e)
	}
	inQueueOrder(waiting)
	waiting = c.storage.promisedFirst(waiting)

	// 2. A node for each. Pods that others let in by coming are tried again, after all others.
	failed := r.pass(waiting)
	for before := 0; before < r.opened; {
		before = r.opened
		failed = r.pass(failed)
	}

	// 3. Reasons, of the cluster as it now is.
	failures := r.conclude(failed)
	result := Result{Placements: r.placements, Preemptions: r.preemptions, Unschedulable: failures, Neighbours: r.neighbours}

	// 4. All this was assumed only for this run.
	for _, p := range r.prospects {
		p.release(c)
	}
	for _, e := range r.assumed {
		e.on.take(e)
		e.assumed = false
	}
	if len(r.steps) > len(r.assumed) {
		c.nominateAsBefore(waiting)
	}
	c.storage.forget()

	// 5. What to write.
	result.Plan = planOf(&result, now)
	c.settle(&result)
	return result
}

func newRun(c *Cluster, seed uint64, now time.Time) *run {
	return &run{
		cluster: c, seed: seed, now: now, boards: map[group]*board{}, left: map[group]int{}, heard: map[*kin]hearing{},
		prospects: map[group]*prospects{}, yielded: map[*entry]bool{}, forgot: map[*entry]int{}, failedAt: map[group]int{}, hopeless: map[group]bool{},
	}
}

// pass gives each pod a node, or makes room for it, and returns the others.
func (r *run) pass(waiting []*entry) (failed []*entry) {
	for _, e := range waiting {
		r.left[r.groupOf(e)]++
	}
	for _, e := range waiting {
		g := r.groupOf(e)
		nominee := r.withdraw(e) // it is not in its own way
		n, placed := r.nodeFor(g, e, nominee)
		if n != nil {
			does := r.boards[g].volumes.assume(n)
			placed.Waits, placed.Volumes, placed.Claims = does.waits, does.volumes, does.claims
		}
		r.retire(g)
		if n == nil {
			if !r.makeRoom(g, e, nominee) {
				failed = append(failed, e)
			}
			continue
		}
		n.put(e)
		e.assumed = true
		r.opened++
		r.turn++
		placed.Turn = r.turn
		r.steps = append(r.steps, step{n.at, e})
		r.assumed = append(r.assumed, e)
		r.placements = append(r.placements, placed)
	}
	return failed
}

// nodeFor is the best node for the pod, nil when there is none: the one that it was nominated to, if there is room by now.
// Where a group has just failed its other pods do, and where room is all that it lacks it fails for good.
func (r *run) nodeFor(g group, e *entry, nominee *nodeState) (*nodeState, Placement) {
	at, failed := r.failedAt[g]
	if failed = r.hopeless[g] || failed && at == r.opened; failed && nominee == nil {
		return nil, Placement{}
	}
	b := r.boards[g]
	if b == nil {
		b = r.newBoard(g, e.kin)
		r.boards[g] = b
	}
	b.follow(r)
	n, placed := b.nodeFor(r, e, nominee, failed)
	if n == nil {
		r.failedAt[g] = r.opened
		// Room only shrinks during a run, unless it is left to somebody; elsewhere, pods that come may open a node.
		r.hopeless[g] = b.full && b.volumes == nil || !b.asks() && b.volumes == nil && r.cluster.nominations == 0
		return nil, Placement{}
	}
	r.neighbours = r.neighbours || len(b.spreads) > 0 || b.interpod.demands() || b.volumes.demands()
	return n, placed
}

func (b *board) nodeFor(r *run, e *entry, nominee *nodeState, failed bool) (*nodeState, Placement) {
	if b.full {
		return nil, Placement{}
	}
	if nominee != nil && nominee.node != nil {
		m := nominee.asIs()
		if v := b.judge(b.class, &m); len(v.reasons) == 0 {
			return nominee, Placement{Pod: e.pod, Node: nominee.name, Nominated: true}
		}
	}
	if failed {
		return nil, Placement{}
	}
	at, score := b.best(r.cluster, r.saltOf(e))
	if at < 0 {
		return nil, Placement{}
	}
	n := r.cluster.nodes[at]
	return n, Placement{Pod: e.pod, Node: n.name, Score: score}
}

// saltOf breaks ties for a pod.
func (r *run) saltOf(e *entry) uint64 {
	return mix(r.seed ^ hashString(e.pod.Namespace+"/"+e.pod.Name))
}

// retire lets go of the board of a group whose last pod was served.
func (r *run) retire(g group) {
	if r.left[g]--; r.left[g] > 0 {
		return
	}
	b := r.boards[g]
	if b == nil {
		return
	}
	b.release(r.cluster)
	delete(r.boards, g)
}
