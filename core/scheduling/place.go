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
	// Waits is set if the pod's claims are to be bound before it is bound itself. Volumes are the PersistentVolumes that
	// are given to them for that, and Claims those whose volumes are to be made for the node.
	Waits   bool
	Volumes []*corev1.PersistentVolume
	Claims  []*corev1.PersistentVolumeClaim
}

// Failure is a pod that no node can take, and why, in upstream's words.
type Failure struct {
	Pod     *corev1.Pod
	Message string
}

// Result is what a run decided: placements in the order in which they were made, the others in queue order.
type Result struct {
	Placements    []Placement
	Unschedulable []Failure
	// Neighbours is set when some placement depends on pods of other nodes.
	Neighbours bool
	Plan       plan.Plan
}

// run is one pass over the pending pods.
type run struct {
	cluster *Cluster
	seed    uint64
	boards  map[group]*board
	// left counts the pods of each group that are still to be served; the board of one that is through lends its
	// arrays to the next.
	left  map[group]int
	spare board
	// heard are the terms of pods on nodes that concern pods of a kind.
	heard map[*kin]hearing
	// touched lists the nodes that got a pod, in order.
	touched    []int
	assumed    []*entry
	placements []Placement
	// neighbours is set when one of them depends on pods of other nodes.
	neighbours bool
	// hopeless are the groups that no node can take in this run.
	hopeless map[group]bool
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
	r := newRun(c, seed)

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
	for before := 0; before < len(r.assumed); {
		before = len(r.assumed)
		failed = r.pass(failed)
	}

	// 3. Reasons, once per class, of the cluster as it now is.
	result := Result{Placements: r.placements, Neighbours: r.neighbours}
	messages := map[group]string{}
	for _, e := range failed {
		g := r.groupOf(e)
		if _, known := messages[g]; !known {
			messages[g] = r.explain(g, e.kin)
		}
		result.Unschedulable = append(result.Unschedulable, Failure{Pod: e.pod, Message: messages[g]})
	}

	// 4. The placements were assumed only for this run.
	for _, e := range r.assumed {
		e.on.take(e)
	}
	c.storage.forget()

	// 5. What to write.
	result.Plan = planOf(&result, now)
	return result
}

func newRun(c *Cluster, seed uint64) *run {
	return &run{cluster: c, seed: seed, boards: map[group]*board{}, left: map[group]int{}, heard: map[*kin]hearing{}, hopeless: map[group]bool{}}
}

// pass gives each pod a node, and returns those that no node can take. Where a group has just failed its other pods do,
// and where room is all that it lacks it fails in every pass.
func (r *run) pass(waiting []*entry) (failed []*entry) {
	for _, e := range waiting {
		r.left[r.groupOf(e)]++
	}
	failedAt := map[group]int{}
	for _, e := range waiting {
		g := r.groupOf(e)
		if at, known := failedAt[g]; r.hopeless[g] || known && at == len(r.assumed) {
			failed = append(failed, e)
			r.retire(g)
			continue
		}
		n, score := r.nodeFor(g, e)
		if n == nil {
			r.retire(g)
			failed = append(failed, e)
			failedAt[g] = len(r.assumed)
			continue
		}
		does := r.boards[g].volumes.assume(n)
		r.retire(g)
		n.put(e)
		r.touched = append(r.touched, n.at)
		r.assumed = append(r.assumed, e)
		r.placements = append(r.placements, Placement{
			Pod: e.pod, Node: n.name, Score: score, Waits: does.waits, Volumes: does.volumes, Claims: does.claims,
		})
	}
	return failed
}

// nodeFor is the best node for the pod, nil when there is none.
func (r *run) nodeFor(g group, e *entry) (*nodeState, int64) {
	b, ok := r.boards[g]
	if !ok {
		b = r.newBoard(g, e.kin)
		r.boards[g] = b
	}
	if b.full {
		r.hopeless[g] = true
		return nil, 0
	}
	b.follow(r)
	salt := mix(r.seed ^ hashString(e.pod.Namespace+"/"+e.pod.Name))
	at, score := b.best(r.cluster, salt)
	if e.mounts != nil {
		at, score = b.nominated(r.cluster, e.pod, at, score)
	}
	if at < 0 {
		// Room only shrinks during a run; elsewhere, pods that come may open a node.
		r.hopeless[g] = len(b.hard) == 0 && b.interpod == nil && b.volumes == nil
		return nil, 0
	}
	r.neighbours = r.neighbours || len(b.hard) > 0 || b.interpod.demands() || b.volumes.demands()
	return r.cluster.nodes[at], score
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
	if b.open != nil {
		r.spare = board{open: b.open, byRoom: b.byRoom}
	}
	b.release(r.cluster)
	delete(r.boards, g)
}
