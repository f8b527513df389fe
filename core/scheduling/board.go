package scheduling

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// closed marks, on a board, a node that cannot take the class.
const closed = -1

// board is one group's view of the nodes during one run, by node index.
type board struct {
	view
	nodes []*nodeState
	// around is what the group's rules ask about pods elsewhere, and soft the preferences of how its pods spread.
	around
	soft []*spread
	// followed is how far into the steps of the run this board has followed.
	followed int
	// work is room to calculate in.
	work work
	// full is set when no node can ever take the group.
	full bool
}

// work is arrays by node index that hold nothing between two questions.
type work struct {
	open, totals, scores []int64
}

// sized returns an array of a length, the same each time.
func sized[T any](array *[]T, n int) []T {
	if len(*array) != n {
		*array = make([]T, n)
	}
	return *array
}

// nodeRule gives the reason to refuse a node that can be read from the class and the node object, or nothing.
type nodeRule struct {
	plugin string
	refuse func(*class, *corev1.Node) string
	// early is set if it is upstream's PreFilter that rules, which is on or off by itself.
	early bool
}

// nodeRules are in upstream's order. Nodes that the pod's affinity does not name come first, since upstream never shows
// them to a filter.
var nodeRules = []nodeRule{
	{NodeAffinity, isNamed, true}, {NodeUnschedulable, acceptsCordon, false}, {TaintToleration, toleratesTaints, false},
	{NodeAffinity, matchesAffinity, false},
}

// refusal is the first reason to refuse the node that can be read from its object, and the plugin whose it is.
func refusal(c *class, node *corev1.Node) (plugin, reason string) {
	for _, rule := range nodeRules {
		if !rule.early && !c.profile.Filters[rule.plugin] {
			continue
		}
		if reason := rule.refuse(c, node); reason != "" {
			return rule.plugin, reason
		}
	}
	return "", ""
}

func (r *run) newBoard(g group, k *kin) *board {
	c, nodes := g.class, r.cluster.nodes
	b := &board{view: view{class: c}, nodes: nodes, followed: len(r.steps), around: r.around(g, k)}
	if b.isBarred() {
		b.full = true
		return b
	}
	b.soft = r.cluster.newSpreads(c, c.spreading.soft, !c.spreading.defaulted)
	if b.isSteady() {
		b.view = r.cluster.viewOf(c)
		return b
	}
	b.view = r.cluster.newView(c)
	for _, n := range nodes {
		b.adjust(n)
	}
	return b
}

// isSteady reports whether the score by resources of a node changes only when that is touched.
func (b *board) isSteady() bool { return b.volumes == nil && b.class.drawn == nil }

// release lets go of what the board holds of the cluster.
func (b *board) release(c *Cluster) {
	b.around.release(c)
	c.releaseSpreads(b.soft)
	switch {
	case b.full:
	case b.isSteady():
		c.keep(b.view)
	default:
		c.journal.spare = b.view
	}
}

// adjust takes the group's volumes into account on a node.
func (b *board) adjust(n *nodeState) {
	if b.volumes == nil || b.byRoom[n.at] == closed {
		return
	}
	if v := b.volumes.refusal(n, nil); len(v.reasons) > 0 {
		b.byRoom[n.at] = closed
		return
	}
	if len(n.nominated) > 0 {
		if v := b.volumes.refusal(n, &moved{come: b.class.yieldsTo(n)}); len(v.reasons) > 0 {
			b.byRoom[n.at] = closed
			return
		}
	}
	b.byRoom[n.at] += b.volumes.weighted(b.class, n)
}

// score is the weighted sum of the scores by resources.
func (c *class) score(n *nodeState) int64 {
	return c.profile.weights.fit*c.fitScore(n) + c.profile.weights.balanced*c.balanceScore(n)
}

func (c *class) fitScore(n *nodeState) int64 {
	if c.profile.plain {
		return leastAllocated(c.least, n)
	}
	return c.profile.fitScore(&c.wants, c.drawn, n)
}

func (c *class) balanceScore(n *nodeState) int64 {
	if c.profile.plain {
		return balancedAllocation(c.balanced, n)
	}
	return c.profile.balanceScore(&c.wants, c.drawn, n)
}

