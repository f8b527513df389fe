package scheduling

import (
	"cmp"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const reasonNoVictims = "No preemption victims found for incoming pod"

// candidate is what would have to go from a node to make room.
type candidate struct {
	// victims are in the order of their importance, the most important first.
	victims []*entry
	// violations is the number of them whose going violates a budget.
	violations int
	// highest and sum are of their priorities, and started is when the first of those with the highest did.
	highest int32
	sum     int64
	started time.Time
	// early is set when some of them were only placed in this run.
	early bool
}

// victimsOn looks for the fewest and least important pods of lower priority whose going makes room on a node that has
// refused the class; nil and why, with the plugin that refuses it then, if all of them are not enough.
//
// Upstream: SelectVictimsOnNode in plugins/defaultpreemption/default_preemption.go.
func (r *run) victimsOn(c *class, a *around, n *nodeState) (*candidate, verdict) {
	var victims []*entry
	for _, e := range n.pods {
		if priorityOf(e.pod) < c.priority {
			victims = append(victims, e)
		}
	}
	if len(victims) == 0 {
		return nil, verdict{reasons: []string{reasonNoVictims}}
	}

	// 1. Without all of them.
	whole := n.asIs()
	left := whole.sketch()
	for _, e := range victims {
		left.remove(e)
	}
	if v := a.judgeOthers(c, &left); len(v.reasons) > 0 {
		return nil, v
	}

	// 2. As many as possible stay: first those whose budgets want them to, and of them the most important first.
	slices.SortFunc(victims, r.byImportance)
	violating := r.cluster.violating(victims)
	found := &candidate{}
	spare := func(e *entry) (spared bool) {
		left.restore(e)
		if v := a.judgeOthers(c, &left); len(v.reasons) > 0 {
			left.remove(e)
			found.victims = append(found.victims, e)
			return false
		}
		return true
	}
	for i, e := range victims {
		if violating != nil && violating[i] && !spare(e) {
			found.violations++
		}
	}
	for i, e := range victims {
		if violating == nil || !violating[i] {
			spare(e)
		}
	}
	if len(found.victims) == 0 {
		return nil, verdict{reasons: []string{"expected at least one victim pod on node \"" + n.name + "\""}}
	}
	slices.SortFunc(found.victims, r.byImportance)
	found.sumUp(r)
	return found, verdict{}
}

// byImportance has the pods first that had better stay.
//
// Upstream: MoreImportantVictim in framework/preemption/util.go.
func (r *run) byImportance(a, b *entry) int {
	return cmp.Or(
		cmp.Compare(priorityOf(b.pod), priorityOf(a.pod)),
		r.startOf(a).Compare(r.startOf(b)),
		cmp.Compare(a.pod.Namespace, b.pod.Namespace),
		cmp.Compare(a.pod.Name, b.pod.Name),
	)
}

// startOf is when a pod started; one that has not yet starts now.
//
// Upstream: GetPodStartTime in pkg/scheduler/util/utils.go.
func (r *run) startOf(e *entry) time.Time {
	if t := e.pod.Status.StartTime; t != nil {
		return t.Time
	}
	return r.now
}

func (f *candidate) sumUp(r *run) {
	f.highest, f.started = priorityOf(f.victims[0].pod), r.startOf(f.victims[0])
	for _, e := range f.victims {
		f.early = f.early || e.assumed
		// Shifted, so that few pods of negative priority do not lose against many.
		f.sum += int64(priorityOf(e.pod)) + math.MaxInt32 + 1
	}
}

// better is negative if fewer people mind f than other.
//
// Upstream: pickOneNodeForPreemption in framework/preemption/preemption.go.
func (f *candidate) better(other *candidate) int {
	return cmp.Or(
		cmp.Compare(f.violations, other.violations),
		cmp.Compare(f.highest, other.highest),
		cmp.Compare(f.sum, other.sum),
		cmp.Compare(len(f.victims), len(other.victims)),
		other.started.Compare(f.started),
	)
}

// goesForPreemption reports whether a pod is leaving since the scheduler wanted its place.
//
// Upstream: PodTerminatingByPreemption in framework/preemption/util.go.
func goesForPreemption(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp == nil {
		return false
	}
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.DisruptionTarget {
			return c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonPreemptionByScheduler
		}
	}
	return false
}
