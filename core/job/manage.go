package job

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/podcontrol"
	"github.com/zeroplane/zeroplane/core/podstate"
)

// maxPodsPerPlan is how many pods one plan makes, or deletes where they are too many (job_controller.go
// MaxPodCreateDeletePerSync). The change that the plan makes asks for the next one.
const maxPodsPerPlan = 500

// deleteActive deletes the pods of a Job that ends, which keep their finalizers: job_controller.go deleteActivePods. As
// long as they cannot be deleted, the Job goes on.
func (d *decision) deleteActive() {
	switch {
	case d.snapshot.Refused && len(d.active) > 0:
		d.finish = nil
		return
	case d.begins && d.finish.Type == batchv1.JobSuccessCriteriaMet:
		// Once that is stored, the pods that still run go uncounted. Deleted before, they would count as failed.
		return
	}
	for _, pod := range d.active {
		d.remove(pod)
	}
}

// manage makes and deletes pods and says what became of the Job: the other half of job_controller.go syncJob.
func (d *decision) manage() {
	dying := d.job.DeletionTimestamp != nil
	if !dying && !d.snapshot.Refused {
		d.managePods()
	}
	switch {
	case d.isComplete():
		d.finish = d.interim(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods")
	case dying:
	case isSuspended(d.job):
		if setCondition(d.status, newCondition(batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended", d.now)) {
			d.statusNotice = d.notices.Normal("Suspended", "Job suspended")
			d.status.StartTime = nil
			d.forget()
		}
	default:
		if setCondition(d.status, newCondition(batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed", d.now)) {
			d.statusNotice = d.notices.Normal("Resumed", "Job resumed")
			d.status.StartTime = &d.now
		}
	}
}

// forget takes back what the Job waited for.
func (d *decision) forget() {
	d.plan.Later = nil
	d.later(LaterDeadline, time.Time{})
	d.later(LaterBackoff, time.Time{})
}

// managePods is job_controller.go manageJob: a plan deletes or makes pods, and never does both.
func (d *decision) managePods() {
	wanted := d.wantedActive()
	surplus := d.surplus(max(len(d.active)-wanted, 0))
	if len(surplus) > 0 {
		d.removeSurplus(surplus)
		return
	}
	if isSuspended(d.job) {
		return
	}
	missing := wanted - len(d.active)
	if onlyReplacesFailed(d.job) {
		missing -= int(d.terminating)
	}
	if missing > 0 {
		d.create(missing)
	}
}

// wantedActive is how many pods are to run.
func (d *decision) wantedActive() int {
	parallelism := int(*d.job.Spec.Parallelism)
	switch completions := d.job.Spec.Completions; {
	case isSuspended(d.job):
		return 0
	case completions != nil:
		return max(min(int(*completions-d.succeeded), parallelism), 0)
	case d.succeeded > 0:
		return len(d.active)
	default:
		return parallelism
	}
}

// surplus picks the pods that have to go, at least so many: job_controller.go activePodsForRemoval.
func (d *decision) surplus(atLeast int) []*corev1.Pod {
	var surplus []*corev1.Pod
	rest := slices.Clone(d.active)
	if isIndexed(d.job) {
		surplus, rest = duplicates(d.active, int(*d.job.Spec.Completions))
	}
	if missing := atLeast - len(surplus); missing > 0 {
		slices.SortStableFunc(rest, podcontrol.CompareActive)
		surplus = append(surplus, rest[:missing]...)
	}
	if !isSuspended(d.job) {
		surplus = surplus[:min(len(surplus), maxPodsPerPlan)]
	}
	return surplus
}

// removeSurplus takes the finalizers of pods and deletes them, so that nobody counts them: job_controller.go deleteJobPods.
// One that has ended meanwhile is to be counted, so what becomes of the pods matters to the plan.
func (d *decision) removeSurplus(pods []*corev1.Pod) {
	d.heedEnds()
	for _, pod := range pods {
		if hasFinalizer(pod) {
			d.plan.Writes = append(d.plan.Writes, takeFinalizer(pod, "too many pods"))
		}
	}
	for _, pod := range pods {
		d.remove(pod)
		d.released.Insert(pod.UID)
	}
}

// remove deletes a pod: controller_utils.go DeletePod, with its events.
func (d *decision) remove(pod *corev1.Pod) {
	d.plan.Writes = append(d.plan.Writes, d.notices.Delete(pod, "the Job does not want it"))
	d.activeCount--
	d.terminating++
	if podstate.IsReady(pod) {
		d.ready--
	}
}
