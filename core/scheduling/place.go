package scheduling

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
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
	// What there is of devices, and who has them.
	ResourceClaims   []*resourceapi.ResourceClaim
	ResourceSlices   []*resourceapi.ResourceSlice
	DeviceClasses    []*resourceapi.DeviceClass
	DeviceTaintRules []*resourceapi.DeviceTaintRule
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
	// Waits is set if the pod's claims are to be bound, or its devices to be made ready, before it is bound itself. Volumes
	// are the PersistentVolumes that are given to them for that, and Claims those whose volumes are to be made for the node.
	Waits   bool
	Volumes []*corev1.PersistentVolume
	Claims  []*corev1.PersistentVolumeClaim
	// Devices are the claims for devices that it uses. ExtendedClaim is what its status has to say of the one for extended
	// resources, nil for nothing.
	Devices       []ClaimUse
	ExtendedClaim *corev1.PodExtendedResourceClaimStatus
	// AwaitsDrivers is set if drivers have to make its devices ready. Until is when they are given up, zero for never.
	AwaitsDrivers bool
	Until         time.Time
	// Turn tells the order of decisions, from 1.
	Turn int
}

// Failure is a pod that no node can take, and why, in upstream's words.
type Failure struct {
	Pod     *corev1.Pod
	Message string
	// Fault is set if something about the pod makes no sense: Message is an error, and no node was told from others.
	Fault bool
	// Release is a claim for devices that is given back for it, nil for none.
	Release *Release
	// Forget is set when the pod loses its nomination to a node.
	Forget bool
}

// GivenUp is a nomination that a pod gave up, since neither the node nor preemption helped it any more. The pod may have
// got a node later in the run.
type GivenUp struct {
	Pod *corev1.Pod
	// Turn tells the order of decisions, as those of placements do.
	Turn int
}

// Result is what a run decided: placements in the order in which they were made, the others in queue order.
type Result struct {
	Placements    []Placement
	Preemptions   []Preemption
	Unschedulable []Failure
	GivenUp       []GivenUp
	// Neighbours is set when some placement depends on pods of other nodes.
	Neighbours bool
	// Allocates is set when some placement depends on which devices claims have.
	Allocates bool
	Plan      plan.Plan
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
	// opened counts what may let in pods that failed: placements, and nominations that are given up or moved.
	opened int
	// turn counts decisions.
	turn int
	// forgot are the pods that gave their nomination up.
	forgot  map[*entry]bool
	givenUp []GivenUp
	// neighbours is set when one of them depends on pods of other nodes.
	neighbours bool
	// allocates is set when one of them depends on which devices claims have.
	allocates bool
	// failedAt tells how much was opened when a group failed, and hopeless are the groups that no node can take in this run.
	failedAt map[group]int
	hopeless map[group]bool
	// promised are the pods that were promised a node, which come first.
	promised map[*entry]bool
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
	// needs are of one pod, nil for those that devices have no say in.
	needs *needs
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
	g := group{class: e.class, neighbourhood: e.neighbourhood, hears: h.text, mounts: e.mounts}
	if r.cluster.devices.concern(e.needs) {
		g.needs = e.needs
	}
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
	each(in.ResourceClaims, c.SetResourceClaim)
	each(in.ResourceSlices, c.SetResourceSlice)
	each(in.DeviceClasses, c.SetDeviceClass)
	each(in.DeviceTaintRules, c.SetDeviceTaintRule)
	return c.Place(in.Seed, in.Now)
}

func each[T any](objects []T, set func(T)) {
	for _, object := range objects {
		set(object)
	}
}

// Place decides for every waiting pod, in queue order, and leaves the cluster as it was: placements
// take effect here when their pods come back through SetPod. Pods that are left alone for a while ([Cluster.Refused]) are
// none of them.
//
// Upstream: schedulePod in pkg/scheduler/schedule_one.go.
func (c *Cluster) Place(seed uint64, now time.Time) Result {
	c.dormitory.stirAll()
	return c.PlaceWoken(seed, now)
}

