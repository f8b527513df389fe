package scheduling

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/zeroplane/zeroplane/core/toleration"
)

// tolerate tries a toleration for each set of taints that keeps the pod off nodes, the sets of most nodes first.
func (h *hinter) tolerate() {
	nodes, taints := map[string][]string{}, map[string][]corev1.Taint{}
	for _, name := range h.refused[TaintToleration] {
		var untolerated []corev1.Taint
		var key []string
		for _, t := range h.cluster.NodeNamed(name).Spec.Taints {
			if t.Effect != corev1.TaintEffectPreferNoSchedule && toleration.Matching(h.pod.Spec.Tolerations, &t) == nil {
				untolerated, key = append(untolerated, t), append(key, t.ToString())
			}
		}
		slices.Sort(key)
		set := inWords(key, "and")
		nodes[set], taints[set] = append(nodes[set], name), untolerated
	}
	sets := slices.SortedFunc(maps.Keys(nodes), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(nodes[b]), len(nodes[a])), strings.Compare(a, b))
	})
	for _, set := range sets[:min(len(sets), maxTried)] {
		opened := h.with(func(s *corev1.PodSpec) {
			for _, t := range taints[set] {
				s.Tolerations = append(s.Tolerations, corev1.Toleration{Key: t.Key, Operator: corev1.TolerationOpEqual, Value: t.Value, Effect: t.Effect})
			}
		})
		if opened = h.among(nodes[set], opened); len(opened) > 0 {
			h.sayTolerate(set, taints[set], opened)
		}
	}
}

func (h *hinter) sayTolerate(set string, taints []corev1.Taint, opened []string) {
	for _, t := range taints {
		if stateTaints[t.Key] {
			h.say(HintTolerate, opened, "%s would take it without %s, which comes from the state that it is in", inWords(opened, "or"), set)
			return
		}
	}
	word := "a toleration for taint"
	if len(taints) > 1 {
		word = "tolerations for taints"
	}
	h.say(HintTolerate, opened, "%s %s would open %s", word, set, h.nodes(opened))
}

// facts are labels that say what a node is: nobody sets them to make a pod fit.
var facts = map[string]bool{
	corev1.LabelHostname: true, corev1.LabelTopologyZone: true, corev1.LabelTopologyRegion: true, corev1.LabelOSStable: true,
	corev1.LabelArchStable: true, corev1.LabelInstanceTypeStable: true,
}

// label tries nodes with the labels that the pod selects, and tells of those that no node has.
func (h *hinter) label() {
	refused := h.refused[NodeAffinity]
	if len(refused) == 0 || len(h.pod.Spec.NodeSelector) == 0 {
		return
	}
	var absent, set []string
	fixed := false
	for _, key := range slices.Sorted(maps.Keys(h.pod.Spec.NodeSelector)) {
		pair := key + "=" + h.pod.Spec.NodeSelector[key]
		all, some := h.labelled(key)
		if !some {
			absent = append(absent, pair)
		}
		if !all {
			set = append(set, pair)
			fixed = fixed || facts[key]
		}
	}
	var opened []string
	if !fixed {
		opened = h.among(refused, h.where(refused, func(n *corev1.Node) {
			if n.Labels == nil {
				n.Labels = map[string]string{}
			}
			maps.Copy(n.Labels, h.pod.Spec.NodeSelector)
		}))
	}
	on := "label " + inWords(absent, "and") + " is on no node"
	if len(absent) > 1 {
		on = "labels " + inWords(absent, "and") + " are on no node"
	}
	switch {
	case len(absent) > 0 && len(opened) > 0:
		h.say(HintLabel, opened, "%s; %s would take it with %s", on, inWords(opened, "or"), inWords(set, "and"))
	case len(absent) > 0:
		h.say(HintLabel, nil, "%s", on)
	case len(opened) > 0:
		h.say(HintLabel, opened, "%s would take it with label %s", inWords(opened, "or"), inWords(set, "and"))
	}
}

// labelled reports whether all nodes, and whether some, have a label that the pod selects.
func (h *hinter) labelled(key string) (all, some bool) {
	all = true
	for name := range h.seen.Nodes {
		value, has := h.cluster.NodeNamed(name).Labels[key]
		has = has && value == h.pod.Spec.NodeSelector[key]
		all, some = all && has, some || has
	}
	return all, some
}

// unbind tries the pod without what it requires of nodes.
func (h *hinter) unbind() {
	a := h.pod.Spec.Affinity
	if len(h.refused[NodeAffinity]) == 0 {
		return
	}
	if a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		opened := h.with(func(s *corev1.PodSpec) { s.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = nil })
		if len(opened) > 0 {
			h.say(HintLabel, opened, "without its required node affinity, %s would take it", h.nodes(opened))
			return
		}
	}
	if len(h.pod.Spec.NodeSelector) == 0 {
		return
	}
	if opened := h.with(func(s *corev1.PodSpec) { s.NodeSelector = nil }); len(opened) > 0 {
		h.say(HintLabel, opened, "without its nodeSelector, %s would take it", h.nodes(opened))
	}
}

