package scheduling

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// whatIfRounds bounds the runs of one question. Each run but the last preempts somebody, for a pod of higher priority.
	whatIfRounds = 16
	// hintedKinds bounds the kinds of failed pods that get hints, each of which costs some ten evaluations.
	hintedKinds = 20
)

// Change is what is thought to happen to a cluster.
type Change struct {
	// Pods come and wait. One whose name is taken takes the place of the other; one that names its node is on it at once.
	Pods []*corev1.Pod
	// Claims come with them, but for those that are there already, and Controllers tell which pods belong together.
	Claims         []*corev1.PersistentVolumeClaim
	ResourceClaims []*resourceapi.ResourceClaim
	Controllers    []Controller
	// Add are nodes that come.
	Add []Growth
	// Remove are the names of nodes that go. Pods on them that their controllers make again wait again; those of
	// DaemonSets, mirror pods and those that are going already do not, and pods without a controller are lost.
	Remove []string
}

// Controller is a ReplicationController, ReplicaSet or StatefulSet, as SetController takes it.
type Controller struct {
	Kind, Namespace, Name string
	Selector              *metav1.LabelSelector
}

// Origin tells why a pod looked for a node.
type Origin string

// The origins.
const (
	// Came is that of a pod of the change.
	Came Origin = "New"
	// Waited is that of one that waited before.
	Waited Origin = "Waiting"
	// Moved is that of one whose node goes, or that was preempted.
	Moved Origin = "Moved"
)

// Outcome is what would come of a change.
type Outcome struct {
	// Moves are the pods that get a node, in the order of decisions.
	Moves []Move
	// Preemptions are the pods that go for them, or for pods that find no node all the same.
	Preemptions []Preemption
	// Unfit are the pods that no node takes, in queue order.
	Unfit []Unfit
	// Unasked are pods of the change that nobody looks for a node for: those that name theirs, those that a gate holds, and
	// those of other schedulers.
	Unasked []*corev1.Pod
	// Held are pods that came or lost their node and are not looked at, since their claims for devices are not there, by name.
	Held []Held
	// Lost are the pods of nodes that go, and those preempted, which have no controller that makes them again, by name.
	Lost []*corev1.Pod
	// Nodes tell what is taken of each node, before and after, by name.
	Nodes []Utilisation
	// Unknown are names of nodes that were to go and are not there.
	Unknown []string
}

// Held is a pod that is not looked at yet, and why, in upstream's words.
type Held struct {
	Pod    *corev1.Pod
	Reason string
}

// Move is a pod that gets a node.
type Move struct {
	Pod    *corev1.Pod
	Origin Origin
	// From is the node that it is on now, empty for none.
	From, Node string
}

// Unfit is a pod that no node takes.
type Unfit struct {
	Pod    *corev1.Pod
	Origin Origin
	From   string
	// Message is upstream's, and Hints are what would make the pod fit.
	Message string
	Hints   []Hint
}

// Utilisation is what is taken of a node.
type Utilisation struct {
	Node           string
	Added, Removed bool
	// CPU is in thousandths, Memory in bytes.
	CPU, Memory, Pods Usage
}

// Usage is what a node offers of something and what pods ask for of it. A node that comes had nothing before, and one that
// goes has nothing after.
type Usage struct{ Allocatable, Before, After int64 }

// WhatIf answers what would come of a change: it makes the change, has [Cluster.Place] decide until nothing is left to do,
// letting victims of preemption go at once, and takes everything back. The cluster then answers as before.
//
// It costs what the change costs and one run of Place for each time that somebody is preempted, and is not a copy of the
// cluster: the caller must not use the cluster for anything else meanwhile, as ever.
func (c *Cluster) WhatIf(change Change, seed uint64, now time.Time) Outcome {
	w := &whatIf{trial: trial{cluster: c}, now: metav1.NewTime(now), moves: map[types.NamespacedName]Move{}, from: map[types.NamespacedName]string{}}
	defer w.end()

	// 1. What there was.
	for _, n := range c.nodes {
		if n.node != nil {
			w.out.Nodes = append(w.out.Nodes, n.utilisation())
		}
	}

	// 2. The change.
	w.came = map[types.NamespacedName]bool{}
	w.remove(change.Remove)
	added := w.grow(change.Add)
	w.come(change)

	// 3. Decisions.
	for round := 1; ; round++ {
		result := c.Place(seed, now)
		w.carryOut(&result)
		if len(result.Preemptions) > 0 && round < whatIfRounds {
			continue
		}
		for _, made := range result.Preemptions {
			result.Unschedulable = append(result.Unschedulable, Failure{Pod: made.Pod, Message: made.Message})
		}
		w.fail(result.Unschedulable)
		break
	}

	// 4. What there is.
	w.conclude(added)
	return w.out
}