// follow brings the board up to the placements that the run has made since it last looked.
func (b *board) follow(r *run) {
	if b.full { // it has no scores to keep up
		return
	}
	for _, s := range r.steps[b.followed:] {
		if s.pod == nil {
			continue
		}
		b.around.follow(s.pod, s.at)
		for _, soft := range b.soft {
			soft.follow(s.pod, s.at)
		}
	}
	b.followed = len(r.steps)
	stale := b.refresh(r.cluster)
	news, all := b.catchUp(r.cluster)
	switch {
	case b.isSteady():
	case stale || all || b.class.drawn != nil:
		for _, n := range b.nodes {
			b.byRoom[n.at] = b.class.room(n, b.open[n.at])
			b.adjust(n)
		}
	default:
		for i, at := range news {
			if !slices.Contains(news[:i], at) { // once
				b.adjust(b.nodes[at])
			}
		}
	}
}

// best is the node with the highest total among those that can take the class; among equals, the one
// whose hash with salt is lowest.
func (b *board) best(c *Cluster, salt uint64) (at int, score int64) {
	totals, constant := b.totals()
	at, score = -1, closed
	lowest, hashes := uint64(0), c.hashes[:len(totals)]
	for i, total := range totals {
		if total < score || total == closed {
			continue
		}
		h := mix(salt ^ hashes[i])
		if total > score || h < lowest || h == lowest && c.nodes[i].name < c.nodes[at].name {
			at, score, lowest = i, total, h
		}
	}
	return at, score + constant
}

// totals are the weighted sums of the scores, closed for nodes that cannot take the class, but for what is the same for
// all nodes, which it also returns. The caller may not alter them.
func (b *board) totals() (totals []int64, constant int64) {
	open := b.unrefused()
	avoid, prefer := highestOpen(open, b.avoidances), highestOpen(open, b.preferences)
	if avoid == 0 && prefer == 0 && b.images == nil && len(b.soft) == 0 && !b.interpod.scored() && !b.devices.scored() {
		return open, b.byObject(0, 0, 0)
	}
	totals = sized(&b.work.totals, len(open))
	for i, score := range open {
		totals[i] = closed
		if score != closed {
			totals[i] = score + b.byObject(i, avoid, prefer)
		}
	}
	if len(b.soft) > 0 {
		addSpreadScores(b.soft, !b.class.spreading.defaulted, b.class.profile.weights.spread, totals, sized(&b.work.scores, len(totals)))
	}
	if b.interpod.scored() {
		b.interpod.addScores(b.class.profile.weights.interpod, totals, sized(&b.work.scores, len(totals)))
	}
	if b.devices.scored() {
		b.devices.addScores(b.class.profile.weights.devices, b.nodes, totals)
	}
	return totals, 0
}

// unrefused is byRoom without the nodes that other pods keep the class off, or that lack devices.
func (b *board) unrefused() []int64 {
	if !b.asks() && b.devices == nil {
		return b.byRoom
	}
	open := sized(&b.work.open, len(b.byRoom))
	for i, byRoom := range b.byRoom {
		open[i] = byRoom
		if byRoom != closed && (b.keptOff(i) || len(b.devices.refusal(b.nodes[i]).reasons) > 0) {
			open[i] = closed
		}
		if n := b.nodes[i]; byRoom == closed && b.devices != nil && n.node != nil && !n.declares(b.class) {
			m := n.asIs()
			b.judge(b.class, &m) // features come after devices, which may have made no sense before
		}
	}
	return open
}

// keptOff reports whether other pods keep the class off a node.
func (b *board) keptOff(at int) bool {
	if !b.asks() {
		return false
	}
	if _, reason, _ := b.refusal(at, nil); reason != "" {
		return true
	}
	n := b.nodes[at]
	if len(n.nominated) == 0 {
		return false
	}
	_, reason, _ := b.refusal(at, &moved{come: b.class.yieldsTo(n)})
	return reason != ""
}

// byObject is the weighted sum of the normalized scores over the node object.
func (b *board) byObject(at int, avoid, prefer int64) int64 {
	weights := &b.class.profile.weights
	total := weights.taints * maxScore
	if avoid > 0 {
		total = weights.taints * normalize(b.avoidances[at], avoid, true)
	}
	if prefer > 0 {
		total += weights.affinity * normalize(b.preferences[at], prefer, false)
	}
	if b.images != nil {
		total += weights.images * b.images[at]
	}
	return total
}

// highestOpen is the highest raw score of the nodes that are not closed.
func highestOpen(byRoom, raw []int64) int64 {
	var highest int64
	for i, score := range raw {
		if byRoom[i] != closed {
			highest = max(highest, score)
		}
	}
	return highest
}

// hashString is 64-bit FNV-1a.
func hashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// mix is the finalizer of SplitMix64: it spreads every bit of its input over the output.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