// PlaceWoken is Place without the pods that no node took in an earlier run and that nothing since could let in: it places the
// same. They keep what they were told.
func (c *Cluster) PlaceWoken(seed uint64, now time.Time) Result {
	r := newRun(c, seed, now)

	c.settleColumns()
	c.rouse()

	// 1. The queue.
	waiting := slices.Collect(maps.Keys(c.dormitory.awake))
	waiting = slices.DeleteFunc(waiting, func(e *entry) bool { return c.devices.holds(e.needs) })
	queue := slices.DeleteFunc(slices.Clone(waiting), func(e *entry) bool { return c.isLeftAlone(e, now) })
	c.dormitory.woken = nil
	for _, e := range queue {
		if c.promised(e) {
			r.promised[e] = true
		}
	}
	slices.SortFunc(queue, r.inTurn)

	// 2. A node for each. Pods that others let in by coming are tried again, after all others.
	failed := r.pass(queue)
	for before := 0; before < r.opened; {
		before = r.opened
		failed = r.pass(failed)
	}

	// 3. Reasons, of the cluster as it now is.
	failures := r.conclude(failed)
	result := Result{
		Placements: r.placements, Preemptions: r.preemptions, Unschedulable: failures, GivenUp: r.givenUp, Neighbours: r.neighbours, Allocates: r.allocates,
	}

	// 4. All this was assumed only for this run.
	for _, p := range r.prospects {
		p.release(c)
	}
	for _, e := range r.assumed {
		e.on.take(e)
		e.assumed = false
	}
	if len(r.steps) > len(r.assumed) {
		r.nominateAsBefore(waiting)
	}
	c.storage.forget()
	c.devices.forget()
	c.expect(&result)

	// 5. What to write.
	result.Plan = planOf(&result, now)
	c.settle(&result, len(queue) < len(waiting))
	return result
}

func newRun(c *Cluster, seed uint64, now time.Time) *run {
	return &run{
		cluster: c, seed: seed, now: now, boards: map[group]*board{}, left: map[group]int{}, heard: map[*kin]hearing{},
		prospects: map[group]*prospects{}, yielded: map[*entry]bool{}, forgot: map[*entry]bool{}, failedAt: map[group]int{}, hopeless: map[group]bool{},
		promised: map[*entry]bool{},
	}
}

// pass gives each pod a node, or makes room for it, and returns the others.
func (r *run) pass(queue []*entry) (failed []*entry) {
	for _, e := range queue {
		r.left[r.groupOf(e)]++
	}
	for len(queue) > 0 {
		e := queue[0]
		queue = queue[1:]
		if !r.serve(e) {
			failed = append(failed, e)
		}
		r.tellUnkept(e)
		queue, failed = r.joinWoken(e, queue, failed)
	}
	slices.SortFunc(failed, r.inTurn)
	return failed
}

// serve gives a pod a node, or makes room for it, and reports whether it could.
func (r *run) serve(e *entry) bool {
	g := r.groupOf(e)
	nominee := r.withdraw(e) // it is not in its own way
	n, placed := r.nodeFor(g, e, nominee)
	if n != nil {
		r.assume(g, n, &placed)
	}
	r.retire(g)
	if n == nil {
		return r.makeRoom(g, e, nominee)
	}
	n.put(e)
	e.assumed = true
	r.opened++
	r.turn++
	placed.Turn = r.turn
	r.steps = append(r.steps, step{n.at, e})
	r.assumed = append(r.assumed, e)
	r.placements = append(r.placements, placed)
	r.tellPlaced(e, nominee, &placed)
	return true
}

// assume takes for granted what a placement writes beside the pod.
func (r *run) assume(g group, n *nodeState, placed *Placement) {
	b := r.boards[g]
	does := b.volumes.assume(n)
	placed.Waits, placed.Volumes, placed.Claims = does.waits, does.volumes, does.claims
	gets := b.devices.assume(n, r.seed)
	placed.Waits = placed.Waits || gets.waits
	placed.Devices, placed.ExtendedClaim = gets.uses, gets.extended
	placed.AwaitsDrivers, placed.Until = gets.waits, gets.until
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
		shrinks := !b.asks() && b.fault() == "" && r.cluster.nominations == 0
		r.hopeless[g] = b.volumes == nil && (b.full || shrinks)
		return nil, Placement{}
	}
	r.neighbours = r.neighbours || len(b.spreads) > 0 || b.interpod.demands() || b.volumes.demands()
	r.allocates = r.allocates || b.devices.demands()
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
	if failed || b.fault() != "" {
		return nil, Placement{}
	}
	at, score := b.best(r.cluster, r.saltOf(e))
	if at < 0 || b.fault() != "" {
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
