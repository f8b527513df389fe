package scheduling

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// maxHints is how many hints a person reads.
	maxHints = 5
	// maxTried bounds what is tried of one kind: sets of taints, kinds of nodes. Each costs an evaluation of the pod.
	maxTried = 8
)

// The kinds of hints, the best first: what is done to the cluster with the least of effort, then what changes the pod.
const (
	HintPreempt  = "Preempt"
	HintUncordon = "Uncordon"
	HintTolerate = "Tolerate"
	HintLabel    = "Label"
	HintSpread   = "Spread"
	HintPods     = "PodAffinity"
	HintPort     = "HostPort"
	HintVolume   = "Volumes"
	HintMiss     = "Resources"
	HintAdd      = "AddNode"
)

// Hint is something that would let a pod fit.
type Hint struct {
	Kind string
	Text string
	// Nodes are those that would take the pod then, or that come nearest to it, by name.
	Nodes []string
}

// Hints tells what would make a pod fit that no node takes: at most five hints, the best first, none for a pod that fits.
// What they say was tried, by an evaluation of the pod in a cluster changed in that way alone, but for resources when
// nothing else is left to say: then the node is told that comes nearest. The cluster is as it was afterwards.
func (c *Cluster) Hints(pod *corev1.Pod, e Evaluation, now time.Time) []Hint {
	if e.Message == "" || c.profileOf(pod) == nil {
		return nil
	}
	h := &hinter{cluster: c, pod: pod, now: now, seen: e, refused: map[string][]string{}}
	for _, name := range slices.Sorted(maps.Keys(e.Nodes)) {
		plugin := e.Nodes[name].Rejected
		h.refused[plugin] = append(h.refused[plugin], name)
	}
	for _, find := range []func(){
		h.preempt, h.uncordon, h.tolerate, h.label, h.unbind, h.spread, h.unpair, h.freePorts, h.unmount, h.shrink, h.addNode,
	} {
		if find(); len(h.out) >= maxHints {
			return h.out[:maxHints]
		}
	}
	return h.out
}

// hinter is the search for hints for one pod.
type hinter struct {
	cluster *Cluster
	pod     *corev1.Pod
	now     time.Time
	seen    Evaluation
	// refused are the nodes by the plugin that refuses them, by name.
	refused map[string][]string
	out     []Hint
}

// say adds a hint.
func (h *hinter) say(kind string, nodes []string, format string, args ...any) {
	h.out = append(h.out, Hint{Kind: kind, Text: fmt.Sprintf(format, args...), Nodes: nodes})
}

// opened are the nodes that would take a pod, by name.
func (h *hinter) opened(pod *corev1.Pod) []string {
	var out []string
	for name, one := range h.cluster.Evaluate(pod, h.now).Nodes {
		if one.Rejected == "" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// with is what opens for the pod if its spec is changed.
func (h *hinter) with(change func(*corev1.PodSpec)) []string {
	changed := h.pod.DeepCopy()
	change(&changed.Spec)
	return h.opened(changed)
}

// where is what opens for the pod if nodes are changed.
func (h *hinter) where(names []string, change func(*corev1.Node)) []string {
	t := trial{cluster: h.cluster}
	defer t.end()
	for _, name := range names {
		n := h.cluster.NodeNamed(name).DeepCopy()
		change(n)
		t.setNode(n)
	}
	return h.opened(h.pod)
}

// preempt tells whose going would make room: where budgets and priorities mind least.
func (h *hinter) preempt() {
	seen, prefix := h.seen, ""
	if p := h.pod.Spec.PreemptionPolicy; p != nil && *p == corev1.PreemptNever {
		willing := h.pod.DeepCopy()
		willing.Spec.PreemptionPolicy = nil
		seen, prefix = h.cluster.Evaluate(willing, h.now), "with preemptionPolicy PreemptLowerPriority, "
	}
	best := ""
	highest := func(one NodeEvaluation) int32 { return priorityOf(h.cluster.pods[one.Victims[0]].pod) }
	for _, name := range slices.Sorted(maps.Keys(seen.Nodes)) {
		one, b := seen.Nodes[name], seen.Nodes[best]
		if len(one.Victims) == 0 {
			continue
		}
		if best == "" || cmp.Or(
			cmp.Compare(one.Violations, b.Violations), cmp.Compare(highest(one), highest(b)), cmp.Compare(len(one.Victims), len(b.Victims)),
		) < 0 {
			best = name
		}
	}
	if best == "" {
		return
	}
	var names []string
	for _, v := range seen.Nodes[best].Victims {
		names = append(names, v.String())
	}
	budget := ""
	if seen.Nodes[best].Violations > 0 {
		budget = ", against a disruption budget"
	}
	h.say(HintPreempt, []string{best}, "%spreempting %s on %s (lower priority) would make room%s", prefix, inWords(names, "and"), best, budget)
}

// uncordon tries cordoned nodes.
func (h *hinter) uncordon() {
	cordoned := h.refused[NodeUnschedulable]
	opened := h.among(cordoned, h.where(cordoned, func(n *corev1.Node) {
		n.Spec.Unschedulable = false
		n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeUnschedulable })
	}))
	if len(opened) > 0 {
		h.say(HintUncordon, opened, "uncordon %s", inWords(opened, "or"))
	}
}

// among are those of some nodes that are open.
func (h *hinter) among(nodes, open []string) []string {
	return slices.DeleteFunc(open, func(name string) bool { return !slices.Contains(nodes, name) })
}

