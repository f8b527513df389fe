package scheduling

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

const (
	reasonAffinity         = "node(s) didn't match Pod's node affinity/selector"
	reasonEnforced         = "node(s) didn't match scheduler-enforced node affinity"
	reasonAffinityConflict = "pod affinity terms conflict"
	// reasonNotNamed is what upstream's framework says of nodes outside a PreFilterResult.
	reasonNotNamed = "node(s) didn't satisfy plugin(s) [NodeAffinity]"
)

// affinity is what a pod asks of a node's labels and name.
//
// Upstream: plugins/nodeaffinity/node_affinity.go.
type affinity struct {
	required  nodeaffinity.RequiredNodeAffinity
	preferred *nodeaffinity.PreferredSchedulingTerms
	// names is the set of nodes that the terms name, nil when some term names none. It may be
	// empty: then the terms contradict each other and no node will do.
	names sets.Set[string]
	// added is what the profile asks of all nodes, nil for nothing, and addedPreferred what it prefers.
	added          *nodeaffinity.NodeSelector
	addedPreferred *nodeaffinity.PreferredSchedulingTerms
	// none is set where the rule is off.
	none bool
}

func newAffinity(p *profile, pod *corev1.Pod) affinity {
	a := affinity{
		required: nodeaffinity.GetRequiredNodeAffinity(pod), added: p.required, addedPreferred: p.preferred, none: !p.Filters[NodeAffinity],
	}
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.NodeAffinity == nil {
		return a
	}
	node := pod.Spec.Affinity.NodeAffinity
	if terms := node.PreferredDuringSchedulingIgnoredDuringExecution; len(terms) > 0 {
		// The API server validates the terms; one that it let through in an older version
		// prefers nothing.
		a.preferred, _ = nodeaffinity.NewPreferredSchedulingTerms(terms)
	}
	if node.RequiredDuringSchedulingIgnoredDuringExecution != nil && p.PreFilters[NodeAffinity] {
		a.names = namedNodes(node.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms)
	}
	return a
}

// namedNodes is the union, over the terms, of the node names that each asks for; nil when a term
// asks for none.
func namedNodes(terms []corev1.NodeSelectorTerm) sets.Set[string] {
	var all sets.Set[string]
	for _, term := range terms {
		var named sets.Set[string]
		for _, field := range term.MatchFields {
			if field.Key != metav1.ObjectNameField || field.Operator != corev1.NodeSelectorOpIn {
				continue
			}
			values := sets.New(field.Values...)
			if named == nil {
				named = values
			} else {
				named = named.Intersection(values)
			}
		}
		if named == nil {
			return nil
		}
		all = all.Union(named)
	}
	return all
}

// conflict reports whether the terms contradict each other.
func (a *affinity) conflict() bool { return a.names != nil && len(a.names) == 0 }

// isNamed refuses the nodes that the pod's affinity does not name, when it names some.
func isNamed(c *class, node *corev1.Node) string {
	if c.affinity.names != nil && !c.affinity.names.Has(node.Name) {
		return reasonNotNamed
	}
	return ""
}

// matchesAffinity refuses nodes that do not match nodeSelector or the required terms. Terms that
// cannot be parsed match nothing.
func matchesAffinity(c *class, node *corev1.Node) string {
	if c.affinity.none {
		return ""
	}
	if c.affinity.added != nil && !c.affinity.added.Match(node) {
		return reasonEnforced
	}
	if match, _ := c.affinity.required.Match(node); !match {
		return reasonAffinity
	}
	return ""
}

// preference is the sum of the weights of the preferred terms that the node matches.
func preference(c *class, node *corev1.Node) int64 {
	var sum int64
	if c.affinity.addedPreferred != nil {
		sum = c.affinity.addedPreferred.Score(node)
	}
	if c.affinity.preferred != nil {
		sum += c.affinity.preferred.Score(node)
	}
	return sum
}
