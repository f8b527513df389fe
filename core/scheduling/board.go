package scheduling

import corev1 "k8s.io/api/core/v1"

// closed marks, on a board, a node that cannot take the class.
const closed = -1

// board is one group's view of the nodes during one run, by node index.
type board struct {
	class *class
	nodes []*nodeState
	// open tells the nodes that pass the rules over the node object alone.
	open []bool
	// byRoom is the score by resources, or closed.
	byRoom []int64
	// avoidances and preferences are raw scores, nil when they are zero everywhere.
	avoidances, preferences []int64
	// images are scores, nil when they are zero everywhere.
	images []int64
	// around is what the group's rules ask about pods elsewhere, and soft the preferences of how its pods spread.
	around
	soft []*spread
	// seen is how far into the steps of the run this board has followed.
	seen int
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
}

// nodeRules are in upstream's order. Nodes that the pod's affinity does not name come first, since upstream never shows
// them to a filter.
var nodeRules = []nodeRule{
	{NodeAffinity, isNamed}, {NodeUnschedulable, acceptsCordon}, {TaintToleration, toleratesTaints}, {NodeAffinity, matchesAffinity},
}

// refusal is the first reason to refuse the node that can be read from its object, and the plugin whose it is.
func refusal(c *class, node *corev1.Node) (plugin, reason string) {
	for _, rule := range nodeRules {
		if !c.profile.Filters[rule.plugin] {
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
	b := &board{class: c, nodes: nodes, seen: len(r.steps), around: r.around(g, k)}
	if b.isBarred() {
		b.full = true
		return b
	}
	b.soft = r.cluster.newSpreads(c, c.spreading.soft, !c.spreading.defaulted)
	b.open, b.byRoom = r.spare.open, r.spare.byRoom
	if r.spare = (board{}); b.open == nil {
		b.open, b.byRoom = make([]bool, len(nodes)), make([]int64, len(nodes))
	}
	for i, n := range nodes {
		refused := "no object"
		if n.node != nil {
			_, refused = refusal(c, n.node)
		}
		b.open[i] = refused == "" && n.declares(c)
		b.byRoom[i] = b.score(n)
		if !b.open[i] {
			continue
		}
		b.avoidances = setRaw(b.avoidances, i, avoidance(c, n.node), len(nodes))
		b.preferences = setRaw(b.preferences, i, preference(c, n.node), len(nodes))
		b.images = setRaw(b.images, i, r.cluster.imageLocality(c.images, n), len(nodes))
	}
	return b
}

// release lets go of what the board holds of the cluster.
func (b *board) release(c *Cluster) {
	b.around.release(c)
	c.releaseSpreads(b.soft)
}

func setRaw(scores []int64, i int, score int64, size int) []int64 {
	if score == 0 {
		return scores
	}
	if scores == nil {
		scores = make([]int64, size)
	}
	scores[i] = score
	return scores
}

// score is the sum of the scores by resources and storage, each of weight 1, or closed.
func (b *board) score(n *nodeState) int64 {
	c := b.class
	if !b.open[n.at] || !n.ports.free(c.ports) || !c.request.fits(&n.offered, &n.used) {
		return closed
	}
	if len(n.nominated) > 0 && !c.fitsBeside(n) {
		return closed
	}
	if v := b.volumes.refusal(n, nil); len(v.reasons) > 0 {
		return closed
	}
	if b.volumes != nil && len(n.nominated) > 0 {
		if v := b.volumes.refusal(n, &moved{come: c.yieldsTo(n)}); len(v.reasons) > 0 {
			return closed
		}
	}
	return c.score(n) + b.volumes.weighted(c, n)
}

// score is the weighted sum of the scores by resources.
func (c *class) score(n *nodeState) int64 {
	return c.profile.weights.fit*c.fitScore(n) + c.profile.weights.balanced*c.balanceScore(n)
}

func (c *class) fitScore(n *nodeState) int64 {
	if c.profile.plain {
		return leastAllocated(c.least, n)
	}
	return c.profile.fitScore(&c.wants, n)
}

func (c *class) balanceScore(n *nodeState) int64 {
	if c.profile.plain {
		return balancedAllocation(c.balanced, n)
	}
	return c.profile.balanceScore(&c.wants, n)
}

// follow brings the board up to the placements that the run has made since it last looked.
func (b *board) follow(r *run) {
	if b.full {
		return
	}
	news := r.steps[b.seen:]
	for _, s := range news {
		if s.pod == nil {
			continue
		}
		b.around.follow(s.pod, s.at)
		for _, soft := range b.soft {
			soft.follow(s.pod, s.at)
		}
	}
	b.seen = len(r.steps)
	if stale := b.refresh(r.cluster); stale || len(news) > len(b.byRoom) {
		for i, n := range r.cluster.nodes {
			b.byRoom[i] = b.score(n)
		}
		return
	}
	for _, s := range news {
		b.byRoom[s.at] = b.score(r.cluster.nodes[s.at])
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
	if avoid == 0 && prefer == 0 && b.images == nil && len(b.soft) == 0 && !b.interpod.scored() {
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
	return totals, 0
}

// unrefused is byRoom without the nodes that other pods keep the class off.
func (b *board) unrefused() []int64 {
	if !b.asks() {
		return b.byRoom
	}
	open := sized(&b.work.open, len(b.byRoom))
	for i, byRoom := range b.byRoom {
		open[i] = byRoom
		if byRoom == closed {
			continue
		}
		if _, reason, _ := b.refusal(i, nil); reason != "" {
			open[i] = closed
		} else if n := b.nodes[i]; len(n.nominated) > 0 {
			if _, reason, _ := b.refusal(i, &moved{come: b.class.yieldsTo(n)}); reason != "" {
				open[i] = closed
			}
		}
	}
	return open
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