// spread tries the pod without the constraints that forbid, which spread it.
func (h *hinter) spread() {
	if len(h.refused[PodTopologySpread]) == 0 {
		return
	}
	var keys []string
	opened := h.with(func(s *corev1.PodSpec) {
		for i := range s.TopologySpreadConstraints {
			if t := &s.TopologySpreadConstraints[i]; t.WhenUnsatisfiable == corev1.DoNotSchedule {
				t.WhenUnsatisfiable = corev1.ScheduleAnyway
				keys = append(keys, fmt.Sprintf("%s (maxSkew %d)", t.TopologyKey, t.MaxSkew))
			}
		}
	})
	if len(opened) > 0 {
		h.say(HintSpread, opened, "without having to be spread over %s, %s would take it", inWords(keys, "and"), h.nodes(opened))
	}
}

// unpair tries the pod without what it requires of pods near it, and then of pods apart from it.
func (h *hinter) unpair() {
	a := h.pod.Spec.Affinity
	if len(h.refused[InterPodAffinity]) == 0 || a == nil {
		return
	}
	if p := a.PodAffinity; p != nil && len(p.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
		opened := h.with(func(s *corev1.PodSpec) { s.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution = nil })
		if len(opened) > 0 {
			h.say(HintPods, opened, "without its required pod affinity, %s would take it", h.nodes(opened))
		}
	}
	if p := a.PodAntiAffinity; p != nil && len(p.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
		opened := h.with(func(s *corev1.PodSpec) {
			s.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution = nil
		})
		if len(opened) > 0 {
			h.say(HintPods, opened, "without its required pod anti-affinity, %s would take it", h.nodes(opened))
		}
	}
}

// freePorts tries the pod without its host ports, and tells who has one of them.
func (h *hinter) freePorts() {
	names := h.refused[NodePorts]
	if len(names) == 0 {
		return
	}
	opened := h.with(func(s *corev1.PodSpec) {
		for _, list := range [][]corev1.Container{s.Containers, s.InitContainers} {
			for i := range list {
				list[i].Ports = nil
			}
		}
	})
	opened = h.among(names, opened)
	if len(opened) == 0 {
		return
	}
	n := h.cluster.nodes[h.cluster.index[opened[0]]]
	for _, want := range hostPortsOf(h.pod) {
		var holders []string
		for _, e := range n.pods {
			held := portSet{}
			if held.add(e.charge.ports, 1); held.conflicts(want) {
				holders = append(holders, nameOf(e.pod).String())
			}
		}
		if len(holders) > 0 {
			h.say(HintPort, opened, "host port %d/%s is taken on %s by %s; without its host ports, %s would take the pod",
				want.port, want.protocol, n.name, slices.Min(holders), h.nodes(opened))
			return
		}
	}
}

// unmount tries the pod without what it mounts.
func (h *hinter) unmount() {
	reason := ""
	for _, plugin := range []string{VolumeRestrictions, NodeVolumeLimits, VolumeBinding, VolumeZone} {
		if names := h.refused[plugin]; len(names) > 0 && reason == "" {
			reason = h.seen.Nodes[names[0]].Reasons[0]
		}
	}
	if reason == "" {
		return
	}
	if opened := h.with(func(s *corev1.PodSpec) { s.Volumes = nil }); len(opened) > 0 {
		h.say(HintVolume, opened, "its volumes keep it off %s, which would take it otherwise: %s", h.nodes(opened), reason)
	}
}

// addNode tries a new node of each kind that the cluster has, the smallest first.
func (h *hinter) addNode() {
	if len(h.seen.Nodes) == 0 {
		h.say(HintAdd, nil, "there is no node: add one")
		return
	}
	like := map[string]*nodeState{}
	for _, name := range slices.Sorted(maps.Keys(h.seen.Nodes)) {
		n := h.cluster.nodes[h.cluster.index[name]]
		if key := n.kind(); like[key] == nil {
			like[key] = n
		}
	}
	kinds := slices.SortedFunc(maps.Values(like), func(a, b *nodeState) int {
		return cmp.Or(cmp.Compare(a.offered.cpu, b.offered.cpu), cmp.Compare(a.offered.memory, b.offered.memory), strings.Compare(a.name, b.name))
	})
	daemons := h.cluster.daemons()
	for _, n := range kinds[:min(len(kinds), maxTried)] {
		if h.takesNew(n.node, daemons) {
			h.say(HintAdd, []string{n.name}, "a new node like %s would take it", n.name)
			return
		}
	}
}

// takesNew tries a new node.
func (h *hinter) takesNew(like *corev1.Node, daemons []*corev1.Pod) bool {
	t := trial{cluster: h.cluster}
	defer t.end()
	names := t.add(Growth{Template: like, Count: 1}, daemons, metav1.NewTime(h.now))
	return slices.Contains(h.opened(h.pod), names[0])
}

// kind is equal for nodes that are alike when they are new.
func (n *nodeState) kind() string {
	as := fresh(n.node, "")
	return fmt.Sprint(as.Labels, as.Spec.Taints, n.offered.cpu, n.offered.memory, n.offered.storage, n.offered.pods, n.offered.scalars)
}

// nodes are the names of a few nodes, or their number.
func (h *hinter) nodes(names []string) string {
	const few = 2
	if len(names) <= few {
		return inWords(names, "and")
	}
	return fmt.Sprintf("%d nodes", len(names))
}

// inWords is "a, b and c", and "a, b, c and 4 more" for long lists.
func inWords(names []string, and string) string {
	const most = 4
	if len(names) > most {
		names = append(slices.Clone(names[:most-1]), fmt.Sprintf("%d more", len(names)-most+1))
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " " + and + " " + names[len(names)-1]
}