// whatIf is one question under way.
type whatIf struct {
	trial
	now  metav1.Time
	out  Outcome
	came map[types.NamespacedName]bool
	// from are the nodes of pods that lost theirs, and moves the decisions, by pod.
	from  map[types.NamespacedName]string
	moves map[types.NamespacedName]Move
	order []types.NamespacedName
}

func nameOf(pod *corev1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
}

// remove has nodes go.
func (w *whatIf) remove(names []string) {
	for _, name := range names {
		if w.cluster.NodeNamed(name) == nil {
			w.out.Unknown = append(w.out.Unknown, name)
			continue
		}
		pods := slices.Clone(w.cluster.nodes[w.cluster.index[name]].pods)
		w.deleteNode(name)
		slices.SortFunc(pods, func(a, b *entry) int { return byPodName(a.pod, b.pod) })
		for _, e := range pods {
			w.from[nameOf(e.pod)] = name
			w.displace(e.pod)
		}
	}
}

// displace takes a pod off its node.
func (w *whatIf) displace(pod *corev1.Pod) {
	w.deletePod(pod.Namespace, pod.Name)
	w.giveBack(pod)
	switch fateOf(pod) {
	case returns:
		again := anew(pod, w.now)
		again.Status.ResourceClaimStatuses = pod.Status.ResourceClaimStatuses // as if they were made anew, too
		w.setPod(again)
	case lost:
		w.out.Lost = append(w.out.Lost, pod)
	case stays:
	}
}

// giveBack takes a pod off the claims for devices that it used. Those that nobody uses any more have none then, and one that was
// made for its extended resources goes.
func (w *whatIf) giveBack(pod *corev1.Pod) {
	d := &w.cluster.devices
	claims, _ := d.claimsOf(pod)
	for _, claim := range claims {
		after := claim.DeepCopy()
		after.Status.ReservedFor = slices.DeleteFunc(after.Status.ReservedFor, func(r resourceapi.ResourceClaimConsumerReference) bool { return r.UID == pod.UID })
		if len(after.Status.ReservedFor) == 0 {
			after.Status = resourceapi.ResourceClaimStatus{}
		}
		w.setResourceClaim(after)
	}
	if special := d.special[pod.UID]; special != nil {
		w.deleteResourceClaim(special)
	}
}

// grow has nodes come, and returns their names.
func (w *whatIf) grow(growths []Growth) map[string]bool {
	added := map[string]bool{}
	if len(growths) == 0 {
		return added
	}
	daemons := w.cluster.daemons()
	for _, g := range growths {
		for _, name := range w.add(g, daemons, w.now) {
			added[name] = true
		}
	}
	return added
}

// come has pods come, with what they need.
func (w *whatIf) come(change Change) {
	for _, o := range change.Controllers {
		w.setController(o)
	}
	for _, pvc := range change.Claims {
		if old := w.cluster.storage.claims[types.NamespacedName{Namespace: pvc.Namespace, Name: pvc.Name}]; old == nil || old.object == nil {
			w.setClaim(pvc)
		}
	}
	for _, claim := range change.ResourceClaims {
		if w.cluster.devices.claims[nameOfClaim(claim)] == nil {
			w.setResourceClaim(claim)
		}
	}
	for _, pod := range change.Pods {
		name := nameOf(pod)
		w.came[name] = true
		w.setPod(pod)
		if w.cluster.waiting[name] == nil {
			w.out.Unasked = append(w.out.Unasked, pod)
		}
	}
}

func (w *whatIf) originOf(name types.NamespacedName) Origin {
	switch {
	case w.came[name]:
		return Came
	case w.from[name] != "":
		return Moved
	}
	return Waited
}

