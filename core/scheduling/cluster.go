package scheduling

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	features "k8s.io/component-helpers/nodedeclaredfeatures"
)

// Cluster is what placement knows of a cluster. The zero value is not ready; use [NewCluster].
//
// The objects given to it are kept and read, never changed.
type Cluster struct {
	// nodes is dense and unordered; index finds a node by name. A node that was not given yet, or
	// was deleted while pods are on it, has its state but no object.
	nodes []*nodeState
	index map[string]int
	// hashes are of the nodes' names, by index: ties are settled without touching the nodes.
	hashes []uint64
	// known counts the nodes that have an object.
	known int
	// imageNodes counts the nodes that have an image, by its name.
	imageNodes map[string]int

	profiles map[string]*profile
	pods     map[types.NamespacedName]*entry
	waiting  map[types.NamespacedName]*entry

	charges map[string]*charge
	classes map[string]*class
	kins    map[string]*kin
	// columns and selections are what classes ask for, by label and by selector.
	columns    map[string]*column
	selections map[string]*selection
	groupings  map[string]*grouping
	// namespaces are the labels of those that are known, neighbourhoods what pods ask of others, and carried what those
	// on nodes say.
	namespaces     map[string]labels.Set
	neighbourhoods map[string]*neighbourhood
	carried        map[string]*carried
	// nominations counts the pods that are nominated to a node.
	nominations int
	budgets     []*budget
	storage     storage
	devices     devices
	// changes counts what rules may read differently, and settledAt was their number when a run asked for nothing. That holds
	// until the first drivers are given up that a pod waits for, settledUntil; zero for ever.
	changes, settledAt int
	settledUntil       time.Time
	dormitory          dormitory
	refusals           map[types.UID]pause
	journal            journal
	// key is scratch space for building the keys of charges and classes.
	key []byte
}

// nodeState is a node and what the pods on it take.
type nodeState struct {
	name    string
	node    *corev1.Node
	at      int
	journal *journal

	offered, used         amounts
	cpuShown, memoryShown int64
	ports                 portSet
	pods                  []*entry
	// features are those that the node declares.
	features features.FeatureSet
	// nominated are the pods without a node that room is left to.
	nominated []*entry
	// mounting are those that mount something, and attached what that attaches, nil until somebody asks.
	mounting map[*entry]bool
	attached *attached
	// labels is a node with the labels of this one and nothing else, nil until somebody asks.
	labels *corev1.Node
	// images are the sizes in bytes of the images that the node has, by name.
	images map[string]int64
}

// entry is a pod of the cluster: on a node, or without one, with a class, since it waits for one or hopes for it.
type entry struct {
	pod    *corev1.Pod
	charge *charge
	class  *class
	// on and at are the node that the pod is on and its place in the node's list.
	on *nodeState
	at int
	// kin are the pods like it, and among its place there.
	kin   *kin
	among int
	// nominee is the node that room is left to it on.
	nominee *nodeState
	// assumed is set while a run has placed the pod.
	assumed bool
	// neighbourhood is what it asks of other pods, nil for nothing.
	neighbourhood *neighbourhood
	// mounts is what it mounts, nil for nothing that the scheduler looks at.
	mounts *mounts
	// asleep is how it sleeps, nil if it does not, and message what it was told before.
	asleep  *sleeper
	message string
	// needs is what it asks for of devices, nil for nothing.
	needs *needs
}

