// Package jobs is the function that keeps Jobs and CronJobs: a change of one, or of a pod of a Job, in; the pods, counts and
// Jobs that they ask for, out. The decisions are those of core/job and core/cronjob.
//
//	jobs.go      which subjects a batch is about; Jobs and their ends
//	orphans.go   finalizers of pods that no Job counts any more
//	cronjobs.go  CronJobs
package jobs

import (
	"context"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/job"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

var (
	jobs     = plan.Jobs.GroupResource()
	cronJobs = plan.CronJobs.GroupResource()
	pods     = plan.Pods.GroupResource()
)

const (
	jobController     = "job-controller"
	ttlController     = "ttl-after-finished-controller"
	cronJobController = "cronjob-controller"
	// maxRefusedPause bounds the pause after a refusal, which doubles (pkg/controller/job MaxJobApiBackOff).
	maxRefusedPause = time.Minute
)

// Function returns the function. Jobs are read before pods: a pod that has its finalizer in the snapshot was not counted by
// the Job in the snapshot (see core/job).
func Function() consumer.Function {
	return consumer.Function{
		Name:   "jobs",
		Groups: []string{kubestorage.WorkloadsGroup, kubestorage.PodsGroup},
		Handle: handle,
	}
}

// handle decides every CronJob, then every Job and then every orphaned pod that the batch touches.
func handle(ctx context.Context, b *consumer.Batch) error {
	t := &touched{Batch: b, jobs: consumer.Set{}, cronJobs: consumer.Set{}, rescheduled: consumer.Set{}, orphans: consumer.Set{}}
	err := b.Gather(t.everything, t.change, func(l plan.Later) {
		switch l.Subject.Resource {
		case plan.Jobs:
			t.jobs.Add(l.Subject.Namespace, l.Subject.Name)
		case plan.CronJobs:
			t.cronJobs.Add(l.Subject.Namespace, l.Subject.Name)
		}
	})
	if err != nil {
		return err
	}
	for _, step := range []struct {
		subjects consumer.Set
		decide   func(context.Context, consumer.Named) error
	}{{t.rescheduled, t.reschedule}, {t.cronJobs, t.decideCronJob}, {t.jobs, t.decideJob}, {t.jobs, t.decideTTL}, {t.orphans, t.decideOrphan}} {
		if err := consumer.Each(ctx, step.subjects.Sorted(), step.decide); err != nil {
			return err
		}
	}
	return nil
}

// touched collects the subjects of a batch.
type touched struct {
	*consumer.Batch
	jobs, cronJobs consumer.Set
	// rescheduled are the CronJobs that have another schedule, orphans pods whose finalizers no Job may take.
	rescheduled, orphans consumer.Set
}

func (t *touched) everything() error {
	if err := consumer.AddAll[*batchv1.Job](t.Snapshot, jobs, t.jobs); err != nil {
		return err
	}
	if err := consumer.AddAll[*batchv1.CronJob](t.Snapshot, cronJobs, t.cronJobs); err != nil {
		return err
	}
	existing, err := consumer.List[*corev1.Pod](t.Snapshot, pods, "")
	if err != nil {
		return err
	}
	return t.orphaned(existing)
}

func (t *touched) change(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	switch gr {
	case jobs:
		t.jobs.Add(namespace, name)
		return t.changedJob(ev)
	case cronJobs:
		return t.changedCronJob(ev, namespace, name)
	case pods:
		return t.changedPod(ev)
	}
	return nil
}

// changedJob adds the CronJob of a Job, and the pods of one that is over or gone.
func (t *touched) changedJob(ev tablelog.Event) error {
	for _, e := range []*tablelog.Entry{ev.Prev, ev.Entry} {
		j, ok, err := consumer.Read[*batchv1.Job](t.Snapshot, e)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if c := metav1.GetControllerOfNoCopy(j); c != nil && c.Kind == "CronJob" {
			t.cronJobs.Add(j.Namespace, c.Name)
		}
		if _, over := job.Finished(j); over || ev.Entry == nil {
			if err := t.podsOf(j); err != nil {
				return err
			}
		}
	}
	return nil
}

// changedPod adds the Job of a pod before and after a change, or those that may adopt it.
func (t *touched) changedPod(ev tablelog.Event) error {
	if err := consumer.Owners(t.Snapshot, ev, "Job", t.jobs, t.matchingJobs); err != nil {
		return err
	}
	pod, ok, err := consumer.Read[*corev1.Pod](t.Snapshot, ev.Entry)
	if err != nil || !ok {
		return err
	}
	return t.orphaned([]*corev1.Pod{pod})
}

func (t *touched) matchingJobs(pod metav1.Object) error {
	return consumer.AddMatching(t.Snapshot, jobs, pod.GetNamespace(), t.jobs, func(j *batchv1.Job) bool {
		return consumer.Selects(j.Spec.Selector, pod)
	})
}

func (t *touched) decideJob(ctx context.Context, n consumer.Named) error {
	return consumer.Step[job.Snapshot]{
		Load:   func(s *consumer.Snapshot) (job.Snapshot, bool, error) { return loadJob(s, n, t.Now) },
		Decide: job.Job,
		Again: func(in job.Snapshot) plan.Later {
			since := in.Job.CreationTimestamp.Time
			if in.Job.Status.StartTime != nil {
				since = in.Job.Status.StartTime.Time
			}
			return consumer.TryAgain(plan.Ref{Resource: plan.Jobs, Namespace: n.Namespace, Name: n.Name, UID: in.Job.UID}, t.Now, since, maxRefusedPause)
		},
		Failed: func(in job.Snapshot, _ planclient.Outcome) plan.Plan {
			in.Refused = true
			return job.Job(in)
		},
	}.Take(ctx, t.Batch, jobController)
}

func loadJob(s *consumer.Snapshot, n consumer.Named, now time.Time) (in job.Snapshot, ok bool, err error) {
	in.Now = now
	if in.Job, ok, err = consumer.Get[*batchv1.Job](s, jobs, n.Namespace, n.Name); err != nil || !ok {
		return in, false, err
	}
	if _, over := job.Finished(in.Job); over {
		return in, false, nil
	}
	in.Pods, err = consumer.Claimable[*corev1.Pod](s, pods, in.Job, in.Job.Spec.Selector)
	return in, err == nil, err
}

func (t *touched) decideTTL(ctx context.Context, n consumer.Named) error {
	return consumer.Refused(t.Decide(ctx, ttlController, func(s *consumer.Snapshot) (plan.Plan, error) {
		j, ok, err := consumer.Get[*batchv1.Job](s, jobs, n.Namespace, n.Name)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		return job.TTL(j, t.Now), nil
	}))
}
