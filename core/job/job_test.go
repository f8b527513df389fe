package job

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
)

func finished(ago time.Duration) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(epoch.Add(-ago))}}
	}
}

func staysTenSeconds(j *batchv1.Job) {
	seconds := int32(10)
	j.Spec.TTLSecondsAfterFinished = &seconds
}

func dying(j *batchv1.Job) { j.DeletionTimestamp = &metav1.Time{Time: epoch} }

func TestTTL(t *testing.T) {
	foreground := metav1.DeletePropagationForeground
	ref := plan.Ref{Resource: plan.Jobs, Namespace: "default", Name: "work", UID: "uid-work"}
	for name, c := range map[string]struct {
		job  *batchv1.Job
		want plan.Plan
	}{
		"one that goes on stays":         {newJob(staysTenSeconds), plan.Plan{}},
		"one without a time stays":       {newJob(finished(time.Hour)), plan.Plan{}},
		"one that is deleted is left be": {newJob(finished(time.Hour), staysTenSeconds, dying), plan.Plan{}},
		"one waits for its time": {newJob(finished(4*time.Second), staysTenSeconds), plan.Plan{
			Later: []plan.Later{{At: epoch.Add(6 * time.Second), Kind: LaterTTL, Subject: ref}},
		}},
		"one goes at its time": {newJob(finished(10*time.Second), staysTenSeconds), plan.Plan{
			Writes: []plan.Write{{
				Verb: plan.Delete, Resource: plan.Jobs, Namespace: "default", Name: "work", UID: "uid-work", ResourceVersion: "1",
				Propagation: &foreground, Reason: "ttlSecondsAfterFinished are over",
			}},
			Reads: []plan.Read{{Resource: plan.Jobs, Namespace: "default", Name: "work"}},
		}},
	} {
		if diff := cmp.Diff(c.want, TTL(c.job, epoch)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestOrphansLoseTheirFinalizer(t *testing.T) {
	job := newJob()
	pod := func(change func(*corev1.Pod)) *corev1.Pod {
		p := podcontrol.New(&job.Spec.Template, job, jobKind)
		p.Name, p.UID, p.Finalizers = "work-1", "uid-work-1", []string{"other", batchv1.JobTrackingFinalizer}
		change(p)
		return p
	}
	same := func(*corev1.Pod) {}
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		job  *batchv1.Job
		want bool
	}{
		"of a Job that goes on, it stays":    {pod(same), job, false},
		"of a Job that is over, it goes":     {pod(same), newJob(finished(time.Second)), true},
		"of a Job that is gone, it goes":     {pod(same), nil, true},
		"without a controller, it goes":      {pod(func(p *corev1.Pod) { p.OwnerReferences = nil }), nil, true},
		"of another controller, it stays":    {pod(func(p *corev1.Pod) { p.OwnerReferences[0].Kind = "ReplicaSet" }), nil, false},
		"of a Job that others manage, stays": {pod(same), newJob(finished(time.Second), func(j *batchv1.Job) { by := "example.com/x"; j.Spec.ManagedBy = &by }), false},
		"without the finalizer, nothing":     {pod(func(p *corev1.Pod) { p.Finalizers = []string{"other"} }), nil, false},
	} {
		p := Orphan(c.pod, c.job)
		if got := len(p.Writes) == 1; got != c.want {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// TestASettledJobAsksForNothing, be it that its pods run or that it is over.
func TestASettledJobAsksForNothing(t *testing.T) {
	w := newWorld(newJob(size(2, 2)))
	for range 3 {
		if err := w.step(); err != nil {
			t.Fatal(err)
		}
		for _, pod := range w.sortedPods() {
			if pod.Status.Phase != corev1.PodRunning {
				w.run(pod, corev1.PodSucceeded)
			}
		}
	}
	if err := w.step(); err != nil || w.job.Status.Active != 2 || *w.job.Status.Ready != 2 {
		t.Fatalf("%v, status %s", err, encoded(w.job.Status))
	}
	if p := Job(w.snapshot()); !p.Empty() {
		t.Errorf("two pods run, and the plan asks for %+v", p)
	}
	if err := w.settle(always(corev1.PodSucceeded)); err != nil {
		t.Fatal(err)
	}
	if p := Job(w.snapshot()); !p.Empty() || w.job.Status.Succeeded != 2 {
		t.Errorf("it is over, with the status %s, and the plan asks for %+v", encoded(w.job.Status), p)
	}
}

// TestARefusedPodIsToldAndTheRestGoesOn: what ended is counted although no pod can be made.
func TestARefusedPodIsToldAndTheRestGoesOn(t *testing.T) {
	w := newWorld(newJob(size(1, 2)))
	for range 3 {
		if err := w.step(); err != nil {
			t.Fatal(err)
		}
		for _, pod := range w.sortedPods() {
			w.run(pod, corev1.PodSucceeded)
		}
	}
	w.refuse = true
	for range 3 {
		if err := w.step(); err != nil {
			t.Fatal(err)
		}
	}
	if w.job.Status.Succeeded != 1 || len(w.pods) != 1 {
		t.Errorf("%d pods, status %s", len(w.pods), encoded(w.job.Status))
	}
}
