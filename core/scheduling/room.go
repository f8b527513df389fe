package scheduling

import (
	"iter"
	"maps"
	"slices"
)

// room is a node as a pod would find it: with the pods that are on it, or with some of them thought away and others
// thought there.
type room struct {
	node  *nodeState
	used  *amounts
	ports portSet
	moved
}

// moved are the pods of a node that are thought away, and those that are thought there.
type moved struct{ gone, come []*entry }

// asIs is the node as it is.
func (n *nodeState) asIs() room { return room{node: n, used: &n.used, ports: n.ports} }

// sketch is a copy to think with.
func (m *room) sketch() room {
	used := *m.used
	used.scalars = maps.Clone(m.used.scalars)
	return room{
		node: m.node, used: &used, ports: maps.Clone(m.ports),
		moved: moved{gone: append([]*entry(nil), m.gone...), come: append([]*entry(nil), m.come...)},
	}
}

func (m *room) count(e *entry, by int64) {
	m.used.add(&e.charge.taken, by)
	m.used.pods += by
	m.ports.add(e.charge.ports, int(by))
}

// think puts a pod on the node.
func (m *room) think(e *entry) {
	m.count(e, 1)
	m.come = append(m.come, e)
}

// with is a copy on which more pods are thought to be.
func (m *room) with(pods []*entry) room {
	out := m.sketch()
	for _, e := range pods {
		out.think(e)
	}
	return out
}

// remove takes one of its pods off the node.
func (m *room) remove(e *entry) {
	m.count(e, -1)
	m.gone = append(m.gone, e)
}

// restore is the reverse of remove.
func (m *room) restore(e *entry) {
	m.count(e, 1)
	if i := slices.Index(m.gone, e); i >= 0 {
		m.gone = slices.Delete(m.gone, i, i+1)
	}
}

// chosen is the number of pods of a selection that are thought there, less those thought away.
func (m *moved) chosen(s *selection) int64 {
	if m == nil {
		return 0
	}
	return m.number(func(e *entry) bool { return e.kin.isIn(s) })
}

// none reports whether nothing was moved.
func (m *moved) none() bool { return m == nil || len(m.gone)+len(m.come) == 0 }

// mounting are the pods that mount something on a node, with what was moved.
func (m *moved) mounting(n *nodeState) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for e := range n.mounting {
			if (m == nil || !slices.Contains(m.gone, e)) && !yield(e) {
				return
			}
		}
		if m == nil {
			return
		}
		for _, e := range m.come {
			if e.mounts != nil && !yield(e) {
				return
			}
		}
	}
}

// number counts pods that are thought there, less those thought away.
func (m *moved) number(counts func(*entry) bool) int64 {
	var n int64
	for _, e := range m.come {
		if counts(e) {
			n++
		}
	}
	for _, e := range m.gone {
		if counts(e) {
			n--
		}
	}
	return n
}
