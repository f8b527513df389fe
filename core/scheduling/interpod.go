package scheduling

import "math"

const (
	reasonNear    = "node(s) didn't match pod affinity rules"
	reasonApart   = "node(s) didn't match pod anti-affinity rules"
	reasonKeptOff = "node(s) didn't satisfy existing pods anti-affinity rules"
)

// tally is a number for each domain of a label.
type tally struct {
	column *column
	sums   []int64
}

func (c *Cluster) newTally(key string) tally {
	column := c.columnOf(key)
	return tally{column, make([]int64, len(column.ids))}
}

// add adds to the domain of a node, if it is in one. It reports whether it is.
func (t *tally) add(at int, n int64) bool {
	domain := t.column.of[at]
	if domain == nowhere {
		return false
	}
	t.sums[domain] += n
	return true
}

// at is the number of the domain of a node, 0 for none.
func (t *tally) at(at int) int64 {
	if domain := t.column.of[at]; domain != nowhere {
		return t.sums[domain]
	}
	return 0
}

// asked is one term of the class with the pods that it chooses.
type asked struct {
	tally
	chosen *selection
	weight int64
}

// told is what pods on nodes say to the class, by the label of nodes that it is about.
type told struct {
	tally
	said map[*carried]bool
}

// interpod is what a class and the pods on nodes ask of each other, over the nodes, kept up during a run.
//
// Upstream: plugins/interpodaffinity.
type interpod struct {
	// near are the required terms. A pod counts if all of them choose it; pods is how often any did, and self is set when
	// the class itself would.
	near []asked
	pods int64
	self bool
	// apart and preferred are the other terms.
	apart, preferred []asked
	// keptOff and liked are what others say, by label, and keepers how often somebody keeps the class off.
	keptOff, liked []told
	keepers        int64
	// profile is that of the class.
	profile *profile
	// off is set where the rule refuses nothing.
	off bool
}

// newInterpod starts it for a class whose pods hear these terms; nil if there is nothing to ask. The caller releases it.
func (c *Cluster) newInterpod(prof *profile, n *neighbourhood, k *kin, heard []*carried) *interpod {
	if n == nil && len(heard) == 0 {
		return nil
	}
	p := &interpod{profile: prof, off: !prof.Filters[InterPodAffinity]}
	if n != nil {
		p.ask(c, n, k)
	}
	for _, s := range heard {
		if !s.keepsOff && prof.IgnorePreferredTerms && len(p.preferred) == 0 {
			continue
		}
		list := &p.liked
		if s.keepsOff {
			list = &p.keptOff
		}
		t := c.toldAbout(list, s.topologyKey)
		t.said[s] = true
		for i, count := range s.counts {
			if count != 0 && t.add(i, p.worth(s)*int64(count)) && s.keepsOff {
				p.keepers += int64(count)
			}
		}
	}
	return p
}

// worth is what one pod that says a term adds.
func (p *interpod) worth(s *carried) int64 {
	switch {
	case s.keepsOff:
		return 1
	case s.required:
		return p.profile.HardPodAffinityWeight
	}
	return s.weight
}

func (c *Cluster) toldAbout(list *[]told, key string) *told {
	for i := range *list {
		if (*list)[i].column.key == key {
			return &(*list)[i]
		}
	}
	*list = append(*list, told{c.newTally(key), map[*carried]bool{}})
	return &(*list)[len(*list)-1]
}

func (p *interpod) ask(c *Cluster, n *neighbourhood, k *kin) {
	p.self = n.wants(c, k)
	for i := range n.near {
		a := asked{c.newTally(n.near[i].topologyKey), c.selectionOf(c.choosing(n.near)), 1}
		p.pods += a.fold()
		p.near = append(p.near, a)
	}
	for i := range n.apart {
		a := asked{c.newTally(n.apart[i].topologyKey), c.selectionOf(c.choosing(n.apart[i : i+1])), 1}
		a.fold()
		p.apart = append(p.apart, a)
	}
	for i := range n.preferred {
		t := &n.preferred[i]
		a := asked{c.newTally(t.topologyKey), c.selectionOf(c.choosing([]term{t.term})), t.weight}
		a.fold()
		p.preferred = append(p.preferred, a)
	}
}

// fold adds up the pods that are chosen, and returns how many are in a domain.
func (a *asked) fold() int64 {
	var all int64
	for i, count := range a.chosen.counts {
		if count != 0 && a.add(i, a.weight*int64(count)) {
			all += int64(count)
		}
	}
	return all
}

