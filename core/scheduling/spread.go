package scheduling

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

const (
	reasonSpread      = "node(s) didn't match pod topology spread constraints"
	reasonSpreadLabel = "node(s) didn't match pod topology spread constraints (missing required label)"
)

// spreadConstraint is how a pod's kind shall be spread over the domains of a label.
//
// Upstream: topologySpreadConstraint in plugins/podtopologyspread/common.go.
type spreadConstraint struct {
	maxSkew, minDomains int32
	topologyKey         string
	selector            labels.Selector
	// honorAffinity and honorTaints leave nodes out that the pod cannot be on by those rules.
	honorAffinity, honorTaints bool
	// self is set when the pod counts itself.
	self bool
}

// spreading is the constraints of a class.
type spreading struct {
	namespace string
	// hard constraints keep pods off nodes, soft ones score nodes.
	hard, soft []spreadConstraint
	// defaulted is set for constraints that the pod does not have itself: nodes need not have all labels.
	defaulted bool
}

// newSpreading reads constraints as a pod's. Selectors that cannot be parsed do not pass the API.
func newSpreading(pod *corev1.Pod, constraints []corev1.TopologySpreadConstraint) spreading {
	s := spreading{namespace: pod.Namespace}
	for i := range constraints {
		t := &constraints[i]
		selector, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
		if err != nil {
			continue
		}
		c := spreadConstraint{
			maxSkew: t.MaxSkew, minDomains: 1, topologyKey: t.TopologyKey, selector: withOwnLabels(selector, t.MatchLabelKeys, pod.Labels),
			honorAffinity: t.NodeAffinityPolicy == nil || *t.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor,
			honorTaints:   t.NodeTaintsPolicy != nil && *t.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor,
		}
		if t.MinDomains != nil {
			c.minDomains = *t.MinDomains
		}
		c.self = c.selector.Matches(labels.Set(pod.Labels))
		if t.WhenUnsatisfiable == corev1.DoNotSchedule {
			s.hard = append(s.hard, c)
		} else {
			s.soft = append(s.soft, c)
		}
	}
	return s
}

// withOwnLabels is a selector that also asks for the values that the pod itself has of some labels.
//
// Upstream: filterTopologySpreadConstraints in plugins/podtopologyspread/common.go.
func withOwnLabels(selector labels.Selector, keys []string, own map[string]string) labels.Selector {
	match := labels.Set{}
	for _, key := range keys {
		if value, ok := own[key]; ok {
			match[key] = value
		}
	}
	requirements, selectable := selector.Requirements()
	if len(match) == 0 || !selectable {
		return selector
	}
	return labels.SelectorFromSet(match).Add(requirements...)
}

// includes reports whether the pods on a node count.
//
// Upstream: matchNodeInclusionPolicies in plugins/podtopologyspread/common.go.
func (s *spreadConstraint) includes(c *class, node *corev1.Node) bool {
	matches, _ := c.affinity.required.Match(node)
	return (!s.honorAffinity || matches) && (!s.honorTaints || toleratesTaints(c, node) == "")
}

// spread is one constraint over the nodes, kept up during a run.
type spread struct {
	*spreadConstraint
	namespace string
	column    *column
	chosen    *selection
	// counted tells the nodes whose pods count, by node index. domains are those that such nodes are in, and sums their
	// pods, by domain.
	counted []bool
	domains []bool
	sums    []int32
	size    int32
	// stale is set when least and next must be looked for again: the smallest sums and the domain of the first.
	stale       bool
	least, next int32
	leastAt     int32
}

// newSpreads starts the constraints of a class on a cluster. The caller releases them.
func (c *Cluster) newSpreads(cl *class, constraints []spreadConstraint, requireAll bool) []*spread {
	spreads := make([]*spread, len(constraints))
	for i := range constraints {
		s := &constraints[i]
		spreads[i] = &spread{spreadConstraint: s, namespace: cl.spreading.namespace, column: c.columnOf(s.topologyKey), chosen: c.selectionOf(spreadingOver(cl.spreading.namespace, s.selector)), stale: true}
	}
	for _, s := range spreads {
		s.counted = make([]bool, len(c.nodes))
		unlabelled := nowhere
		if !requireAll {
			unlabelled = s.column.id("")
		}
		for i, n := range c.nodes {
			if n.node == nil || requireAll && !inAll(spreads, i) || !s.includes(cl, n.node) {
				continue
			}
			s.counted[i] = true
			s.count(domainOr(s.column.of[i], unlabelled), s.chosen.counts[i])
		}
	}
	return spreads
}

func domainOr(domain, other int32) int32 {
	if domain == nowhere {
		return other
	}
	return domain
}

// inAll reports whether a node has all labels.
func inAll(spreads []*spread, at int) bool {
	for _, s := range spreads {
		if s.column.of[at] == nowhere {
			return false
		}
	}
	return true
}

// count adds pods to a domain.
func (s *spread) count(domain, pods int32) {
	for int(domain) >= len(s.sums) {
		s.sums, s.domains = append(s.sums, 0), append(s.domains, false)
	}
	if !s.domains[domain] {
		s.domains[domain] = true
		s.size++
	}
	s.sums[domain] += pods
	s.stale = true
}

