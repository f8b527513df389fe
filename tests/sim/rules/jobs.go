package rules

import (
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// checkJobs looks at each Job: once it has completed or failed it stays so, and it counts no more successes than it asks for.
func checkJobs(h *History, c *Change) {
	job, is := c.New.(*batchv1.Job)
	if !is {
		return
	}
	h.asked(Finished)
	complete, failed := has(job, batchv1.JobComplete), has(job, batchv1.JobFailed)
	if complete && failed {
		h.violate(Finished, c.At, "job %s has completed and failed", id(job))
	}
	if asked := job.Spec.Completions; asked != nil && job.Status.Succeeded > *asked {
		h.violate(Finished, c.At, "job %s asks for %d successes and counts %d", id(job), *asked, job.Status.Succeeded)
	}
	old, was := c.Old.(*batchv1.Job)
	if !was || old.UID != job.UID {
		return
	}
	if has(old, batchv1.JobComplete) && !complete || has(old, batchv1.JobFailed) && !failed {
		h.violate(Finished, c.At, "job %s was finished and is not any more", id(job))
	}
	if old.Status.Succeeded > job.Status.Succeeded {
		h.violate(Finished, c.At, "job %s counted %d successes and now %d", id(job), old.Status.Succeeded, job.Status.Succeeded)
	}
}

// checkJobPods looks at each pod that is made for a Job: the Job is not finished, it has no more pods at work than it may, and
// no index runs that has completed or that another pod runs.
func checkJobPods(h *History, c *Change) {
	pod, ref := c.created()
	if pod == nil || ref == nil || ref.Kind != "Job" {
		return
	}
	job, is := h.Get(plan.Jobs, pod.Namespace, ref.Name).(*batchv1.Job)
	if !is || job.UID != ref.UID {
		return
	}
	h.asked(Finished)
	if has(job, batchv1.JobComplete) || has(job, batchv1.JobFailed) {
		h.violate(Finished, c.At, "pod %s is made for job %s, which is finished", pod.Name, id(job))
	}
	if live := h.live(job.UID); len(live) > int(*job.Spec.Parallelism) {
		h.violate(Finished, c.At, "job %s runs %d at a time, and has %v", id(job), *job.Spec.Parallelism, names(live))
	}
	if index, indexed := pod.Annotations[batchv1.JobCompletionIndexAnnotation]; indexed {
		h.checkIndex(job, pod, index, c.At)
	}
}

// checkIndex is for pods of indexed Jobs.
func (h *History) checkIndex(job *batchv1.Job, pod *corev1.Pod, index string, at time.Time) {
	h.asked(Indexes)
	if within(index, job.Status.CompletedIndexes) {
		h.violate(Indexes, at, "pod %s runs index %s of job %s, which has completed %s", pod.Name, index, id(job), job.Status.CompletedIndexes)
	}
	for _, other := range h.byOwner[job.UID] {
		same := other != pod && other.Annotations[batchv1.JobCompletionIndexAnnotation] == index
		if same && (isLive(other) || other.Status.Phase == corev1.PodSucceeded) {
			h.violate(Indexes, at, "pods %s and %s are both of index %s", pod.Name, other.Name, index)
		}
	}
}

// checkOverlap looks at each Job that a CronJob starts: where it forbids that, no other runs.
func checkOverlap(h *History, c *Change) {
	job, is := c.New.(*batchv1.Job)
	if !is || c.Old != nil {
		return
	}
	ref := metav1.GetControllerOfNoCopy(job)
	if ref == nil || ref.Kind != "CronJob" {
		return
	}
	cron, is := h.Get(plan.CronJobs, job.Namespace, ref.Name).(*batchv1.CronJob)
	if !is || cron.UID != ref.UID || cron.Spec.ConcurrencyPolicy != batchv1.ForbidConcurrent {
		return
	}
	h.asked(Overlap)
	All(h, plan.Jobs, func(other *batchv1.Job) {
		if other != job && metav1.IsControlledBy(other, cron) && other.DeletionTimestamp == nil && !has(other, batchv1.JobComplete) && !has(other, batchv1.JobFailed) {
			h.violate(Overlap, c.At, "%s starts while %s runs", job.Name, other.Name)
		}
	})
}

func has(job *batchv1.Job, kind batchv1.JobConditionType) bool {
	return slices.ContainsFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == kind && c.Status == corev1.ConditionTrue })
}

// within reports whether an index is in a list such as 0,2-4.
func within(index, list string) bool {
	at, err := strconv.Atoi(index)
	if err != nil || list == "" {
		return false
	}
	for span := range strings.SplitSeq(list, ",") {
		from, to, isSpan := strings.Cut(span, "-")
		if !isSpan {
			to = from
		}
		first, _ := strconv.Atoi(from)
		last, _ := strconv.Atoi(to)
		if first <= at && at <= last {
			return true
		}
	}
	return false
}