// NewCluster returns an empty cluster whose pods are placed by profiles, one for each schedulerName: the default profile,
// if none are given.
func NewCluster(profiles ...Profile) *Cluster {
	if len(profiles) == 0 {
		profiles = []Profile{DefaultProfile()}
	}
	ready := map[string]*profile{}
	for _, p := range profiles {
		ready[p.SchedulerName] = newProfile(p)
	}
	return &Cluster{
		profiles:       ready,
		settledAt:      -1,
		index:          map[string]int{},
		imageNodes:     map[string]int{},
		pods:           map[types.NamespacedName]*entry{},
		waiting:        map[types.NamespacedName]*entry{},
		charges:        map[string]*charge{},
		classes:        map[string]*class{},
		kins:           map[string]*kin{},
		columns:        map[string]*column{},
		selections:     map[string]*selection{},
		groupings:      map[string]*grouping{},
		namespaces:     map[string]labels.Set{},
		neighbourhoods: map[string]*neighbourhood{},
		carried:        map[string]*carried{},
		storage:        newStorage(),
		dormitory:      newDormitory(),
		refusals:       map[types.UID]pause{},
		devices:        newDevices(),
	}
}

// SetNode adds a node or replaces the one of its name.
func (c *Cluster) SetNode(node *corev1.Node) {
	n := c.nodeNamed(node.Name)
	if sameNode(n.node, node) {
		n.node = node
		return
	}
	old := n.node
	if old == nil {
		c.known++
		c.journal.renew()
	}
	n.node, n.labels = node, nil
	n.offered = newAmounts(node.Status.Allocatable)
	n.features = features.DefaultFramework.TryMap(node.Status.DeclaredFeatures)
	c.setImages(n, imagesOf(node))
	c.journal.touch(^n.at)
	for _, col := range c.columns {
		col.set(n.at, node)
	}
	tell(c, nodeHint, old, node)
}

// DeleteNode removes a node. The pods that are on it stay known until they are deleted themselves.
func (c *Cluster) DeleteNode(name string) {
	at, ok := c.index[name]
	if !ok || c.nodes[at].node == nil {
		return
	}
	n := c.nodes[at]
	tell(c, nodeHint, n.node, nil)
	n.node, n.labels, n.offered = nil, nil, amounts{}
	c.setImages(n, nil)
	c.journal.renew()
	for _, col := range c.columns {
		col.of[at] = nowhere
	}
	c.known--
	c.dropEmpty(n)
}

// SetPod adds a pod or replaces the one of its name. Pods with spec.nodeName count on that node until
// they finish; pods that wait to be placed here are placed by the next Place; those that only hope for a node have room left to
// them there; others are nothing to us.
func (c *Cluster) SetPod(pod *corev1.Pod) {
	name := nameOf(pod)
	if e := c.pods[name]; e != nil && c.samePod(e.pod, pod) {
		e.pod = pod
		if e.on == nil {
			c.hear(e)
		}
		return
	}
	old, was := c.removePod(name)
	e := c.addPod(name, pod)
	c.podChanged(old, was, e)
}

// addPod is SetPod for one of a name that there is none of. It returns nil for pods that are nothing to us.
func (c *Cluster) addPod(name types.NamespacedName, pod *corev1.Pod) *entry {
	switch {
	case pod.Spec.NodeName != "" && !finished(pod):
		e := &entry{pod: pod, charge: c.chargeOf(pod), neighbourhood: c.neighbourhoodOf(pod), mounts: c.mountsOf(pod)}
		c.pods[name] = e
		c.join(e, pod)
		c.nodeNamed(pod.Spec.NodeName).put(e)
		return e
	case c.waits(pod):
		e := &entry{
			pod: pod, charge: c.chargeOf(pod), class: c.classOf(pod), neighbourhood: c.neighbourhoodOf(pod), mounts: c.mountsOf(pod),
		}
		e.needs = needsOf(e.class, pod)
		c.pods[name] = e
		c.waiting[name] = e
		c.dormitory.awake[e] = true
		c.join(e, pod)
		if pod.Status.NominatedNodeName != "" {
			c.nominate(e, c.nodeNamed(pod.Status.NominatedNodeName))
		}
		return e
	case c.hopes(pod):
		e := &entry{pod: pod, charge: c.chargeOf(pod), class: c.classOf(pod), neighbourhood: c.neighbourhoodOf(pod), mounts: c.mountsOf(pod)}
		c.pods[name] = e
		c.join(e, pod)
		c.nominate(e, c.nodeNamed(pod.Status.NominatedNodeName))
		return e
	}
	return nil
}