// follow counts a pod that was placed.
func (s *spread) follow(e *entry, at int) {
	if s.counted[at] && e.kin.isIn(s.chosen) {
		s.count(domainOr(s.column.of[at], s.column.ids[""]), 1)
	}
}

func (c *Cluster) releaseSpreads(spreads []*spread) {
	for _, s := range spreads {
		c.releaseColumn(s.column)
		c.releaseSelection(s.chosen)
	}
}

// in is the number of pods that count in a domain.
func (s *spread) in(domain int32) int32 {
	if int(domain) >= len(s.sums) {
		return 0
	}
	return s.sums[domain]
}

// smallest finds the two smallest sums.
func (s *spread) smallest() {
	s.least, s.next, s.leastAt, s.stale = math.MaxInt32, math.MaxInt32, nowhere, false
	for domain, counted := range s.domains {
		if !counted {
			continue
		}
		switch sum := s.sums[domain]; {
		case sum < s.least:
			s.next, s.least, s.leastAt = s.least, sum, int32(domain)
		case sum < s.next:
			s.next = sum
		}
	}
}

// minimum is the smallest number of pods of a domain, 0 while there are too few domains, if less pods were in one of
// them.
//
// Upstream: minMatchNum in plugins/podtopologyspread/filtering.go.
func (s *spread) minimum(domain, less int32) int32 {
	if s.stale {
		s.smallest()
	}
	if s.size < s.minDomains {
		return 0
	}
	if less == 0 {
		return s.least
	}
	if others := s.next; domain == s.leastAt {
		return min(others, s.least-less)
	}
	return min(s.least, s.in(domain)-less)
}

// spreadRefusal gives the reason why a node cannot take one more pod, or nothing, and whether other pods on it may be why.
//
// Upstream: Filter in plugins/podtopologyspread/filtering.go.
func spreadRefusal(spreads []*spread, at int, m *moved) (reason string, resolvable bool) {
	for _, s := range spreads {
		domain := s.column.of[at]
		if domain == nowhere {
			return reasonSpreadLabel, false
		}
		less := int32(0)
		if s.counted[at] {
			less = s.less(m)
		}
		skew := s.in(domain) - less - s.minimum(domain, less)
		if s.self {
			skew++
		}
		if skew > s.maxSkew {
			return reasonSpread, true
		}
	}
	return "", false
}

// less is how many pods that count are thought away from a node, less those thought there.
func (s *spread) less(m *moved) int32 {
	if m == nil {
		return 0
	}
	// Leaving or not: updateWithPod does not ask.
	return int32(-m.number(func(e *entry) bool { return selects(s.namespace, s.selector, e.kin) })) //nolint:gosec // pods of a node
}

// scored reports whether a node has a score by the constraints: where all their labels are needed, it must have them.
func scored(spreads []*spread, requireAll bool, totals []int64, at int) bool {
	return totals[at] != closed && (!requireAll || inAll(spreads, at))
}

// addSpreadScores adds the normalized and weighted scores of the soft constraints to the totals of the nodes that are not
// closed.
//
// Upstream: plugins/podtopologyspread/scoring.go.
func addSpreadScores(spreads []*spread, requireAll bool, weight int64, totals, scores []int64) {
	weights := make([]float64, len(spreads))
	for i, s := range spreads {
		weights[i] = math.Log(float64(s.among(spreads, requireAll, totals) + 2))
	}
	lowest, highest := int64(math.MaxInt64), int64(0)
	for i := range totals {
		if scored(spreads, requireAll, totals, i) {
			scores[i] = spreadScore(spreads, weights, i)
			lowest, highest = min(lowest, scores[i]), max(highest, scores[i])
		}
	}
	for i := range totals {
		switch {
		case !scored(spreads, requireAll, totals, i):
		case highest == 0:
			totals[i] += weight * maxScore
		default:
			totals[i] += weight * (maxScore * (highest + lowest - scores[i]) / highest)
		}
	}
}

// spreadScore is the weighted number of pods in the domains of a node.
func spreadScore(spreads []*spread, weights []float64, at int) int64 {
	score := 0.0
	for k, s := range spreads {
		domain := s.column.of[at]
		if domain == nowhere {
			continue
		}
		pods := s.in(domain)
		if s.topologyKey == corev1.LabelHostname {
			pods = s.chosen.counts[at]
		}
		score += float64(pods)*weights[k] + float64(s.maxSkew-1)
	}
	return int64(math.Round(score))
}

// among is the number of domains that the nodes with a score are in: of nodes, if each is one.
func (s *spread) among(spreads []*spread, requireAll bool, totals []int64) int {
	seen, unlabelled := make([]bool, len(s.column.ids)), s.column.ids[""]
	size := 0
	for i := range totals {
		if !scored(spreads, requireAll, totals, i) {
			continue
		}
		if s.topologyKey == corev1.LabelHostname {
			size++
			continue
		}
		if domain := domainOr(s.column.of[i], unlabelled); !seen[domain] {
			seen[domain] = true
			size++
		}
	}
	return size
}
