package cronjob

import (
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
)

// LaterSchedule is the Kind of the plan.Later that starts the next run.
const LaterSchedule = "schedule"

var (
	cronJobKind = batchv1.SchemeGroupVersion.WithKind("CronJob")
	jobKind     = batchv1.SchemeGroupVersion.WithKind("Job")
)

// component is where upstream's events come from.
const component = "cronjob-controller"

// Snapshot is everything that a decision about a CronJob is made on. Its objects are read and never altered.
type Snapshot struct {
	CronJob *batchv1.CronJob
	// Jobs are those that the CronJob controls.
	Jobs []*batchv1.Job
	// Named are the Jobs of the CronJob's namespace by name, whoever controls them.
	Named map[string]*batchv1.Job
	Now   time.Time
}

// decision is a decision in the making.
type decision struct {
	snapshot Snapshot
	cron     *batchv1.CronJob
	// status is that which the plan leaves.
	status  *batchv1.CronJobStatus
	notices podcontrol.Notices
	plan    plan.Plan
}

// note gives a notice that no write decides about.
func (d *decision) note(n *plan.Notice) { d.plan.Notices = append(d.plan.Notices, *n) }

func noticesOf(cj *batchv1.CronJob) podcontrol.Notices {
	return podcontrol.NoticesOf(cj, cronJobKind, component)
}

// CronJob decides one step of a CronJob: cronjob_controllerv2.go sync. The status write comes last.
func CronJob(s Snapshot) plan.Plan {
	d := &decision{snapshot: s, cron: s.CronJob, status: s.CronJob.Status.DeepCopy(), notices: noticesOf(s.CronJob)}
	d.plan.Reads = []plan.Read{
		{Resource: plan.CronJobs, Namespace: d.cron.Namespace, Name: d.cron.Name},
		{Resource: plan.Jobs, Namespace: d.cron.Namespace, Owner: d.cron.UID},
	}
	d.cleanUp()
	d.observe()
	if d.cron.DeletionTimestamp == nil {
		d.later(d.start())
	}
	d.writeStatus()
	return d.plan
}

// Rescheduled waits for the next run of a CronJob that got another schedule, and starts none that the new one would have
// had: cronjob_controllerv2.go updateCronJob.
func Rescheduled(cj *batchv1.CronJob, now time.Time) plan.Plan {
	d := &decision{snapshot: Snapshot{Now: now}, cron: cj, notices: noticesOf(cj)}
	s, err := parse(cj)
	if err != nil {
		d.note(d.notices.Warning("UnParseableCronJobSchedule", "unparseable schedule for cronjob: "+cj.Spec.Schedule))
		return d.plan
	}
	d.later(nextRun(cj, now, s))
	return d.plan
}

// start starts the run that is due, if there is one, and returns when to look again, zero for never: the second half of
// cronjob_controllerv2.go syncCronJob.
func (d *decision) start() time.Time {
	s, ok := d.schedule()
	if !ok {
		return time.Time{}
	}
	due, ok := d.due(s)
	switch {
	case !ok:
		return time.Time{}
	case !due.IsZero() && d.mayStart(due):
		d.replace()
		d.create(due)
		d.status.LastScheduleTime = &metav1.Time{Time: due}
	}
	after := *d.cron
	after.Status = *d.status
	return nextRun(&after, d.snapshot.Now, s)
}

// schedule is not ok where nothing runs.
func (d *decision) schedule() (schedule, bool) {
	if zone := d.cron.Spec.TimeZone; zone != nil {
		if _, err := time.LoadLocation(*zone); err != nil {
			d.note(d.notices.Warning("UnknownTimeZone", fmt.Sprintf("invalid timeZone: %q: %s", *zone, err)))
			return nil, false
		}
	}
	if d.cron.Spec.Suspend != nil && *d.cron.Spec.Suspend {
		return nil, false
	}
	if hasZone(d.cron) {
		d.note(d.notices.Warning("UnsupportedSchedule", fmt.Sprintf("CRON_TZ or TZ used in schedule %q is not officially supported, "+
			"see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details", d.cron.Spec.Schedule)))
	}
	s, err := parse(d.cron)
	if err != nil {
		d.note(d.notices.Warning("UnparseableSchedule", fmt.Sprintf("unparseable schedule: %q : %s", d.cron.Spec.Schedule, err)))
		return nil, false
	}
	return s, true
}

// due is the time of the run that is to be started, zero for none: utils.go nextScheduleTime. It is not ok for a schedule
// without times.
func (d *decision) due(s schedule) (time.Time, bool) {
	m, err := missedTimes(d.cron, d.snapshot.Now, s, true)
	if err != nil {
		d.note(d.notices.Warning("InvalidSchedule", fmt.Sprintf("invalid schedule: %s : %s", d.cron.Spec.Schedule, err)))
		return time.Time{}, false
	}
	if !m.last.IsZero() && m.count > manyMissed {
		d.note(d.notices.Warning("TooManyMissedTimes",
			"too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"))
	}
	return m.last, true
}

// mayStart reports whether the run of a time is to be started now.
func (d *decision) mayStart(due time.Time) bool {
	deadline := d.cron.Spec.StartingDeadlineSeconds
	switch {
	case deadline != nil && due.Add(time.Second*time.Duration(*deadline)).Before(d.snapshot.Now):
		d.note(d.notices.Warning("MissSchedule", "Missed scheduled time to start a job: "+due.UTC().Format(time.RFC1123Z)))
		return false
	case d.isActive(jobName(d.cron, due)) || d.cron.Status.LastScheduleTime.Equal(&metav1.Time{Time: due}):
		return false
	case d.cron.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(d.status.Active) > 0:
		d.note(d.notices.Normal("JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid"))
		return false
	}
	return true
}

// writeStatus writes the status if it changed.
func (d *decision) writeStatus() {
	if apiequality.Semantic.DeepEqual(&d.cron.Status, d.status) {
		return
	}
	updated := d.cron.DeepCopy()
	updated.Status = *d.status
	d.plan.Writes = append(d.plan.Writes, plan.Write{
		Verb: plan.UpdateStatus, Resource: plan.CronJobs, Namespace: updated.Namespace, Name: updated.Name,
		Object: updated, Reason: "report the Jobs",
	})
}

func (d *decision) later(at time.Time) {
	d.plan.Later = append(d.plan.Later, plan.Later{
		At: at, Kind: LaterSchedule,
		Subject: plan.Ref{Resource: plan.CronJobs, Namespace: d.cron.Namespace, Name: d.cron.Name, UID: d.cron.UID},
	})
}
