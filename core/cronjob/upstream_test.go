package cronjob

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	upstreamcronjob "k8s.io/kubernetes/pkg/controller/cronjob"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
)

// upstream runs Kubernetes's own CronJob controller over a world, one sync at a time: what it reads are the world's objects, what it
// writes goes to the world, and its clock is the world's.
type upstream struct {
	*world
	t *rapid.T
}

// set replaces an unexported field of the controller.
func set(c *upstreamcronjob.ControllerV2, name string, value any) {
	f := reflect.ValueOf(c).Elem().FieldByName(name)
	reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem().Set(reflect.ValueOf(value))
}

// onceQueue has one key, notes when the controller wants to come again, and then ends it.
type onceQueue struct {
	workqueue.TypedRateLimitingInterface[string]
	of   *upstream
	end  func()
	done bool
}

func (q *onceQueue) Get() (string, bool) {
	if q.done {
		q.end()
		return "", true
	}
	q.done = true
	return "default/" + q.of.cron.Name, false
}

func (q *onceQueue) AddAfter(_ string, after time.Duration) { q.of.later = q.of.now.Add(after) }
func (q *onceQueue) AddRateLimited(string)                  { q.of.events = append(q.of.events, "sync failed") }
func (q *onceQueue) Forget(string)                          {}
func (q *onceQueue) Done(string)                            {}
func (q *onceQueue) ShutDown()                              {}

// sync makes a controller that has seen everything, and has it sync the CronJob.
func (u *upstream) sync() {
	client := fake.NewClientset()
	client.PrependReactor("*", "jobs", u.serveJobs)
	client.PrependReactor("*", "cronjobs", u.serveCronJobs)
	ctx, cancel := context.WithCancel(klog.NewContext(u.t.Context(), klog.Logger{}))
	defer cancel()
	batch := informers.NewSharedInformerFactory(client, 0).Batch().V1()
	c, err := upstreamcronjob.NewControllerV2(ctx, batch.Jobs(), batch.CronJobs(), client)
	if err != nil {
		u.t.Fatal(err)
	}
	recorder := record.NewFakeRecorder(1000)
	synced := cache.InformerSynced(func() bool { return true })
	u.later = time.Time{}
	set(c, "queue", &onceQueue{of: u, end: cancel})
	set(c, "recorder", recorder)
	set(c, "now", func() time.Time { return u.now })
	set(c, "jobListerSynced", synced)
	set(c, "cronJobListerSynced", synced)
	for _, j := range u.jobs {
		_ = batch.Jobs().Informer().GetIndexer().Add(j.DeepCopy())
	}
	_ = batch.CronJobs().Informer().GetIndexer().Add(u.cron.DeepCopy())
	c.Run(ctx, 1)
	close(recorder.Events)
	for event := range recorder.Events {
		kind, rest, _ := strings.Cut(event, " ")
		reason, message, _ := strings.Cut(rest, " ")
		u.events = append(u.events, fmt.Sprintf("%s %s: %s", kind, reason, message))
	}
}

func (u *upstream) serveJobs(action clienttesting.Action) (bool, runtime.Object, error) {
	switch a := action.(type) {
	case clienttesting.CreateAction:
		j := a.GetObject().(*batchv1.Job).DeepCopy()
		j.Namespace = "default"
		if u.jobs[j.Name] != nil {
			return true, nil, apierrors.NewAlreadyExists(plan.Jobs.GroupResource(), j.Name)
		}
		err := u.createJob(j)
		return true, u.jobs[j.Name].DeepCopy(), err
	case clienttesting.DeleteAction:
		return true, nil, u.write(plan.Write{Verb: plan.Delete, Resource: plan.Jobs, Name: a.GetName(), UID: u.jobs[a.GetName()].UID})
	case clienttesting.GetAction:
		if j := u.jobs[a.GetName()]; j != nil {
			return true, j.DeepCopy(), nil
		}
		return true, nil, apierrors.NewNotFound(plan.Jobs.GroupResource(), a.GetName())
	}
	return true, nil, fmt.Errorf("the world does not know %s", action.GetVerb())
}

