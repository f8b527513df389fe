package jobs

import (
	"context"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/job"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// podsOf adds the pods that a Job has or had: it does not count them any more.
func (t *touched) podsOf(j *batchv1.Job) error {
	owned, err := consumer.OwnedBy[*corev1.Pod](t.Snapshot, pods, j.UID)
	if err != nil {
		return err
	}
	all, err := consumer.List[*corev1.Pod](t.Snapshot, pods, j.Namespace)
	if err != nil {
		return err
	}
	for _, pod := range all {
		if consumer.Selects(j.Spec.Selector, pod) {
			owned = append(owned, pod)
		}
	}
	return t.orphaned(owned)
}

// orphaned adds the pods that have a finalizer which no Job will take.
func (t *touched) orphaned(some []*corev1.Pod) error {
	for _, pod := range some {
		if !slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer) {
			continue
		}
		owner, err := jobOf(t.Snapshot, pod)
		if err != nil {
			return err
		}
		if !job.Orphan(pod, owner).Empty() {
			t.orphans.Add(pod.Namespace, pod.Name)
		}
	}
	return nil
}

// jobOf returns the Job that a pod's controller reference names, nil if there is none.
func jobOf(s *consumer.Snapshot, pod *corev1.Pod) (*batchv1.Job, error) {
	c := metav1.GetControllerOfNoCopy(pod)
	if c == nil {
		return nil, nil
	}
	j, ok, err := consumer.Get[*batchv1.Job](s, jobs, pod.Namespace, c.Name)
	if err != nil || !ok || j.UID != c.UID {
		return nil, err
	}
	return j, nil
}

func (t *touched) decideOrphan(ctx context.Context, n consumer.Named) error {
	return consumer.Refused(t.Decide(ctx, jobController, func(s *consumer.Snapshot) (plan.Plan, error) {
		pod, ok, err := consumer.Get[*corev1.Pod](s, pods, n.Namespace, n.Name)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		owner, err := jobOf(s, pod)
		if err != nil {
			return plan.Plan{}, err
		}
		return job.Orphan(pod, owner), nil
	}))
}
