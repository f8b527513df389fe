package scheduling

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
)

// What changes of pods, and of the domains that they are in, mean to the plugins that count pods on other nodes.

// changesSpread is a pod that a constraint counts and that came, went, began to leave, or is counted only before or only now.
// Upstream does not look at pods that begin to leave.
//
// Upstream: isSchedulableAfterAssignedPodChange in plugins/podtopologyspread/plugin.go.
func changesSpread(_ *Cluster, s *sleeper, old, now *entry) bool {
	counts := func(e *entry, by *spreadConstraint) bool {
		return e != nil && e.kin.namespace == s.class.spreading.namespace && by.selector.Matches(labels.Set(e.kin.labels))
	}
	leaves := old != nil && now != nil && old.kin.leaving != now.kin.leaving
	for i := range s.class.spreading.hard {
		by := &s.class.spreading.hard[i]
		if did, does := counts(old, by), counts(now, by); did != does || does && leaves {
			return true
		}
	}
	return false
}

// changesDomains is a node that counts, or did, in the domains that the pod is spread over, or may do so otherwise. Upstream
// does not look at labels by which the pod's affinity has a node count.
//
// Upstream: isSchedulableAfterNodeChange in plugins/podtopologyspread/plugin.go.
func changesDomains(_ *Cluster, s *sleeper, old, now *corev1.Node) bool {
	hard := s.class.spreading.hard
	did, does := hasAllKeys(old, hard), hasAllKeys(now, hard)
	if did != does || !does {
		return did != does
	}
	if !equality.Semantic.DeepEqual(old.Spec.Taints, now.Spec.Taints) {
		return true
	}
	return slices.ContainsFunc(hard, func(by spreadConstraint) bool {
		return old.Labels[by.topologyKey] != now.Labels[by.topologyKey] || by.includes(s.class, old) != by.includes(s.class, now)
	})
}

// hasAllKeys reports whether there is a node, and it is in a domain of each constraint.
func hasAllKeys(node *corev1.Node, constraints []spreadConstraint) bool {
	return node != nil && !slices.ContainsFunc(constraints, func(by spreadConstraint) bool {
		_, has := node.Labels[by.topologyKey]
		return !has
	})
}

// mayChoose is chosenBy and concerns for whatever labels namespaces have: those are asked when a run looks again.
func (t *term) mayChoose(k *kin) bool {
	return (t.namespaces.Has(k.namespace) || nothing(t.namespaceSelector) == "") && t.selector.Matches(k.labels)
}

// mayBeNear reports whether a pod may be one that the others must be near to.
func (s *sleeper) mayBeNear(k *kin) bool {
	return s.neighbourhood != nil && len(s.neighbourhood.near) > 0 &&
		!slices.ContainsFunc(s.neighbourhood.near, func(t term) bool { return !t.mayChoose(k) })
}

// changesNeighbours is a pod that the others must be near to, and was not before, or one that kept them off and does not now,
// by its terms or by theirs. If the others would be the first of those that they must be near to, its going lets them in,
// too; upstream does not look at that.
//
// Upstream: isSchedulableAfterAssignedPodChange in plugins/interpodaffinity/plugin.go.
func changesNeighbours(_ *Cluster, s *sleeper, old, now *entry) bool {
	did, does := old != nil && s.mayBeNear(old.kin), now != nil && s.mayBeNear(now.kin)
	if !did && does || did && !does && s.mayBeNear(s.kin) {
		return true
	}
	if old == nil {
		return false
	}
	if s.neighbourhood != nil && slices.ContainsFunc(s.neighbourhood.apart, func(t term) bool {
		return t.mayChoose(old.kin) && (now == nil || !t.mayChoose(now.kin))
	}) {
		return true
	}
	return now == nil && old.neighbourhood != nil &&
		slices.ContainsFunc(old.neighbourhood.apart, func(t term) bool { return t.mayChoose(s.kin) })
}

// changesNeighbourhood is a node that came and may be open, that went and leaves pods behind which count nowhere then, or
// that is in other domains. Upstream does not look at terms of other pods, and at nodes that go.
//
// Upstream: isSchedulableAfterNodeChange in plugins/interpodaffinity/plugin.go.
func changesNeighbourhood(c *Cluster, s *sleeper, old, now *corev1.Node) bool {
	near, apart := s.neighbourhood.keys()
	switch {
	case now == nil:
		return c.hasPods(old.Name)
	case old == nil:
		return len(near) == 0 || len(apart) > 0 || c.hasPods(now.Name) || slices.ContainsFunc(near, func(key string) bool {
			_, has := now.Labels[key]
			return has
		})
	}
	for _, t := range c.carried {
		if t.keepsOff && t.mayChoose(s.kin) {
			apart = append(apart, t.topologyKey)
		}
	}
	first := s.mayBeNear(s.kin)
	return slices.ContainsFunc(near, func(key string) bool {
		_, in := now.Labels[key]
		return moves(old, now, key) && (in || first)
	}) || slices.ContainsFunc(apart, func(key string) bool {
		_, was := old.Labels[key]
		return moves(old, now, key) && was
	})
}

// moves reports whether a node is in another domain of a label, or in none and was in one, or the reverse.
func moves(old, now *corev1.Node, key string) bool {
	from, was := old.Labels[key]
	to, is := now.Labels[key]
	return was != is || from != to
}

// keys are the labels of nodes in the required terms.
func (n *neighbourhood) keys() (near, apart []string) {
	if n == nil {
		return nil, nil
	}
	for i := range n.near {
		near = append(near, n.near[i].topologyKey)
	}
	for i := range n.apart {
		apart = append(apart, n.apart[i].topologyKey)
	}
	return near, apart
}

// hasPods reports whether pods are on a node of a name.
func (c *Cluster) hasPods(node string) bool {
	at, known := c.index[node]
	return known && len(c.nodes[at].pods) > 0
}

// renamesNeighbours is a namespace with other labels: terms choose by them. Upstream does not look at namespaces.
func renamesNeighbours(*Cluster, *sleeper, *corev1.Namespace, *corev1.Namespace) bool { return true }
