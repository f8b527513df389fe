package job

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podstate"
)

// chaos is a world in which everyone acts in any order: users edit and delete, pods end, and several instances decide on what they
// saw at some time, commit at another, and die in the middle.
type chaos struct {
	*world
	t *rapid.T
	// seen is the Job as an instance read it before the pods, nil for none; plan is what another one decided and has not committed.
	seen *batchv1.Job
	plan *decided
	// deleted are pods that users deleted: they count as failed, or as what they ended as.
	deleted map[types.UID]bool
}

func (c *chaos) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func drawJob(t *rapid.T) *batchv1.Job {
	job := newJob(size(rapid.Int32Range(0, 4).Draw(t, "parallelism"), rapid.Int32Range(1, 6).Draw(t, "completions")))
	limit := rapid.Int32Range(0, 6).Draw(t, "backoffLimit")
	job.Spec.BackoffLimit = &limit
	if rapid.IntRange(0, 3).Draw(t, "replaces only failed") == 0 {
		policy := batchv1.Failed
		job.Spec.PodReplacementPolicy = &policy
	}
	if rapid.Bool().Draw(t, "indexed") {
		indexed(job)
		drawIndexed(t, job)
	} else if rapid.IntRange(0, 3).Draw(t, "work queue") == 0 {
		job.Spec.Completions = nil
	}
	return job
}

func drawIndexed(t *rapid.T, job *batchv1.Job) {
	if rapid.Bool().Draw(t, "limit per index") {
		perIndex, most := rapid.Int32Range(0, 2).Draw(t, "backoffLimitPerIndex"), rapid.Int32Range(0, 3).Draw(t, "maxFailedIndexes")
		job.Spec.BackoffLimitPerIndex = &perIndex
		if rapid.Bool().Draw(t, "has maxFailedIndexes") {
			job.Spec.MaxFailedIndexes = &most
		}
	}
	if rapid.IntRange(0, 2).Draw(t, "success policy") == 0 {
		count := rapid.Int32Range(1, *job.Spec.Completions).Draw(t, "succeededCount")
		job.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededCount: &count}}}
	}
}

// act lets someone do something.
func (c *chaos) act() {
	switch rapid.IntRange(0, 12).Draw(c.t, "who") {
	case 0:
		c.user()
	case 1, 2:
		c.decideAndCommit(c.snapshot())
	case 3:
		c.seen = c.job
	case 4, 5:
		if c.seen != nil { // pods that are newer than the Job
			c.decideAndCommit(Snapshot{Job: c.seen, Pods: c.podSnapshot(c.seen), Now: c.now})
			c.seen = nil
		}
	case 6:
		if c.plan != nil { // decided some time ago
			c.commitSome(*c.plan)
			c.plan = nil
		}
	case 7:
		c.now = c.now.Add(time.Minute)
	default:
		if len(c.pods) > 0 {
			c.run(c.drawPod(c.t), rapid.SampledFrom([]corev1.PodPhase{corev1.PodSucceeded, corev1.PodSucceeded, corev1.PodFailed}).Draw(c.t, "end"))
		}
	}
	c.now = c.now.Add(time.Second)
}

func (c *chaos) user() {
	switch rapid.IntRange(0, 3).Draw(c.t, "edit") {
	case 0:
		n := rapid.Int32Range(0, 4).Draw(c.t, "parallelism")
		c.edit(func(j *batchv1.Job) { j.Spec.Parallelism = &n })
	case 1:
		c.edit(func(j *batchv1.Job) { yes := !*j.Spec.Suspend; j.Spec.Suspend = &yes })
	default:
		for _, pod := range c.sortedPods() {
			if podstate.IsActive(pod) && rapid.Bool().Draw(c.t, "delete") {
				c.deleted[pod.UID] = true
				c.deletePod(pod.Name, pod.UID)
				return
			}
		}
	}
}

func (c *chaos) decideAndCommit(s Snapshot) {
	d, err := c.decide(s)
	c.check(err)
	if rapid.IntRange(0, 3).Draw(c.t, "keep for later") == 0 {
		c.plan = &d
		return
	}
	c.commitSome(d)
}