func (u *upstream) serveCronJobs(action clienttesting.Action) (bool, runtime.Object, error) {
	if a, ok := action.(clienttesting.UpdateAction); ok {
		err := u.updateStatus(a.GetObject().(*batchv1.CronJob).DeepCopy())
		return true, u.cron.DeepCopy(), err
	}
	return true, u.cron.DeepCopy(), nil
}

// quieten syncs until nothing is written any more.
func (u *upstream) quieten() {
	for range settleSteps {
		before := u.version
		u.sync()
		if u.version == before {
			return
		}
	}
	u.t.Fatal("upstream does not come to rest")
}

// TestTheCronJobControllerOfKubernetesComesToTheSameRest gives the same CronJobs, and what becomes of their Jobs, to Kubernetes's own
// controller and to this package, and compares what is there each time both have come to rest: status, Jobs, events, and until
// when they wait.
func TestTheCronJobControllerOfKubernetesComesToTheSameRest(t *testing.T) {
	klog.SetLogger(klog.Logger{})
	t.Cleanup(klog.ClearLogger)
	rapid.Check(t, func(t *rapid.T) {
		cj := drawCronJob(t)
		theirs, ours := &upstream{world: newWorld(cj), t: t}, newWorld(cj.DeepCopy())
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			what := ours.act(t)
			follow(theirs.world, ours)
			theirs.quieten()
			ours.settle(t)
			if diff := cmp.Diff(rest(theirs.world), rest(ours)); diff != "" {
				t.Fatalf("after %s (-upstream +ours):\n%s\nspec %s", what, diff, encoded(cj.Spec))
			}
		}
	})
}

func drawCronJob(t *rapid.T) *batchv1.CronJob {
	cj := newCronJob(rapid.SampledFrom([]string{
		"* * * * *", "*/3 * * * *", "7 * * * *", "30 6-16/4 * * 1-5", "@every 2m", "@hourly", "59 23 31 2 *", "nonsense", "TZ=Asia/Tokyo 5 12 * * *", "TZ=0",
	}).Draw(t, "schedule"))
	cj.Spec.ConcurrencyPolicy = rapid.SampledFrom([]batchv1.ConcurrencyPolicy{batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent}).Draw(t, "policy")
	if rapid.IntRange(0, 2).Draw(t, "has a zone") == 0 {
		zone := rapid.SampledFrom([]string{"Europe/Berlin", "Etc/UTC", "America/St_Johns", "Nowhere"}).Draw(t, "zone")
		cj.Spec.TimeZone = &zone
	}
	if rapid.IntRange(0, 2).Draw(t, "has a deadline") == 0 {
		seconds := rapid.Int64Range(0, 600).Draw(t, "startingDeadlineSeconds")
		cj.Spec.StartingDeadlineSeconds = &seconds
	}
	yes := rapid.IntRange(0, 7).Draw(t, "suspended") == 0
	cj.Spec.Suspend = &yes
	// The last time may be long ago.
	last := metav1.NewTime(epoch.Add(-time.Duration(rapid.IntRange(0, 20000).Draw(t, "minutes since the last time")) * time.Minute).Truncate(time.Minute))
	if rapid.Bool().Draw(t, "has run") {
		cj.Status.LastScheduleTime = &last
	}
	if rapid.IntRange(0, 3).Draw(t, "one went missing") == 0 {
		cj.Status.Active = []corev1.ObjectReference{{Kind: "Job", APIVersion: "batch/v1", Namespace: "default", Name: "lost", UID: "uid-lost"}}
	}
	return cj
}

// follow has the same happen in a world that has happened in another.
func follow(w, other *world) {
	w.now = other.now
	for name, j := range w.jobs {
		now := other.jobs[name]
		switch {
		case now == nil:
			delete(w.jobs, name)
			w.version++
		case len(now.Status.Conditions) != len(j.Status.Conditions):
			w.end(name, now.Status.Conditions[0].Type)
		}
	}
}
