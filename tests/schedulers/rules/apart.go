package rules

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// checkNeighbours holds a pod that becomes bound to the required terms about other pods, of its own and of those that were
// on nodes just before. Pods that go away count until they are gone.
func (h *History) checkNeighbours(rev uint64, pod *corev1.Pod) {
	refused := false
	for _, other := range h.pods {
		if other.UID == pod.UID || !counts(other) {
			continue
		}
		for _, t := range apartTerms(pod) {
			if concerns(&t, pod, other) {
				refused = true
				if h.together(pod, other, t.TopologyKey) {
					h.report(Apart, rev, "%s comes to %s, and %s is on %s", full(pod), pod.Spec.NodeName, full(other), other.Spec.NodeName)
				}
			}
		}
		for _, t := range apartTerms(other) {
			if concerns(&t, other, pod) {
				refused = true
				if h.together(pod, other, t.TopologyKey) {
					h.report(KeptOff, rev, "%s comes to %s, and is kept off by %s on %s", full(pod), pod.Spec.NodeName, full(other), other.Spec.NodeName)
				}
			}
		}
	}
	if refused {
		h.Refused++
	}
	h.checkNear(rev, pod)
}

// checkNear looks for pods that all terms choose in the domain of each, unless the pod is the first of those that choose
// themselves.
func (h *History) checkNear(rev uint64, pod *corev1.Pod) {
	terms := nearTerms(pod)
	if len(terms) == 0 {
		return
	}
	chosen := func(of *corev1.Pod) bool {
		return !slices.ContainsFunc(terms, func(t corev1.PodAffinityTerm) bool { return !concerns(&t, pod, of) })
	}
	near, some := make([]bool, len(terms)), false
	for _, other := range h.pods {
		if other.UID == pod.UID || !counts(other) || !chosen(other) {
			continue
		}
		some = true
		for i := range terms {
			near[i] = near[i] || h.together(pod, other, terms[i].TopologyKey)
		}
	}
	if slices.Contains(near, false) && (some || !chosen(pod)) {
		h.report(Near, rev, "%s comes to %s, away from whom it must be near", full(pod), pod.Spec.NodeName)
	}
}

// together reports whether two pods are on nodes with the same value of a label.
func (h *History) together(a, b *corev1.Pod, key string) bool {
	on, off := h.nodes[a.Spec.NodeName], h.nodes[b.Spec.NodeName]
	if on == nil || off == nil {
		return false
	}
	one, has := on.Labels[key]
	two, also := off.Labels[key]
	return has && also && one == two
}

// concerns reports whether a term of one pod chooses another. Terms choose namespaces by name, or all.
func concerns(t *corev1.PodAffinityTerm, of, other *corev1.Pod) bool {
	selector, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
	if err != nil {
		return false
	}
	all := t.NamespaceSelector != nil && len(t.NamespaceSelector.MatchLabels)+len(t.NamespaceSelector.MatchExpressions) == 0
	own := len(t.Namespaces) == 0 && t.NamespaceSelector == nil && of.Namespace == other.Namespace
	return (all || own || slices.Contains(t.Namespaces, other.Namespace)) && selector.Matches(labels.Set(other.Labels))
}

func apartTerms(pod *corev1.Pod) []corev1.PodAffinityTerm {
	if a := pod.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
		return a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	return nil
}

func nearTerms(pod *corev1.Pod) []corev1.PodAffinityTerm {
	if a := pod.Spec.Affinity; a != nil && a.PodAffinity != nil {
		return a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	return nil
}
