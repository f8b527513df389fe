package jobs

import (
	"context"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/cronjob"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// changedCronJob adds a CronJob. One whose schedule changed only waits for its next time.
func (t *touched) changedCronJob(ev tablelog.Event, namespace, name string) error {
	before, existed, err := consumer.Read[*batchv1.CronJob](t.Snapshot, ev.Prev)
	if err != nil {
		return err
	}
	after, exists, err := consumer.Read[*batchv1.CronJob](t.Snapshot, ev.Entry)
	if err != nil || !exists {
		return err
	}
	if existed && (before.Spec.Schedule != after.Spec.Schedule || !ptr.Equal(before.Spec.TimeZone, after.Spec.TimeZone)) {
		t.rescheduled.Add(namespace, name)
	} else {
		t.cronJobs.Add(namespace, name)
	}
	return nil
}

func (t *touched) reschedule(ctx context.Context, n consumer.Named) error {
	if t.cronJobs[n] {
		return nil // it is decided as a whole
	}
	_, err := t.Decide(ctx, cronJobController, func(s *consumer.Snapshot) (plan.Plan, error) {
		cj, ok, err := consumer.Get[*batchv1.CronJob](s, cronJobs, n.Namespace, n.Name)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		return cronjob.Rescheduled(cj, t.Now), nil
	})
	return err
}

func (t *touched) decideCronJob(ctx context.Context, n consumer.Named) error {
	return consumer.Step[cronjob.Snapshot]{
		Load:   func(s *consumer.Snapshot) (cronjob.Snapshot, bool, error) { return t.loadCronJob(s, n) },
		Decide: cronjob.CronJob,
		Again: func(in cronjob.Snapshot) plan.Later {
			since := in.CronJob.CreationTimestamp.Time
			if last := in.CronJob.Status.LastScheduleTime; last != nil {
				since = last.Time
			}
			return consumer.TryAgain(plan.Ref{Resource: plan.CronJobs, Namespace: n.Namespace, Name: n.Name, UID: in.CronJob.UID}, t.Now, since, maxRefusedPause)
		},
	}.Take(ctx, t.Batch, cronJobController)
}

func (t *touched) loadCronJob(s *consumer.Snapshot, n consumer.Named) (in cronjob.Snapshot, ok bool, err error) {
	in.Now = t.Now
	if in.CronJob, ok, err = consumer.Get[*batchv1.CronJob](s, cronJobs, n.Namespace, n.Name); err != nil || !ok {
		return in, false, err
	}
	owned, err := consumer.OwnedBy[*batchv1.Job](s, jobs, in.CronJob.UID)
	if err != nil {
		return in, false, err
	}
	for _, j := range owned {
		if metav1.IsControlledBy(j, in.CronJob) {
			in.Jobs = append(in.Jobs, j)
		}
	}
	all, err := consumer.List[*batchv1.Job](s, jobs, n.Namespace)
	if err != nil {
		return in, false, err
	}
	in.Named = make(map[string]*batchv1.Job, len(all))
	for _, j := range all {
		in.Named[j.Name] = j
	}
	return in, true, nil
}
