package cronjob

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/zeroplane/zeroplane/core/job"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
)

// jobName is that of the Job of a time: cronjob_controllerv2.go getJobName. So there is one at most.
func jobName(cj *batchv1.CronJob, scheduled time.Time) string {
	return fmt.Sprintf("%s-%d", cj.Name, scheduled.Unix()/int64(time.Minute/time.Second))
}

// newJob is utils.go getJobFromTemplate2.
func newJob(cj *batchv1.CronJob, scheduled time.Time) *batchv1.Job {
	template := &cj.Spec.JobTemplate
	zone, err := time.LoadLocation(ptr.Deref(cj.Spec.TimeZone, ""))
	if err != nil {
		zone = time.UTC // it was looked up before
	}
	annotations := maps.Clone(template.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[batchv1.CronJobScheduledTimestampAnnotation] = scheduled.In(zone).Format(time.RFC3339)
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cj.Namespace, Name: jobName(cj, scheduled), Labels: maps.Clone(template.Labels), Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cj, cronJobKind)},
		},
		Spec: *template.Spec.DeepCopy(),
	}
}

// create makes the Job of a time, unless it is there already. One that someone else made counts for it.
func (d *decision) create(scheduled time.Time) {
	if made := d.snapshot.Named[jobName(d.cron, scheduled)]; made != nil {
		if metav1.IsControlledBy(made, d.cron) && !d.has(made.UID) {
			d.status.Active = append(d.status.Active, podcontrol.Reference(made, jobKind))
		}
		return
	}
	made := newJob(d.cron, scheduled)
	d.plan.Writes = append(d.plan.Writes, plan.Write{
		Verb: plan.Create, Resource: plan.Jobs, Namespace: made.Namespace, Name: made.Name, Object: made,
		Reason:    "its time has come",
		OnSuccess: d.notices.Normal("SuccessfulCreate", "Created job "+made.Name),
		IfFailed:  d.notices.Warning("FailedCreate", "Error creating job: %v"),
	})
}

// replace deletes the Jobs that still run where only one may.
func (d *decision) replace() {
	if d.cron.Spec.ConcurrencyPolicy != batchv1.ReplaceConcurrent {
		return
	}
	for _, ref := range d.status.Active {
		if running := d.snapshot.Named[ref.Name]; running != nil {
			d.remove(running)
		}
	}
}

// cleanUp deletes the oldest of the Jobs that are over, above the history limits: cronjob_controllerv2.go
// cleanupFinishedJobs.
func (d *decision) cleanUp() {
	over := map[batchv1.JobConditionType][]*batchv1.Job{}
	for _, j := range d.snapshot.Jobs {
		if how, finished := job.Finished(j); finished {
			over[how] = append(over[how], j)
		}
	}
	d.keep(over[batchv1.JobComplete], d.cron.Spec.SuccessfulJobsHistoryLimit)
	d.keep(over[batchv1.JobFailed], d.cron.Spec.FailedJobsHistoryLimit)
}

// keep deletes the oldest above a limit, nil for none: cronjob_controllerv2.go removeOldestJobs.
func (d *decision) keep(jobs []*batchv1.Job, limit *int32) {
	if limit == nil || len(jobs) <= int(*limit) {
		return
	}
	slices.SortFunc(jobs, compareStart)
	for _, j := range jobs[:len(jobs)-int(*limit)] {
		d.remove(j)
	}
}

// compareStart puts the Job that started earlier first, and those that never did last: utils.go byJobStartTime.
func compareStart(a, b *batchv1.Job) int {
	startA, startB := a.Status.StartTime, b.Status.StartTime
	switch {
	case startA == nil && startB != nil:
		return 1
	case startA != nil && startB == nil:
		return -1
	case startA.Equal(startB):
		return strings.Compare(a.Name, b.Name)
	}
	return startA.Compare(startB.Time)
}

// remove deletes a Job with its pods, and takes it from the active list: cronjob_controllerv2.go deleteJob. One that is
// being deleted already is not deleted twice.
func (d *decision) remove(j *batchv1.Job) {
	d.forget(j.UID)
	if j.DeletionTimestamp != nil {
		return
	}
	background := metav1.DeletePropagationBackground
	d.plan.Writes = append(d.plan.Writes, plan.Write{
		Verb: plan.Delete, Resource: plan.Jobs, Namespace: j.Namespace, Name: j.Name, UID: j.UID, Propagation: &background,
		Reason:    "the CronJob does not want it",
		OnSuccess: d.notices.Normal("SuccessfulDelete", "Deleted job "+j.Name),
		IfFailed:  d.notices.Warning("FailedDelete", "Deleted job: %v"),
	})
}

// observe brings the active list and the last success up to date: the first half of cronjob_controllerv2.go syncCronJob.
func (d *decision) observe() {
	known := map[types.UID]bool{}
	for _, j := range slices.SortedFunc(slices.Values(d.snapshot.Jobs), func(a, b *batchv1.Job) int { return cmp.Compare(a.Name, b.Name) }) {
		known[j.UID] = true
		how, finished := job.Finished(j)
		listed := d.has(j.UID)
		switch {
		case finished && listed:
			d.forget(j.UID)
			d.note(d.notices.Normal("SawCompletedJob", fmt.Sprintf("Saw completed job: %s, condition: %v", j.Name, how)))
		case finished || listed:
		case d.startedLast(j):
			d.status.Active = append(d.status.Active, podcontrol.Reference(j, jobKind))
		default:
			d.note(d.notices.Warning("UnexpectedJob", "Saw a job that the controller did not create or forgot: "+j.Name))
		}
		if how == batchv1.JobComplete {
			d.succeeded(j.Status.CompletionTime)
		}
	}
	for _, ref := range slices.Clone(d.status.Active) {
		if !known[ref.UID] && d.snapshot.Named[ref.Name] == nil {
			d.note(d.notices.Normal("MissingJob", "Active job went missing: "+ref.Name))
			d.forget(ref.UID)
		}
	}
}

// startedLast reports whether a Job is that of the last scheduled time, which an earlier plan made.
func (d *decision) startedLast(j *batchv1.Job) bool {
	last := d.cron.Status.LastScheduleTime
	return last != nil && j.Name == jobName(d.cron, last.Time) && j.Annotations[batchv1.CronJobScheduledTimestampAnnotation] != ""
}

func (d *decision) succeeded(at *metav1.Time) {
	if last := d.status.LastSuccessfulTime; last == nil || at != nil && at.After(last.Time) {
		d.status.LastSuccessfulTime = at
	}
}

// has reports whether the active list has a Job, isActive whether it has one of a name.
func (d *decision) has(uid types.UID) bool {
	return slices.ContainsFunc(d.status.Active, func(ref corev1.ObjectReference) bool { return ref.UID == uid })
}

func (d *decision) isActive(name string) bool {
	return slices.ContainsFunc(d.status.Active, func(ref corev1.ObjectReference) bool { return ref.Name == name })
}

func (d *decision) forget(uid types.UID) {
	d.status.Active = slices.DeleteFunc(slices.Clone(d.status.Active), func(ref corev1.ObjectReference) bool { return ref.UID == uid })
}
