package job

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// The Kinds of what a Job waits for.
const (
	LaterDeadline = "deadline"
	LaterBackoff  = "backoff"
)

// finishedBefore is how the Job ends by what an earlier plan stored: a SuccessCriteriaMet as it is, a FailureTarget as
// the Failed that it becomes.
func (d *decision) finishedBefore() *batchv1.JobCondition {
	if c := trueCondition(&d.job.Status, batchv1.JobSuccessCriteriaMet); c != nil {
		return c
	}
	if c := trueCondition(&d.job.Status, batchv1.JobFailureTarget); c != nil {
		return newCondition(batchv1.JobFailed, corev1.ConditionTrue, c.Reason, c.Message, d.now)
	}
	return nil
}

// failsNow is how the Job begins to fail: by its podFailurePolicy, its backoffLimit or its deadline.
func (d *decision) failsNow() *batchv1.JobCondition {
	if why := failJobMessage(d.job, d.pods); why != "" {
		return d.failure(batchv1.JobReasonPodFailurePolicy, why)
	}
	deadline, hasDeadline := d.deadline()
	switch {
	case d.failed > *d.job.Spec.BackoffLimit || d.restartedTooOften():
		return d.failure(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	case hasDeadline && !d.snapshot.Now.Before(deadline):
		return d.failure(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
	case hasDeadline:
		d.later(LaterDeadline, deadline)
	}
	return nil
}

// deadline is when activeDeadlineSeconds are over; a suspended Job has none: job_controller.go pastActiveDeadline.
func (d *decision) deadline() (time.Time, bool) {
	if d.job.Spec.ActiveDeadlineSeconds == nil || d.status.StartTime == nil || isSuspended(d.job) {
		return time.Time{}, false
	}
	return d.status.StartTime.Add(time.Duration(*d.job.Spec.ActiveDeadlineSeconds) * time.Second), true
}

// restartedTooOften counts restarts of containers where the kubelet restarts them: job_controller.go
// pastBackoffLimitOnFailure.
func (d *decision) restartedTooOften() bool {
	if d.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	restarts := int32(0)
	for _, pod := range d.pods {
		if pod.Status.Phase != corev1.PodRunning && pod.Status.Phase != corev1.PodPending {
			continue
		}
		for i := range pod.Status.InitContainerStatuses {
			restarts += pod.Status.InitContainerStatuses[i].RestartCount
		}
		for i := range pod.Status.ContainerStatuses {
			restarts += pod.Status.ContainerStatuses[i].RestartCount
		}
	}
	return restarts >= max(*d.job.Spec.BackoffLimit, 1)
}

// countIndexes sorts the indexes of an Indexed Job.
func (d *decision) countIndexes() {
	if text := d.job.Status.FailedIndexes; hasBackoffLimitPerIndex(d.job) && text != nil {
		d.failedIndexes = parseIndexes(*text, int(*d.job.Spec.Completions))
	}
	d.completedBefore, d.completed = d.succeededIndexes()
	d.succeeded = int32(d.completed.total()) //nolint:gosec // at most completions
	if hasBackoffLimitPerIndex(d.job) {
		d.failedIndexes = d.indexesFailed()
		d.delayed = d.delayedPods()
	}
}

// endsByIndexes is how an Indexed Job begins to end by its failed indexes or its successPolicy.
func (d *decision) endsByIndexes() *batchv1.JobCondition {
	if !isIndexed(d.job) {
		return nil
	}
	completions, failed := int(*d.job.Spec.Completions), d.failedIndexes.total()
	switch limit := d.job.Spec.MaxFailedIndexes; {
	case failed > 0 && limit != nil && failed > int(*limit):
		return d.failure(batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
	case failed > 0 && failed+d.completed.total() >= completions:
		return d.failure(batchv1.JobReasonFailedIndexes, "Job has failed indexes")
	}
	if why := matchSuccessPolicy(d.job.Spec.SuccessPolicy, completions, d.completed); why != "" {
		return d.interim(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonSuccessPolicy, why)
	}
	return nil
}

// isComplete reports whether nothing is left to do: the end of job_controller.go syncJob.
func (d *decision) isComplete() bool {
	if d.job.Spec.Completions == nil {
		return d.succeeded > 0 && d.activeCount == 0
	}
	return d.succeeded >= *d.job.Spec.Completions && d.activeCount == 0
}

func (d *decision) later(kind string, at time.Time) {
	d.plan.Later = append(d.plan.Later, plan.Later{
		At: at, Kind: kind,
		Subject: plan.Ref{Resource: plan.Jobs, Namespace: d.job.Namespace, Name: d.job.Name, UID: d.job.UID},
	})
}