// carryOut does what a run decided, and what others do upon that: victims go, and controllers make them again.
func (w *whatIf) carryOut(result *Result) {
	for _, placed := range result.Placements {
		name := nameOf(placed.Pod)
		bound := *placed.Pod
		bound.Spec.NodeName = placed.Node
		w.setPod(&bound)
		for _, pv := range placed.Volumes {
			w.setVolume(pv)
		}
		for _, pvc := range placed.Claims {
			w.setClaim(pvc)
		}
		for _, use := range placed.Devices {
			w.setResourceClaim(use.After)
		}
		w.moves[name] = Move{Pod: placed.Pod, Origin: w.originOf(name), From: w.from[name], Node: placed.Node}
		w.order = append(w.order, name)
	}
	for _, made := range result.Preemptions {
		hopes := *made.Pod
		hopes.Status.NominatedNodeName = made.Node
		w.setPod(&hopes)
		for _, pod := range made.Yields {
			yields := *pod
			yields.Status.NominatedNodeName = ""
			w.setPod(&yields)
		}
		for _, v := range made.Victims {
			name := nameOf(v)
			if _, again := w.moves[name]; !again {
				w.from[name] = made.Node
			}
			delete(w.moves, name)
			w.displace(v)
		}
	}
	w.out.Preemptions = append(w.out.Preemptions, result.Preemptions...)
}

// fail tells of pods that no node takes what would make them fit. Pods that no rule can tell apart are told the same.
func (w *whatIf) fail(failures []Failure) {
	type kind struct {
		class         *class
		kin           *kin
		neighbourhood *neighbourhood
		mounts        *mounts
		needs         *needs
	}
	hints := map[kind][]Hint{}
	for _, f := range failures {
		name := nameOf(f.Pod)
		e := w.cluster.waiting[name]
		k := kind{e.class, e.kin, e.neighbourhood, e.mounts, nil}
		if w.cluster.devices.concern(e.needs) {
			k.needs = e.needs
		}
		if _, known := hints[k]; !known && len(hints) < hintedKinds {
			hints[k] = w.cluster.Hints(f.Pod, w.cluster.Evaluate(f.Pod, w.now.Time), w.now.Time)
		}
		w.out.Unfit = append(w.out.Unfit, Unfit{f.Pod, w.originOf(name), w.from[name], f.Message, hints[k]})
	}
}

// held tells of the pods that no run looked at.
func (w *whatIf) held() {
	for name, e := range w.cluster.waiting {
		if (w.came[name] || w.from[name] != "") && w.cluster.devices.holds(e.needs) {
			_, reason := w.cluster.devices.claimsOf(e.pod)
			w.out.Held = append(w.out.Held, Held{e.pod, reason})
		}
	}
	slices.SortFunc(w.out.Held, func(a, b Held) int { return byPodName(a.Pod, b.Pod) })
}

// conclude puts the answers in order.
func (w *whatIf) conclude(added map[string]bool) {
	last := map[types.NamespacedName]int{}
	for i, name := range w.order {
		last[name] = i
	}
	for i, name := range w.order {
		if m, is := w.moves[name]; is && last[name] == i {
			w.out.Moves = append(w.out.Moves, m)
		}
	}
	slices.SortFunc(w.out.Lost, byPodName)
	w.held()
	after := map[string]Utilisation{}
	for _, n := range w.cluster.nodes {
		if n.node != nil {
			after[n.name] = n.utilisation()
		}
	}
	for name := range added {
		w.out.Nodes = append(w.out.Nodes, Utilisation{Node: name, Added: true})
	}
	for i := range w.out.Nodes {
		u := &w.out.Nodes[i]
		now, is := after[u.Node]
		if u.Added {
			u.CPU.Allocatable, u.Memory.Allocatable, u.Pods.Allocatable = now.CPU.Allocatable, now.Memory.Allocatable, now.Pods.Allocatable
		}
		u.Removed = !is
		u.CPU.After, u.Memory.After, u.Pods.After = now.CPU.Before, now.Memory.Before, now.Pods.Before
	}
	slices.SortFunc(w.out.Nodes, func(a, b Utilisation) int { return strings.Compare(a.Node, b.Node) })
}

// utilisation is what is taken of a node now.
func (n *nodeState) utilisation() Utilisation {
	return Utilisation{
		Node:   n.name,
		CPU:    Usage{Allocatable: n.offered.cpu, Before: n.used.cpu},
		Memory: Usage{Allocatable: n.offered.memory, Before: n.used.memory},
		Pods:   Usage{Allocatable: n.offered.pods, Before: n.used.pods},
	}
}

func byPodName(a, b *corev1.Pod) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}
