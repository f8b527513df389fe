package scheduling

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Input is a whole cluster, for callers that keep no [Cluster] between runs.
type Input struct {
	Nodes []*corev1.Node
	// Pods are all pods of the cluster: assigned ones count, waiting ones are placed.
	Pods []*corev1.Pod
	// Seed breaks ties between nodes with equal scores.
	Seed uint64
	Now  time.Time
}

// Placement is a pod and the node that was chosen for it.
type Placement struct {
	Pod  *corev1.Pod
	Node string
	// Score is the weighted sum of the rules' scores.
	Score int64
}

// Failure is a pod that no node can take, and why, in upstream's words.
type Failure struct {
	Pod     *corev1.Pod
	Message string
}

// Result is what a run decided, both lists in queue order.
type Result struct {
	Placements    []Placement
	Unschedulable []Failure
	Plan          plan.Plan
}

// run is one pass over the pending pods.
type run struct {
	cluster *Cluster
	seed    uint64
	boards  map[*class]*board
	// served counts the pods of each class so far; the board of a class that is through lends its
	// arrays to the next.
	served map[*class]int
	spare  board
	// touched lists the nodes that got a pod, in order.
	touched []int
	assumed []*entry
}

// Place decides for every waiting pod of a cluster.
func Place(in Input) Result {
	c := NewCluster()
	for _, node := range in.Nodes {
		c.SetNode(node)
	}
	for _, pod := range in.Pods {
		c.SetPod(pod)
	}
	return c.Place(in.Seed, in.Now)
}

// Place decides for every waiting pod, in queue order, and leaves the cluster as it was: placements
// take effect here when their pods come back through SetPod.
//
// Upstream: schedulePod in pkg/scheduler/schedule_one.go.
func (c *Cluster) Place(seed uint64, now time.Time) Result {
	r := &run{cluster: c, seed: seed, boards: map[*class]*board{}, served: map[*class]int{}}

	c.settleColumns()
	c.regroup()

	// 1. The queue.
	waiting := make([]*entry, 0, len(c.waiting))
	for _, e := range c.waiting {
		waiting = append(waiting, e)
	}
	inQueueOrder(waiting)

	// 2. A node for each.
	var result Result
	var failed []*entry
	for _, e := range waiting {
		n, score := r.nodeFor(e)
		r.retire(e.class)
		if n == nil {
			failed = append(failed, e)
			continue
		}
		n.put(e)
		r.touched = append(r.touched, n.at)
		r.assumed = append(r.assumed, e)
		result.Placements = append(result.Placements, Placement{Pod: e.pod, Node: n.name, Score: score})
	}

	// 3. Reasons, once per class, of the cluster as it now is.
	messages := map[*class]string{}
	for _, e := range failed {
		if _, known := messages[e.class]; !known {
			messages[e.class] = c.explain(e.class)
		}
		result.Unschedulable = append(result.Unschedulable, Failure{Pod: e.pod, Message: messages[e.class]})
	}

	// 4. The placements were assumed only for this run.
	for _, e := range r.assumed {
		e.on.take(e)
	}

	// 5. What to write.
	result.Plan = planOf(&result, now)
	return result
}

// nodeFor is the best node for the pod, nil when there is none.
func (r *run) nodeFor(e *entry) (*nodeState, int64) {
	b, ok := r.boards[e.class]
	if !ok {
		b = r.newBoard(e.class)
		r.boards[e.class] = b
	}
	if b.full {
		return nil, 0
	}
	b.follow(r)
	salt := mix(r.seed ^ hashString(e.pod.Namespace+"/"+e.pod.Name))
	at, score := b.best(r.cluster, salt)
	if at < 0 {
		b.full = len(b.hard) == 0 // elsewhere, pods that come may open a node
		return nil, 0
	}
	return r.cluster.nodes[at], score
}

// retire lets go of the board of a class whose last pod was served.
func (r *run) retire(c *class) {
	r.served[c]++
	if r.served[c] < c.refs {
		return
	}
	b := r.boards[c]
	if b.open != nil {
		r.spare = board{open: b.open, byRoom: b.byRoom}
	}
	b.release(r.cluster)
	delete(r.boards, c)
}