// lack is what a node has too little of.
type lack struct {
	name         corev1.ResourceName
	asked, free  int64
	offered      int64
	relativeSize float64
}

// shrink tells which node comes nearest to having what the pod asks for, and of what no node has enough even when empty.
func (h *hinter) shrink() {
	names := h.refused[NodeResourcesFit]
	if len(names) == 0 {
		return
	}
	request := newRequest(h.cluster.profileOf(h.pod), h.pod)
	if h.sayTooLarge(&request) {
		return
	}
	opened := h.among(names, h.where(names, func(n *corev1.Node) {
		n.Status.Allocatable = maps.Clone(n.Status.Allocatable)
		for _, l := range h.cluster.nodes[h.cluster.index[n.Name]].lacks(&request) {
			n.Status.Allocatable[l.name] = *quantityOf(l.name, l.offered+l.asked-l.free)
		}
	}))
	if len(opened) > 0 {
		names = opened
	} else if len(h.out) > 0 {
		return // more room alone would not help
	}
	best, least := "", 0.0
	for _, name := range names {
		var size float64
		for _, l := range h.cluster.nodes[h.cluster.index[name]].lacks(&request) {
			size = max(size, l.relativeSize)
		}
		if best == "" || size < least {
			best, least = name, size
		}
	}
	var parts []string
	for _, l := range h.cluster.nodes[h.cluster.index[best]].lacks(&request) {
		if l.name == corev1.ResourcePods {
			parts = append(parts, fmt.Sprintf("room for one more pod: it has %d of %d", l.offered-l.free, l.offered))
			continue
		}
		parts = append(parts, fmt.Sprintf("%s of %s: free %s, asked %s", amount(l.name, l.asked-l.free), l.name, amount(l.name, max(l.free, 0)), amount(l.name, l.asked)))
	}
	h.say(HintMiss, []string{best}, "%s lacks %s", best, strings.Join(parts, "; and "))
}

// sayTooLarge tells of a resource that no node has enough of even when it is empty.
func (h *hinter) sayTooLarge(request *request) bool {
	said := false
	for _, l := range request.all() {
		best, most := "", int64(-1)
		for _, name := range slices.Sorted(maps.Keys(h.seen.Nodes)) {
			if offered := h.cluster.nodes[h.cluster.index[name]].offered.of(l.name); offered > most {
				best, most = name, offered
			}
		}
		switch {
		case l.value <= most:
			continue
		case most == 0:
			h.say(HintMiss, nil, "no node has any %s: asked %s", l.name, amount(l.name, l.value))
		default:
			h.say(HintMiss, []string{best}, "no node is large enough: asked %s of %s, and %s has most with %s", amount(l.name, l.value), l.name, best, amount(l.name, most))
		}
		said = true
	}
	return said
}

// all is what a pod asks for, of what it asks any of.
func (r *request) all() []scalarRequest {
	var out []scalarRequest
	for _, s := range append([]scalarRequest{
		{name: corev1.ResourceCPU, value: r.cpu}, {name: corev1.ResourceMemory, value: r.memory}, {name: corev1.ResourceEphemeralStorage, value: r.storage},
	}, r.scalars...) {
		if s.value > 0 {
			out = append(out, s)
		}
	}
	return out
}

// of is the amount of a resource.
func (a *amounts) of(name corev1.ResourceName) int64 {
	switch name { //nolint:exhaustive // the others are scalars
	case corev1.ResourceCPU:
		return a.cpu
	case corev1.ResourceMemory:
		return a.memory
	case corev1.ResourceEphemeralStorage:
		return a.storage
	case corev1.ResourcePods:
		return a.pods
	}
	return a.scalars[name]
}

// lacks is what the node has too little of for a pod.
func (n *nodeState) lacks(r *request) []lack {
	var out []lack
	for _, s := range append([]scalarRequest{{name: corev1.ResourcePods, value: 1}}, r.all()...) {
		offered := n.offered.of(s.name)
		if free := offered - n.used.of(s.name); s.value > free {
			out = append(out, lack{s.name, s.value, free, offered, float64(s.value-free) / float64(max(offered, 1))})
		}
	}
	return out
}

func quantityOf(name corev1.ResourceName, value int64) *resource.Quantity {
	if name == corev1.ResourceCPU {
		return resource.NewMilliQuantity(value, resource.DecimalSI)
	}
	return resource.NewQuantity(value, resource.DecimalSI)
}

// amount is a quantity for people: CPU in thousandths, bytes in whole MiB if there are any.
func amount(name corev1.ResourceName, value int64) string {
	const mebi = 1 << 20
	switch name { //nolint:exhaustive // the others are numbers
	case corev1.ResourceCPU:
		return fmt.Sprintf("%dm", value)
	case corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		if value >= mebi {
			value -= value % mebi
		}
		return resource.NewQuantity(value, resource.BinarySI).String()
	}
	return fmt.Sprint(value)
}
