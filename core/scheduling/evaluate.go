package scheduling

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The names of upstream's plugins that rules follow (plugins/names/names.go).
const (
	SchedulingGates                 = "SchedulingGates"
	NodeAffinity                    = "NodeAffinity"
	NodeUnschedulable               = "NodeUnschedulable"
	TaintToleration                 = "TaintToleration"
	NodePorts                       = "NodePorts"
	NodeResourcesFit                = "NodeResourcesFit"
	VolumeRestrictions              = "VolumeRestrictions"
	NodeVolumeLimits                = "NodeVolumeLimits"
	VolumeBinding                   = "VolumeBinding"
	VolumeZone                      = "VolumeZone"
	NodeResourcesBalancedAllocation = "NodeResourcesBalancedAllocation"
	ImageLocality                   = "ImageLocality"
	PodTopologySpread               = "PodTopologySpread"
	InterPodAffinity                = "InterPodAffinity"
	DynamicResources                = "DynamicResources"
	NodeDeclaredFeatures            = "NodeDeclaredFeatures"
)

// Evaluation is how the nodes look to one pod.
type Evaluation struct {
	// Nodes are all that there are, by name.
	Nodes map[string]NodeEvaluation
	// Message says why no node can take the pod, in upstream's words, and is empty if one can.
	Message string
}

// NodeEvaluation is how one node looks to a pod.
type NodeEvaluation struct {
	// Rejected names the plugin that refuses the node, empty if none does, and Reasons say why in upstream's words.
	Rejected string
	Reasons  []string
	// Scores are the weighted scores by plugin, without those that are zero, and Total their sum.
	Scores map[string]int64
	Total  int64
	// Victims are the pods of lower priority whose going would let the pod in, the most important first, and Violations
	// is the number of them whose going would violate a disruption budget.
	Victims    []types.NamespacedName
	Violations int
}

// Evaluate answers for one pod what Place would weigh, whether or not the pod is waiting, and changes
// nothing.
func (c *Cluster) Evaluate(pod *corev1.Pod, now time.Time) Evaluation {
	prof := c.profileOf(pod)
	if prof == nil {
		return Evaluation{Message: fmt.Sprintf("no profile places pods whose schedulerName is %q", pod.Spec.SchedulerName)}
	}
	like := c.entryLike(pod)
	like.class = newClass(prof, pod, c.spreadingOf(pod))
	c.devices.mark(like.class)
	like.needs = needsOf(like.class, pod)
	defer c.releaseLike(like)
	if itself := c.pods[nameOf(pod)]; itself != nil {
		if n := c.withdraw(itself); n != nil { // it is not in its own way
			defer c.nominate(itself, n)
		}
	}
	r := newRun(c, 0, now)
	g := r.groupOf(like)
	b := r.newBoard(g, like.kin)
	defer b.release(c)
	e := Evaluation{Nodes: map[string]NodeEvaluation{}}
	prospects := r.prospectsOf(g, like.kin)
	defer prospects.release(c)
	scores, open := b.detail(), false
	for i, n := range c.nodes {
		if n.node == nil {
			continue
		}
		v := prospects.refused[i]
		if b.full {
			v = b.barred
		}
		one := NodeEvaluation{Rejected: v.plugin, Reasons: v.reasons}
		if f := prospects.candidates[i]; f != nil {
			one.Violations = f.violations
			for _, v := range f.victims {
				one.Victims = append(one.Victims, types.NamespacedName{Namespace: v.pod.Namespace, Name: v.pod.Name})
			}
		}
		if one.Rejected == "" {
			open = true
			one.Scores = scores.of(i)
			for _, score := range one.Scores {
				one.Total += score
			}
		}
		e.Nodes[n.name] = one
	}
	if !open || prospects.fault() != "" {
		e.Message = r.explain(g, like.kin, r.attempt(g, like))
	}
	return e
}

// entryLike is an entry for a pod that the cluster need not have, without a class. The caller releases it.
func (c *Cluster) entryLike(pod *corev1.Pod) *entry {
	return &entry{
		pod: pod, neighbourhood: c.neighbourhoodOf(pod), mounts: c.mountsOf(pod),
		kin: &kin{namespace: pod.Namespace, labels: pod.Labels, leaving: pod.DeletionTimestamp != nil},
	}
}

func (c *Cluster) releaseLike(e *entry) {
	c.releaseNeighbourhood(e.neighbourhood)
	c.releaseMounts(e.mounts)
}

// detail is the weighted scores of a board by plugin, by node index.
type detail map[string][]int64

func (b *board) detail() detail {
	d := detail{}
	if b.full {
		return d
	}
	open, weights := b.unrefused(), &b.class.profile.weights
	avoid, prefer := highestOpen(open, b.avoidances), highestOpen(open, b.preferences)
	score := func(plugin string, of func(at int) int64) {
		d[plugin] = make([]int64, len(open))
		for i := range open {
			d[plugin][i] = of(i)
		}
	}
	score(TaintToleration, func(at int) int64 {
		if avoid == 0 {
			return weights.taints * maxScore
		}
		return weights.taints * normalize(b.avoidances[at], avoid, true)
	})
	if prefer > 0 {
		score(NodeAffinity, func(at int) int64 { return weights.affinity * normalize(b.preferences[at], prefer, false) })
	}
	if b.images != nil {
		score(ImageLocality, func(at int) int64 { return weights.images * b.images[at] })
	}
	score(NodeResourcesFit, func(at int) int64 { return weights.fit * b.class.fitScore(b.nodes[at]) })
	score(NodeResourcesBalancedAllocation, func(at int) int64 { return weights.balanced * b.class.balanceScore(b.nodes[at]) })
	if b.volumes.scored() {
		score(VolumeBinding, func(at int) int64 { return b.volumes.weighted(b.class, b.nodes[at]) })
	}
	zero := func(at int) int64 { return min(open[at], 0) } // closed ones stay so
	if len(b.soft) > 0 {
		score(PodTopologySpread, zero)
		addSpreadScores(b.soft, !b.class.spreading.defaulted, weights.spread, d[PodTopologySpread], make([]int64, len(open)))
	}
	if b.interpod.scored() {
		score(InterPodAffinity, zero)
		b.interpod.addScores(weights.interpod, d[InterPodAffinity], make([]int64, len(open)))
	}
	if b.devices.scored() {
		score(DynamicResources, zero)
		b.devices.addScores(weights.devices, b.nodes, d[DynamicResources])
	}
	return d
}

// of returns the scores of one node that are not zero.
func (d detail) of(at int) map[string]int64 {
	out := map[string]int64{}
	for plugin, scores := range d {
		if scores[at] != 0 {
			out[plugin] = scores[at]
		}
	}
	return out
}
