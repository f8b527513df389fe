package scheduling

import corev1 "k8s.io/api/core/v1"

// nowhere is the domain of a node without the label.
const nowhere = int32(-1)

// column is the domains that nodes are in by one of their labels, by node index: small numbers instead of values.
type column struct {
	key string
	of  []int32
	// ids numbers the values. Those of nodes that are gone stay until the column is made again.
	ids  map[string]int32
	refs int
}

// columnOf finds the column of a label, or makes it. The caller releases it.
func (c *Cluster) columnOf(key string) *column {
	col := c.columns[key]
	if col == nil {
		col = &column{key: key}
		c.columns[key] = col
		col.fill(c.nodes)
	}
	col.refs++
	return col
}

func (c *Cluster) releaseColumn(col *column) {
	if col.refs--; col.refs == 0 {
		delete(c.columns, col.key)
	}
}

func (col *column) fill(nodes []*nodeState) {
	col.of, col.ids = make([]int32, 0, len(nodes)), map[string]int32{}
	for _, n := range nodes {
		col.of = append(col.of, nowhere)
		if n.node != nil {
			col.set(n.at, n.node)
		}
	}
}

// set notes the domain of a node.
func (col *column) set(at int, node *corev1.Node) {
	col.of[at] = nowhere
	if value, ok := node.Labels[col.key]; ok {
		col.of[at] = col.id(value)
	}
}

// id is the number of a value.
func (col *column) id(value string) int32 {
	id, ok := col.ids[value]
	if !ok {
		id = int32(len(col.ids)) //nolint:gosec // fewer than nodes
		col.ids[value] = id
	}
	return id
}

// settled makes columns again that are full of values that no node has any more.
func (c *Cluster) settleColumns() {
	const slack = 64
	for _, col := range c.columns {
		if len(col.ids) > 2*len(c.nodes)+slack {
			col.fill(c.nodes)
		}
	}
}