func (c *Cluster) releaseInterpod(p *interpod) {
	if p == nil {
		return
	}
	for _, list := range [][]asked{p.near, p.apart, p.preferred} {
		for i := range list {
			c.releaseColumn(list[i].column)
			c.releaseSelection(list[i].chosen)
		}
	}
	for _, list := range [][]told{p.keptOff, p.liked} {
		for i := range list {
			c.releaseColumn(list[i].column)
		}
	}
}

// follow counts a pod that was placed.
func (p *interpod) follow(e *entry, at int) {
	if p == nil {
		return
	}
	for i := range p.near {
		if a := &p.near[i]; e.kin.isIn(a.chosen) && a.add(at, 1) {
			p.pods++
		}
	}
	for _, list := range [][]asked{p.apart, p.preferred} {
		for i := range list {
			if a := &list[i]; e.kin.isIn(a.chosen) {
				a.add(at, a.weight)
			}
		}
	}
	if e.neighbourhood == nil {
		return
	}
	for _, list := range [][]told{p.keptOff, p.liked} {
		for i := range list {
			for _, s := range e.neighbourhood.carried {
				if list[i].said[s] && list[i].add(at, p.worth(s)) && s.keepsOff {
					p.keepers++
				}
			}
		}
	}
}

// refusal gives the reason why a node cannot take a pod of the class, or nothing, and whether other pods on it may be
// why, if pods on it were moved.
//
// Upstream: Filter in plugins/interpodaffinity/filtering.go.
func (p *interpod) refusal(at int, m *moved) (reason string, resolvable bool) {
	if p == nil || p.off || p.keepers == 0 && len(p.near)+len(p.apart) == 0 { // upstream then never looks at moved pods either
		return "", false
	}
	if !p.isNear(at, m) {
		return reasonNear, false
	}
	for i := range p.apart {
		a := &p.apart[i]
		if a.at(at)+m.chosen(a.chosen) > 0 && a.column.of[at] != nowhere {
			return reasonApart, true
		}
	}
	for i := range p.keptOff {
		t := &p.keptOff[i]
		if t.column.of[at] != nowhere && t.at(at)+t.saidBy(m) > 0 {
			return reasonKeptOff, true
		}
	}
	return "", false
}

// isNear reports whether the pods that the class must be near to are: in the domains of the node, or nowhere if the class
// would be the first of them.
func (p *interpod) isNear(at int, m *moved) bool {
	more, all := int64(0), true
	for i := range p.near {
		a := &p.near[i]
		if a.column.of[at] == nowhere {
			return false
		}
		come := m.chosen(a.chosen)
		more += come
		all = all && a.at(at)+come > 0
	}
	return all || p.self && p.pods+more == 0
}

// saidBy is what pods that are thought there say, less what those thought away do.
func (t *told) saidBy(m *moved) int64 {
	if m == nil {
		return 0
	}
	return t.saidByAll(m.come) - t.saidByAll(m.gone)
}

func (t *told) saidByAll(pods []*entry) int64 {
	var n int64
	for _, e := range pods {
		if e.neighbourhood == nil {
			continue
		}
		for _, s := range e.neighbourhood.carried {
			if t.said[s] {
				n++
			}
		}
	}
	return n
}

// score is the sum of the weights of the terms for the pods in the node's domains.
func (p *interpod) score(at int) int64 {
	var sum int64
	for i := range p.preferred {
		sum += p.preferred[i].at(at)
	}
	for i := range p.liked {
		sum += p.liked[i].at(at)
	}
	return sum
}

// addScores adds the normalized and weighted scores to the totals of the nodes that are not closed.
//
// Upstream: plugins/interpodaffinity/scoring.go.
func (p *interpod) addScores(weight int64, totals, scores []int64) {
	lowest, highest := int64(math.MaxInt64), int64(math.MinInt64)
	for i, total := range totals {
		if total == closed {
			continue
		}
		scores[i] = p.score(i)
		lowest, highest = min(lowest, scores[i]), max(highest, scores[i])
	}
	if highest <= lowest {
		return
	}
	for i := range totals {
		if totals[i] != closed {
			totals[i] += weight * int64(maxScore*(float64(scores[i]-lowest)/float64(highest-lowest)))
		}
	}
}

// demands reports whether anything is required.
func (p *interpod) demands() bool {
	return p != nil && !p.off && len(p.near)+len(p.apart)+len(p.keptOff) > 0
}

// scored reports whether there is anything to score.
func (p *interpod) scored() bool {
	return p != nil && p.profile.weights.interpod != 0 && len(p.preferred)+len(p.liked) > 0
}
