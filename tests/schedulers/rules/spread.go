package rules

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// checkSpread holds a pod that becomes bound to its constraints, among the pods that were on nodes just before. Taints rule no
// node out for them, as is the default.
func (h *History) checkSpread(rev uint64, pod *corev1.Pod) {
	var hard []corev1.TopologySpreadConstraint
	for _, c := range pod.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable == corev1.DoNotSchedule {
			hard = append(hard, c)
		}
	}
	for _, c := range hard {
		selector, err := metav1.LabelSelectorAsSelector(c.LabelSelector)
		if err != nil {
			h.report(Spread, rev, "the constraint of %s: %v", full(pod), err)
			continue
		}
		domains := map[string]int32{}
		for _, name := range h.names {
			if node := h.nodes[name]; hasAll(node, hard) && (ignoresAffinity(&c) || chooses(pod, node)) {
				domains[node.Labels[c.TopologyKey]] += h.selectedOn(name, pod.Namespace, selector)
			}
		}
		own, has := h.nodes[pod.Spec.NodeName].Labels[c.TopologyKey]
		if !has {
			h.report(Spread, rev, "%s is on %s, which has no label %s", full(pod), pod.Spec.NodeName, c.TopologyKey)
			continue
		}
		skew := domains[own] - least(domains, c.MinDomains)
		if selector.Matches(labels.Set(pod.Labels)) {
			skew++
		}
		switch {
		case skew > c.MaxSkew:
			h.report(Spread, rev, "%s comes to %s %s of %v: a skew of %d, and %d is allowed", full(pod), c.TopologyKey, own, domains, skew, c.MaxSkew)
		case skew == c.MaxSkew:
			h.Edge++
		}
	}
}

func hasAll(node *corev1.Node, constraints []corev1.TopologySpreadConstraint) bool {
	for _, c := range constraints {
		if _, ok := node.Labels[c.TopologyKey]; !ok {
			return false
		}
	}
	return true
}

func ignoresAffinity(c *corev1.TopologySpreadConstraint) bool {
	return c.NodeAffinityPolicy != nil && *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyIgnore
}

// chooses reports whether a pod's selector and required affinity let it be on a node.
func chooses(pod *corev1.Pod, node *corev1.Node) bool {
	ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node)
	return ok && err == nil
}

// selectedOn is how many pods on a node a constraint counts: none that goes away.
func (h *History) selectedOn(node, namespace string, selector labels.Selector) int32 {
	n := int32(0)
	for _, p := range h.pods {
		if p.Spec.NodeName == node && counts(p) && p.DeletionTimestamp == nil && p.Namespace == namespace && selector.Matches(labels.Set(p.Labels)) {
			n++
		}
	}
	return n
}

// least is the smallest number of pods in a domain, 0 while there are fewer domains than asked for.
func least(domains map[string]int32, minDomains *int32) int32 {
	if minDomains != nil && len(domains) < int(*minDomains) {
		return 0
	}
	first, out := true, int32(0)
	for _, n := range domains {
		if first || n < out {
			first, out = false, n
		}
	}
	return out
}
