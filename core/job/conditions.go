package job

import (
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// finishedCondition is the condition by which a Job is over, nil if it is not: util/utils.go FinishedCondition.
func finishedCondition(job *batchv1.Job) *batchv1.JobCondition {
	for i := range job.Status.Conditions {
		c := &job.Status.Conditions[i]
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

// Finished reports whether a Job is over, and how: batchv1.JobComplete or batchv1.JobFailed.
func Finished(job *batchv1.Job) (batchv1.JobConditionType, bool) {
	if c := finishedCondition(job); c != nil {
		return c.Type, true
	}
	return "", false
}

// trueCondition returns a condition if it is true, else nil.
func trueCondition(status *batchv1.JobStatus, kind batchv1.JobConditionType) *batchv1.JobCondition {
	i := slices.IndexFunc(status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == kind })
	if i < 0 || status.Conditions[i].Status != corev1.ConditionTrue {
		return nil
	}
	return &status.Conditions[i]
}

// newCondition is job_controller.go newCondition.
func newCondition(kind batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string, now metav1.Time) *batchv1.JobCondition {
	return &batchv1.JobCondition{Type: kind, Status: status, LastProbeTime: now, LastTransitionTime: now, Reason: reason, Message: message}
}

// setCondition is job_controller.go ensureJobConditionStatus: it reports whether anything changed. A condition that is
// not there does not become false.
func setCondition(status *batchv1.JobStatus, c *batchv1.JobCondition) bool {
	i := slices.IndexFunc(status.Conditions, func(old batchv1.JobCondition) bool { return old.Type == c.Type })
	switch {
	case i < 0 && c.Status == corev1.ConditionFalse:
		return false
	case i < 0:
		status.Conditions = append(status.Conditions, *c)
		return true
	}
	if old := status.Conditions[i]; old.Status == c.Status && old.Reason == c.Reason && old.Message == c.Message {
		return false
	}
	status.Conditions[i] = *c
	return true
}

// interim is the condition that ends a Job before its pods are gone: FailureTarget, SuccessCriteriaMet.
func (d *decision) interim(kind batchv1.JobConditionType, reason, message string) *batchv1.JobCondition {
	return newCondition(kind, corev1.ConditionTrue, reason, message, d.now)
}

func (d *decision) failure(reason, message string) *batchv1.JobCondition {
	return d.interim(batchv1.JobFailureTarget, reason, message)
}