// commitSome commits a plan or, as if the instance died, a beginning of it.
func (c *chaos) commitSome(d decided) {
	objects := -1
	if rapid.IntRange(0, 2).Draw(c.t, "dies") == 0 {
		objects = rapid.IntRange(0, len(d.Writes)).Draw(c.t, "objects")
	}
	creates := false
	if !d.stale(c.world) {
		creates = c.beforeCommit(d)
	}
	err := c.commit(d, objects)
	c.check(err)
	if active := c.countActive(); creates && active > int(*c.job.Spec.Parallelism) {
		c.t.Fatalf("%d pods are active, parallelism is %d", active, *c.job.Spec.Parallelism)
	}
}

// beforeCommit checks what a plan would do.
func (c *chaos) beforeCommit(d decided) (creates bool) {
	for _, w := range d.Writes {
		if w.Verb != plan.Create {
			continue
		}
		creates = true
		if ix := indexOf(w.Object.(*corev1.Pod)); isIndexed(c.job) && c.succeededIndexes[ix] {
			c.t.Fatalf("the finished index %d is run again", ix)
		}
	}
	return creates
}

func (c *chaos) countActive() int {
	n := 0
	for _, pod := range c.pods {
		if podstate.IsActive(pod) {
			n++
		}
	}
	return n
}

// TestCountsEachPodOnce: whatever happens, and whoever dies in the middle of what, no index runs again that has succeeded, never do
// more pods run than may, every pod that ended is counted once, and in the end nothing is left to do. The world checks that each
// status is one which the API server takes, and that no plan writes what did not change or alters its snapshot.
func TestCountsEachPodOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &chaos{world: newWorld(drawJob(t)), t: t, deleted: map[types.UID]bool{}}
		c.strict = true
		for range rapid.IntRange(0, 80).Draw(t, "steps") {
			c.act()
		}
		resume, parallelism := false, int32(2)
		c.edit(func(j *batchv1.Job) { j.Spec.Suspend, j.Spec.Parallelism = &resume, &parallelism })
		c.check(c.settle(always(rapid.SampledFrom([]corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed}).Draw(t, "last end"))))
		c.requireSettled()
		c.requireCounted()
	})
}

func (c *chaos) requireSettled() {
	if _, over := Finished(c.job); !over {
		c.t.Fatalf("the Job is not over:\n%s\n%d pods", encoded(c.job.Status), len(c.pods))
	}
	if p := Job(c.snapshot()); !p.Empty() {
		c.t.Fatalf("the plan of a finished Job asks for %+v", p)
	}
	for _, pod := range c.pods {
		if hasFinalizer(pod) || !podstate.IsTerminal(pod) {
			c.t.Fatalf("%s is %s with finalizers %v", pod.Name, pod.Status.Phase, pod.Finalizers)
		}
	}
	if len(c.later) > 0 {
		c.t.Fatalf("over, but still waits: %v", c.later)
	}
}

func (c *chaos) requireCounted() {
	succeeded, failed, either := 0, 0, 0
	for uid, end := range c.ends {
		switch {
		case c.deleted[uid] || c.released[uid]:
			either++
		case end == corev1.PodSucceeded:
			succeeded++
		default:
			failed++
		}
	}
	for uid := range c.deleted {
		if _, ended := c.ends[uid]; !ended {
			either++
		}
	}
	for uid := range c.released {
		if _, ended := c.ends[uid]; !ended {
			either++
		}
	}
	s := c.job.Status
	if isIndexed(c.job) {
		if int(s.Succeeded) > int(*c.job.Spec.Completions) || int(s.Succeeded) > len(c.succeededIndexes) {
			c.t.Fatalf("%d of %d indexes are completed, %d have succeeded", s.Succeeded, *c.job.Spec.Completions, len(c.succeededIndexes))
		}
	} else if int(s.Succeeded) < succeeded || int(s.Succeeded) > succeeded+either {
		c.t.Fatalf("%d pods are counted as succeeded, %d have (%d may)", s.Succeeded, succeeded, either)
	}
	if int(s.Failed) < failed || int(s.Failed) > failed+either {
		c.t.Fatalf("%d pods are counted as failed, %d have (%d may)", s.Failed, failed, either)
	}
}
