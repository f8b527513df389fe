package job

import (
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/zeroplane/zeroplane/core/plan"
)

// maxUncountedPods bounds status.uncountedTerminatedPods, so that the status stays below some 20 KB (job_controller.go
// MaxUncountedPods). The others wait until these are counted.
const maxUncountedPods = 500

// tracking is what job_controller.go trackJobStatusAndRemoveFinalizers finds out about the pods that have ended.
type tracking struct {
	// settled have nothing that the stored status lacks: their finalizers go.
	settled []*corev1.Pod
	// succeeded and failed are to be accounted for, indexes to be completed.
	succeeded, failed []types.UID
	indexes           []int
	// left are the pods that keep their finalizers until the status of this plan is stored.
	left int
}

// full reports whether the status can take no more.
func (t *tracking) full() bool {
	return len(t.indexes)+len(t.succeeded)+len(t.failed) >= maxUncountedPods
}

// track takes the finalizers of the pods that the stored status accounts for, counts them, and accounts for the others.
func (d *decision) track() {
	if isIndexed(d.job) {
		slices.SortStableFunc(d.pods, compareIndex)
	}
	var t tracking
	for _, pod := range d.pods {
		if hasFinalizer(pod) && !d.released.Has(pod.UID) && d.endsFor(pod) {
			d.trackPod(pod, &t)
		}
	}
	if d.begins && d.finish != nil { // why it ends has to be stored before any pod goes
		t.left += len(t.settled)
		t.settled = nil
	}
	for _, pod := range t.settled {
		d.plan.Writes = append(d.plan.Writes, takeFinalizer(pod, "the pod is accounted for"))
	}
	d.count(&t)
	if isIndexed(d.job) {
		d.writeIndexes(t.indexes)
	}
	d.status.Active, d.status.Ready, d.status.Terminating = d.activeCount, &d.ready, &d.terminating
	d.conclude(&t)
}

// endsFor reports whether the Job is through with a pod: job_controller.go canRemoveFinalizer.
func (d *decision) endsFor(pod *corev1.Pod) bool {
	if d.job.DeletionTimestamp != nil || d.finish != nil || pod.Status.Phase == corev1.PodSucceeded {
		return true
	}
	if !isFailed(d.job, pod) {
		return false
	}
	stays := d.delayed[indexOf(pod)]
	return stays == nil || stays.UID != pod.UID
}

// trackPod says what is to be done for one pod that the Job is through with.
func (d *decision) trackPod(pod *corev1.Pod, t *tracking) {
	add := d.uncounted(pod, t)
	if add == nil {
		t.settled = append(t.settled, pod)
		return
	}
	t.left++
	if !t.full() {
		add()
	}
}

// uncounted is what adds a pod to those that are to be counted, nil if it is counted already, or counts for nothing.
func (d *decision) uncounted(pod *corev1.Pod, t *tracking) func() {
	switch succeeded := pod.Status.Phase == corev1.PodSucceeded; {
	case d.accountedFailed.Has(pod.UID) || isIndexed(d.job) && !hasValidIndex(d.job, pod):
	case succeeded && isIndexed(d.job):
		if ix := indexOf(pod); d.completed.has(ix) && !d.completedBefore.has(ix) {
			return func() { t.indexes = append(t.indexes, ix) }
		}
	case succeeded:
		if !d.accountedSucceeded.Has(pod.UID) {
			return func() { t.succeeded = append(t.succeeded, pod.UID) }
		}
	case isFailed(d.job, pod) || d.finish != nil && d.finish.Type != batchv1.JobSuccessCriteriaMet:
		if matchFailurePolicy(d.job.Spec.PodFailurePolicy, pod).counts {
			return func() { t.failed = append(t.failed, pod.UID) }
		}
	}
	return nil
}

