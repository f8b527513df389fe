package scheduling

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
)

// term chooses pods to be near to, or not, in a domain of a label.
//
// Upstream: AffinityTerm in k8s.io/kube-scheduler/framework/types.go.
type term struct {
	namespaces                  sets.Set[string]
	namespaceSelector, selector labels.Selector
	topologyKey                 string
}

func newTerm(pod *corev1.Pod, t *corev1.PodAffinityTerm) (term, bool) {
	selector, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
	if err != nil {
		return term{}, false // does not pass the API
	}
	of, err := metav1.LabelSelectorAsSelector(t.NamespaceSelector)
	if err != nil {
		return term{}, false
	}
	namespaces := sets.New(t.Namespaces...)
	if len(t.Namespaces) == 0 && t.NamespaceSelector == nil {
		namespaces.Insert(pod.Namespace)
	}
	return term{namespaces, of, selector, t.TopologyKey}, true
}

// String tells terms apart, but for their labels of nodes.
func (t *term) String() string {
	return strings.Join(sets.List(t.namespaces), ",") + "/" + t.namespaceSelector.String() + nothing(t.namespaceSelector) +
		"/" + t.selector.String() + nothing(t.selector)
}

// nothing tells the selector of nothing from that of everything, which are the same text.
func nothing(s labels.Selector) string {
	if s.Empty() || s.String() != "" {
		return ""
	}
	return "!"
}

// chosenBy reports whether a waiting pod's own term chooses pods of a kind: a namespace that is not known only by its name.
//
// Upstream: mergeAffinityTermNamespacesIfNotEmpty in plugins/interpodaffinity/plugin.go.
func (c *Cluster) chosenBy(t *term, k *kin) bool {
	own, known := c.namespaces[k.namespace]
	if !t.namespaces.Has(k.namespace) && !t.namespaceSelector.Empty() && (!known || !t.namespaceSelector.Matches(own)) {
		return false
	}
	return t.selector.Matches(k.labels)
}

// concerns reports whether the term of a pod on a node chooses pods of a kind: a namespace that is not known has no labels.
//
// Upstream: AffinityTerm.Matches in k8s.io/kube-scheduler/framework/types.go.
func (c *Cluster) concerns(t *term, k *kin) bool {
	if !t.namespaces.Has(k.namespace) && !t.namespaceSelector.Matches(c.namespaces[k.namespace]) {
		return false
	}
	return t.selector.Matches(k.labels)
}

// carried is a term of pods on nodes that says something to pods that come: the number of those pods on each node.
type carried struct {
	term
	// weight in the score, required for an affinity whose weight the profile says, or keepsOff for a required anti-affinity.
	weight             int64
	required, keepsOff bool
	counts             []int32

	key  string
	refs int
}

// neighbourhood is what pods of one kind ask of other pods, and say to them.
type neighbourhood struct {
	near, apart []term
	preferred   []weighted
	carried     []*carried

	key  string
	refs int
}

// weighted is a preferred term; a negative weight is that of an anti-affinity.
type weighted struct {
	term
	weight int64
}

// neighbourhoodOf finds the neighbourhood that the pod shares with others, or makes it; nil for none.
func (c *Cluster) neighbourhoodOf(pod *corev1.Pod) *neighbourhood {
	a := pod.Spec.Affinity
	if a == nil || a.PodAffinity == nil && a.PodAntiAffinity == nil {
		return nil
	}
	// Of plain strings and numbers, which always encode.
	text, _ := json.Marshal(corev1.Affinity{PodAffinity: a.PodAffinity, PodAntiAffinity: a.PodAntiAffinity})
	key := pod.Namespace + "/" + string(text)
	n := c.neighbourhoods[key]
	if n == nil {
		n = newNeighbourhood(pod)
		n.key = key
		c.carry(n)
		c.neighbourhoods[key] = n
	}
	n.refs++
	return n
}

