package scheduling

import "slices"

// view is what the rules that ask nothing about other nodes say of each node to a class, by node index. It is kept between
// runs, and brought up to date where nodes were touched since.
type view struct {
	class *class
	// epoch and seen are those of the journal that it has followed.
	epoch, seen int
	// open tells the nodes that pass the rules over the node object alone.
	open []bool
	// byRoom is the score by resources, or closed.
	byRoom []int64
	// avoidances and preferences are raw scores, nil when they are zero everywhere.
	avoidances, preferences []int64
	// images are scores, nil when they are zero everywhere.
	images []int64
}

const (
	// keptViews is how many views are kept at most.
	keptViews = 64
	// journalLength bounds the journal: whoever is so far behind looks at everything.
	journalLength = 1 << 16
)

// journal lists the nodes that were touched: those whose pods changed by their index, and those whose object changed by its
// complement. A new epoch begins when views cannot be brought up to date by that.
type journal struct {
	epoch   int
	touched []int32
	// views are the classes whose views are kept, that of the longest ago first.
	views []*class
	// spare are arrays that nobody uses.
	spare view
}

// renew begins a new epoch: nodes came, went, or say something about each other.
func (j *journal) renew() {
	j.epoch++
	j.touched = j.touched[:0]
}

// touch notes that a node was touched.
func (j *journal) touch(at int) {
	if len(j.touched) == journalLength {
		j.renew()
	}
	j.touched = append(j.touched, int32(at)) //nolint:gosec // there are not that many nodes
}

// viewOf finds or makes the view of a class, for a board that gives it back.
func (c *Cluster) viewOf(cl *class) view {
	v := cl.kept
	if v == nil || v.epoch != c.journal.epoch {
		return c.newView(cl)
	}
	cl.kept = nil
	out := *v
	out.catchUp(c)
	return out
}

func (c *Cluster) newView(cl *class) view {
	v := view{class: cl, epoch: c.journal.epoch, seen: len(c.journal.touched), open: c.journal.spare.open, byRoom: c.journal.spare.byRoom}
	c.journal.spare = view{}
	if len(v.open) != len(c.nodes) {
		v.open, v.byRoom = make([]bool, len(c.nodes)), make([]int64, len(c.nodes))
	}
	for i := range c.nodes {
		v.look(c, i)
	}
	return v
}

// keep has the next run find a view. Its class stays for as long, also without pods: the next may be like the last.
func (c *Cluster) keep(v view) {
	j := &c.journal
	v.class.kept = &v
	if at := slices.Index(j.views, v.class); at >= 0 {
		j.views = slices.Delete(j.views, at, at+1)
	}
	j.views = append(j.views, v.class)
	if len(j.views) <= keptViews {
		return
	}
	oldest := j.views[0]
	j.views = slices.Delete(j.views, 0, 1)
	if oldest.kept != nil {
		j.spare = *oldest.kept
		oldest.kept = nil
	}
	if oldest.refs == 0 {
		delete(c.classes, oldest.key)
	}
}

// look judges one node anew.
func (v *view) look(c *Cluster, at int) {
	n := c.nodes[at]
	refused := "no object"
	if n.node != nil {
		_, refused = refusal(v.class, n.node)
	}
	v.open[at] = refused == "" && n.declares(v.class)
	v.byRoom[at] = v.class.room(n, v.open[at])
	var avoid, prefer, image int64
	if v.open[at] {
		avoid, prefer, image = avoidance(v.class, n.node), preference(v.class, n.node), c.imageLocality(v.class.images, n)
	}
	v.avoidances = setRaw(v.avoidances, at, avoid, len(c.nodes))
	v.preferences = setRaw(v.preferences, at, prefer, len(c.nodes))
	v.images = setRaw(v.images, at, image, len(c.nodes))
}

func setRaw(scores []int64, i int, score int64, size int) []int64 {
	if scores == nil {
		if score == 0 {
			return nil
		}
		scores = make([]int64, size)
	}
	scores[i] = score
	return scores
}

// catchUp brings the view up to date. It reports the nodes that it looked at again, by index or complement; everything, if
// that is less work.
func (v *view) catchUp(c *Cluster) (news []int32, all bool) {
	if v.epoch != c.journal.epoch { // in a run no nodes come or go: the journal was full
		v.epoch, v.seen, all = c.journal.epoch, 0, true
	}
	news = c.journal.touched[v.seen:]
	v.seen = len(c.journal.touched)
	if all || len(news) > len(v.byRoom) {
		for i := range c.nodes {
			v.look(c, i)
		}
		return nil, true
	}
	for _, at := range news {
		if at < 0 {
			v.look(c, int(^at))
		} else {
			v.byRoom[at] = v.class.room(c.nodes[at], v.open[at])
		}
	}
	return news, false
}

// room is the score by resources of a node that the object rules let in or not: closed if there is no room.
func (cl *class) room(n *nodeState, open bool) int64 {
	if !open || !n.ports.free(cl.ports) || !cl.request.fits(&n.offered, &n.used) {
		return closed
	}
	if len(n.nominated) > 0 && !cl.fitsBeside(n) {
		return closed
	}
	return cl.score(n)
}