// count moves the pods whose finalizers are gone from the uncounted ones to the counters, and adds those that ended:
// job_controller.go cleanUncountedPodsWithoutFinalizers.
func (d *decision) count(t *tracking) {
	waiting := sets.New[types.UID]()
	for _, pod := range d.pods {
		if hasFinalizer(pod) && !d.released.Has(pod.UID) {
			waiting.Insert(pod.UID)
		}
	}
	for _, pod := range t.settled {
		waiting.Delete(pod.UID)
	}
	before := d.status.UncountedTerminatedPods
	gone := func(uid types.UID) bool { return !waiting.Has(uid) }
	after := &batchv1.UncountedTerminatedPods{
		Succeeded: slices.DeleteFunc(slices.Clone(before.Succeeded), gone),
		Failed:    slices.DeleteFunc(slices.Clone(before.Failed), gone),
	}
	d.status.Succeeded += int32(len(before.Succeeded) - len(after.Succeeded)) //nolint:gosec // a number of pods
	d.status.Failed += int32(len(before.Failed) - len(after.Failed))          //nolint:gosec // a number of pods
	after.Succeeded = append(after.Succeeded, t.succeeded...)
	after.Failed = append(after.Failed, t.failed...)
	d.status.UncountedTerminatedPods = after
}

// writeIndexes states which indexes are completed and which failed.
func (d *decision) writeIndexes(added []int) {
	d.completed = d.completed.with(added)
	d.status.CompletedIndexes = d.completed.String()
	d.status.Succeeded = int32(d.completed.total()) //nolint:gosec // at most completions
	d.status.FailedIndexes = nil
	if hasBackoffLimitPerIndex(d.job) {
		text := d.failedIndexes.String()
		d.status.FailedIndexes = &text
	}
}

// conclude adds the condition with which the Job begins to end, and the one with which it has: job_controller.go
// enactJobFinished.
func (d *decision) conclude(t *tracking) {
	if d.finish == nil {
		return
	}
	if d.begins {
		d.status.Conditions = append(d.status.Conditions, *d.finish)
	}
	uncounted := d.status.UncountedTerminatedPods
	if t.left > 0 || len(uncounted.Succeeded)+len(uncounted.Failed) > 0 || d.terminating > 0 || !d.mayEnd() {
		return
	}
	end := newCondition(batchv1.JobFailed, corev1.ConditionTrue, d.finish.Reason, d.finish.Message, d.now)
	d.statusNotice = d.notices.Warning(end.Reason, end.Message)
	if d.finish.Type == batchv1.JobSuccessCriteriaMet {
		end.Type = batchv1.JobComplete
		d.status.CompletionTime = &end.LastTransitionTime
		d.statusNotice = d.notices.Normal("Completed", "Job completed")
		if d.job.Spec.Completions != nil && d.status.Succeeded > *d.job.Spec.Completions {
			d.plan.Notices = append(d.plan.Notices, *d.notices.Warning("TooManySucceededPods",
				"Too many succeeded pods running after completion count reached"))
		}
	}
	setCondition(d.status, end)
	d.forget()
}

// mayEnd reports whether the API takes the end of the Job: one that is suspended has no start time, and ends when it is resumed.
// (Upstream tries in vain until then.)
func (d *decision) mayEnd() bool {
	return d.status.StartTime != nil || d.job.Spec.Completions != nil && *d.job.Spec.Completions == 0
}

// writeStatus writes the status if it changed, after all that it speaks of. A start alone, of a Job that was resumed at its
// end, is no change.
func (d *decision) writeStatus() {
	before := d.job.Status
	before.StartTime = d.status.StartTime
	if apiequality.Semantic.DeepEqual(&before, d.status) {
		return
	}
	updated := d.job.DeepCopy()
	updated.Status = *d.status
	d.plan.Writes = append(d.plan.Writes, plan.Write{
		Verb: plan.UpdateStatus, Resource: plan.Jobs, Namespace: updated.Namespace, Name: updated.Name,
		Object: updated, Reason: "report the pods", OnSuccess: d.statusNotice,
	})
}