func newNeighbourhood(pod *corev1.Pod) *neighbourhood {
	n := &neighbourhood{}
	if a := pod.Spec.Affinity.PodAffinity; a != nil {
		n.near = termsOf(pod, a.RequiredDuringSchedulingIgnoredDuringExecution)
		n.prefer(pod, a.PreferredDuringSchedulingIgnoredDuringExecution, 1)
	}
	if a := pod.Spec.Affinity.PodAntiAffinity; a != nil {
		n.apart = termsOf(pod, a.RequiredDuringSchedulingIgnoredDuringExecution)
		n.prefer(pod, a.PreferredDuringSchedulingIgnoredDuringExecution, -1)
	}
	return n
}

func termsOf(pod *corev1.Pod, list []corev1.PodAffinityTerm) []term {
	var out []term
	for i := range list {
		if t, ok := newTerm(pod, &list[i]); ok {
			out = append(out, t)
		}
	}
	return out
}

func (n *neighbourhood) prefer(pod *corev1.Pod, list []corev1.WeightedPodAffinityTerm, sign int64) {
	for i := range list {
		if t, ok := newTerm(pod, &list[i].PodAffinityTerm); ok {
			n.preferred = append(n.preferred, weighted{t, sign * int64(list[i].Weight)})
		}
	}
}

// carry has the cluster count who says what a neighbourhood says.
func (c *Cluster) carry(n *neighbourhood) {
	say := func(t *term, weight int64, required, keepsOff bool) {
		key := fmt.Sprintf("%s/%s/%d/%t/%t", t, t.topologyKey, weight, required, keepsOff)
		s := c.carried[key]
		if s == nil {
			s = &carried{term: *t, weight: weight, required: required, keepsOff: keepsOff, counts: make([]int32, len(c.nodes)), key: key}
			c.carried[key] = s
		}
		s.refs++
		n.carried = append(n.carried, s)
	}
	for i := range n.near {
		say(&n.near[i], 0, true, false)
	}
	for i := range n.apart {
		say(&n.apart[i], 0, false, true)
	}
	for i := range n.preferred {
		say(&n.preferred[i].term, n.preferred[i].weight, false, false)
	}
}

func (c *Cluster) releaseNeighbourhood(n *neighbourhood) {
	if n == nil {
		return
	}
	if n.refs--; n.refs > 0 {
		return
	}
	delete(c.neighbourhoods, n.key)
	for _, s := range n.carried {
		if s.refs--; s.refs == 0 {
			delete(c.carried, s.key)
		}
	}
}

// SetNamespace adds a namespace or replaces the one of its name: terms may choose it by its labels.
func (c *Cluster) SetNamespace(namespace *corev1.Namespace) {
	old, known := c.namespaces[namespace.Name]
	if known && maps.Equal(old, namespace.Labels) {
		return
	}
	c.namespaces[namespace.Name] = namespace.Labels
	tell(c, namespaceHint, nil, namespace)
}

// DeleteNamespace removes a namespace.
func (c *Cluster) DeleteNamespace(name string) {
	if _, known := c.namespaces[name]; known {
		delete(c.namespaces, name)
		tell(c, namespaceHint, nil, nil)
	}
}

// wants reports whether a pod would count itself among those that it must be near to.
func (n *neighbourhood) wants(c *Cluster, k *kin) bool {
	for i := range n.near {
		if !c.chosenBy(&n.near[i], k) {
			return false
		}
	}
	return len(n.near) > 0
}

// heard are the terms that concern pods of a kind, in order, and a text that tells them apart.
func (c *Cluster) heard(k *kin) ([]*carried, string) {
	if len(c.carried) == 0 {
		return nil, ""
	}
	var out []*carried
	for _, s := range c.carried {
		if c.concerns(&s.term, k) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *carried) int { return strings.Compare(a.key, b.key) })
	var text strings.Builder
	for _, s := range out {
		text.WriteString(s.key)
		text.WriteByte('\n')
	}
	return out, text.String()
}