// DeletePod removes a pod.
func (c *Cluster) DeletePod(namespace, podName string) {
	if old, was := c.removePod(types.NamespacedName{Namespace: namespace, Name: podName}); old != nil {
		c.podChanged(old, was, nil)
	}
}

// removePod takes out the pod of a name, nil if there is none, and tells where it was.
func (c *Cluster) removePod(name types.NamespacedName) (e *entry, was place) {
	e, ok := c.pods[name]
	if !ok {
		return nil, place{}
	}
	was = placeOf(e)
	delete(c.pods, name)
	delete(c.waiting, name)
	if n := e.on; n != nil {
		n.take(e)
		c.dropEmpty(n)
	}
	if n := c.withdraw(e); n != nil {
		c.dropEmpty(n)
	}
	c.part(e)
	c.release(e)
	return e, was
}

// Pending is the number of pods that wait to be placed.
func (c *Cluster) Pending() int { return len(c.waiting) }

// Nodes is the number of nodes.
func (c *Cluster) Nodes() int { return c.known }

func (c *Cluster) nodeNamed(name string) *nodeState {
	if at, ok := c.index[name]; ok {
		return c.nodes[at]
	}
	n := &nodeState{name: name, at: len(c.nodes), ports: portSet{}, journal: &c.journal}
	c.journal.renew()
	c.index[name] = n.at
	c.nodes = append(c.nodes, n)
	c.hashes = append(c.hashes, hashString(name))
	for _, col := range c.columns {
		col.of = append(col.of, nowhere)
	}
	for _, s := range c.selections {
		s.counts = append(s.counts, 0)
	}
	for _, s := range c.carried {
		s.counts = append(s.counts, 0)
	}
	return n
}

// dropEmpty forgets a node that has neither object nor pods, and is none's hope. The last node takes its place.
func (c *Cluster) dropEmpty(n *nodeState) {
	if n.node != nil || len(n.pods) > 0 || len(n.nominated) > 0 {
		return
	}
	c.journal.renew()
	end := len(c.nodes) - 1
	last := c.nodes[end]
	c.nodes[n.at], c.hashes[n.at], last.at = last, c.hashes[end], n.at
	c.index[last.name] = last.at
	c.nodes[end] = nil
	c.nodes, c.hashes = c.nodes[:end], c.hashes[:end]
	for _, col := range c.columns {
		col.of[n.at] = col.of[end]
		col.of = col.of[:end]
	}
	for _, s := range c.selections {
		s.counts[n.at] = s.counts[end]
		s.counts = s.counts[:end]
	}
	for _, s := range c.carried {
		s.counts[n.at] = s.counts[end]
		s.counts = s.counts[:end]
	}
	delete(c.index, n.name)
}

// put counts a pod on the node.
func (n *nodeState) put(e *entry) {
	e.on, e.at = n, len(n.pods)
	n.pods = append(n.pods, e)
	n.count(e, 1)
}

// take is the reverse of put.
func (n *nodeState) take(e *entry) {
	last := n.pods[len(n.pods)-1]
	n.pods[e.at], last.at = last, e.at
	n.pods[len(n.pods)-1] = nil
	n.pods = n.pods[:len(n.pods)-1]
	e.on = nil
	n.count(e, -1)
}

func (n *nodeState) count(e *entry, by int32) {
	n.journal.touch(n.at)
	n.used.add(&e.charge.taken, int64(by))
	n.used.pods += int64(by)
	n.cpuShown += int64(by) * e.charge.cpuShown
	n.memoryShown += int64(by) * e.charge.memoryShown
	n.ports.add(e.charge.ports, int(by))
	for _, s := range e.kin.chosen {
		s.counts[n.at] += by
	}
	if e.mounts != nil {
		n.countMounts(e, by)
	}
	if e.neighbourhood == nil {
		return
	}
	for _, s := range e.neighbourhood.carried {
		s.counts[n.at] += by
	}
}
