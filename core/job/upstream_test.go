package job

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller"
	upstreamjob "k8s.io/kubernetes/pkg/controller/job"
	"k8s.io/kubernetes/pkg/features"
	clocktesting "k8s.io/utils/clock/testing"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podstate"
)

// upstream runs Kubernetes's own Job controller over a world, one sync at a time: what it reads are the world's objects, what it
// writes goes to the world, and its clock is the world's.
type upstream struct {
	*world
	mu sync.Mutex
	t  *rapid.T
	// backoff is the controller's memory of failures, which outlives a sync.
	backoff reflect.Value
	// stuck is set when the API refused the end of a Job that was suspended meanwhile.
	stuck bool
	// waits are the times at which the last sync wants to come again.
	waits []time.Time
}

// field is an unexported field of the controller.
func field(c *upstreamjob.Controller, name string) reflect.Value {
	f := reflect.ValueOf(c).Elem().FieldByName(name)
	return reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem()
}

// sync makes a controller that has seen everything, and has it sync the Job.
func (u *upstream) sync() {
	client := fake.NewClientset()
	client.PrependReactor("*", "*", u.serve)
	ctx := klog.NewContext(u.t.Context(), klog.Logger{})
	factory := informers.NewSharedInformerFactory(client, 0)
	pods, jobs := factory.Core().V1().Pods(), factory.Batch().V1().Jobs()
	c, err := upstreamjob.NewController(ctx, client, pods, jobs, nil, nil)
	if err != nil {
		u.t.Fatal(err)
	}
	defer func() {
		field(c, "orphanQueue").Interface().(interface{ ShutDown() }).ShutDown()
		field(c, "broadcaster").Interface().(record.EventBroadcaster).Shutdown()
	}()
	if u.backoff.IsValid() {
		field(c, "podBackoffStore").Set(u.backoff)
	}
	u.backoff = reflect.ValueOf(field(c, "podBackoffStore").Interface())
	recorder := record.NewFakeRecorder(1000)
	queue := field(c, "queue")
	queue.Interface().(workqueue.TypedRateLimitingInterface[string]).ShutDown()
	u.waits = nil
	queue.Set(reflect.ValueOf(&waitingQueue{of: u}))
	field(c, "clock").Set(reflect.ValueOf(clocktesting.NewFakeClock(u.now)))
	field(c, "recorder").Set(reflect.ValueOf(recorder))
	field(c, "podControl").Set(reflect.ValueOf(controller.RealPodControl{KubeClient: client, Recorder: recorder}))
	for _, pod := range u.pods {
		_ = pods.Informer().GetIndexer().Add(pod.DeepCopy())
	}
	_ = jobs.Informer().GetIndexer().Add(u.job.DeepCopy())
	if err := field(c, "syncHandler").Interface().(func(context.Context, string) error)(ctx, "default/"+u.job.Name); err != nil {
		if strings.Contains(err.Error(), "startTime is required") {
			u.stuck = true
			return
		}
		u.t.Fatalf("upstream's sync: %v", err)
	}
	close(recorder.Events)
	for event := range recorder.Events {
		kind, rest, _ := strings.Cut(event, " ")
		reason, message, _ := strings.Cut(rest, " ")
		u.events = append(u.events, fmt.Sprintf("%s %s: %s", kind, reason, message))
	}
}

// waitingQueue notes when the controller wants to come again.
type waitingQueue struct {
	workqueue.TypedRateLimitingInterface[string]
	of *upstream
}

func (q *waitingQueue) AddAfter(_ string, after time.Duration) {
	q.of.waits = append(q.of.waits, q.of.now.Add(after))
}

// serve has the world answer.
func (u *upstream) serve(action clienttesting.Action) (bool, runtime.Object, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	resource := action.GetResource().Resource
	switch a := action.(type) {
	case clienttesting.PatchAction:
		err := u.patchPod(plan.Write{Name: a.GetName(), PatchBody: a.GetPatch()})
		return true, &corev1.Pod{}, err
	case clienttesting.DeleteAction:
		u.deletePod(a.GetName(), u.pods[a.GetName()].UID)
		return true, nil, nil
	case clienttesting.CreateAction: // an update is one, too
		if resource == "pods" {
			name := u.createPod(a.GetObject().(*corev1.Pod).DeepCopy())
			return true, u.pods[name].DeepCopy(), nil
		}
		err := u.updateStatus(a.GetObject().(*batchv1.Job).DeepCopy())
		return true, u.job.DeepCopy(), err
	case clienttesting.GetAction:
		if resource == "jobs" {
			return true, u.job.DeepCopy(), nil
		}
	}
	return true, nil, fmt.Errorf("the world does not know %s %s", action.GetVerb(), resource)
}

// quieten syncs until nothing is written any more.
func (u *upstream) quieten() {
	for range settleRounds {
		before := u.version
		u.sync()
		if u.version == before || u.stuck {
			return
		}
	}
	u.t.Fatal("upstream does not come to rest")
}

// quieten decides until nothing is written any more, and returns what the last plan waits for.
func quieten(t *rapid.T, w *world) []time.Time {
	for range settleRounds {
		d, err := w.decide(w.snapshot())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.commit(d, -1); err != nil {
			t.Fatal(err)
		}
		if len(d.Writes) > 0 {
			continue
		}
		var waits []time.Time
		for _, l := range d.Later {
			if !l.At.IsZero() {
				waits = append(waits, l.At)
			}
		}
		return waits
	}
	t.Fatal("does not come to rest")
	return nil
}

// rest describes a world at rest without what depends on how many writes led there.
func rest(w *world, waits []time.Time) []string {
	var out []string
	job := w.job.DeepCopy()
	slices.Sort(job.Status.UncountedTerminatedPods.Failed)
	slices.Sort(job.Status.UncountedTerminatedPods.Succeeded)
	out = append(out, "status "+string(encoded(job.Status)))
	for _, pod := range w.sortedPods() {
		pod = pod.DeepCopy()
		pod.ResourceVersion = ""
		out = append(out, "pod "+string(encoded(pod)))
	}
	events := slices.Clone(w.events)
	slices.Sort(events)
	out = append(out, events...)
	slices.SortFunc(waits, time.Time.Compare)
	for _, at := range slices.Compact(waits) {
		out = append(out, "waits until "+at.UTC().String())
	}
	return out
}

func drawPolicy(t *rapid.T, job *batchv1.Job) {
	var rules []batchv1.PodFailurePolicyRule
	actions := []batchv1.PodFailurePolicyAction{batchv1.PodFailurePolicyActionIgnore, batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailJob}
	if job.Spec.BackoffLimitPerIndex != nil {
		actions = append(actions, batchv1.PodFailurePolicyActionFailIndex)
	}
	for range rapid.IntRange(0, 2).Draw(t, "rules") {
		rule := batchv1.PodFailurePolicyRule{Action: rapid.SampledFrom(actions).Draw(t, "action")}
		if rapid.Bool().Draw(t, "by exit code") {
			rule.OnExitCodes = &batchv1.PodFailurePolicyOnExitCodesRequirement{
				Operator: rapid.SampledFrom([]batchv1.PodFailurePolicyOnExitCodesOperator{
					batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn}).Draw(t, "operator"),
				Values: []int32{rapid.Int32Range(1, 3).Draw(t, "exit code")},
			}
		} else {
			rule.OnPodConditions = []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}
		}
		rules = append(rules, rule)
	}
	if len(rules) > 0 {
		job.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: rules}
		replaces := batchv1.Failed // validation asks for it
		job.Spec.PodReplacementPolicy = &replaces
	}
}

// TestTheJobControllerOfKubernetesComesToTheSameRest gives the same Jobs, and what becomes of their pods, to Kubernetes's own Job
// controller and to this package, and compares what is there each time both have come to rest: status, pods, events, and
// until when they wait.
func TestTheJobControllerOfKubernetesComesToTheSameRest(t *testing.T) {
	// Its writes have no versions that its own check of informers would know.
	featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, features.StaleControllerConsistencyJob, false)
	klog.SetLogger(klog.Logger{})
	t.Cleanup(klog.ClearLogger)
	rapid.Check(t, func(t *rapid.T) {
		job := drawJob(t)
		drawPolicy(t, job)
		if rapid.IntRange(0, 3).Draw(t, "has a deadline") == 0 {
			seconds := rapid.Int64Range(10, 2000).Draw(t, "activeDeadlineSeconds")
			job.Spec.ActiveDeadlineSeconds = &seconds
		}
		suspended := rapid.IntRange(0, 3).Draw(t, "suspended") == 0
		job.Spec.Suspend = &suspended
		p := &pair{t: t, theirs: &upstream{world: newWorld(job), t: t}, ours: newWorld(job.DeepCopy()), calm: rapid.Bool().Draw(t, "calm")}
		p.compare("create")
		for range rapid.IntRange(0, 15).Draw(t, "steps") {
			if !p.theirs.stuck {
				p.compare(p.act())
			}
		}
	})
}

// pair is two worlds to which the same happens.
type pair struct {
	t      *rapid.T
	theirs *upstream
	ours   *world
	// calm pairs have pods end as they like and no one delete them. In others someone does, and they are compared when no back-off
	// goes on any more: upstream remembers pods that are gone.
	calm bool
}

func (p *pair) compare(after string) {
	p.theirs.quieten()
	waits := quieten(p.t, p.ours)
	if !p.calm {
		p.both(func(w *world) { w.now = w.now.Add(time.Hour) })
		p.theirs.quieten()
		waits = quieten(p.t, p.ours)
	}
	if p.theirs.stuck {
		return
	}
	if _, over := Finished(p.ours.job); over {
		p.theirs.waits, waits = nil, nil
	}
	if diff := cmp.Diff(rest(p.theirs.world, p.theirs.waits), rest(p.ours, waits)); diff != "" {
		p.t.Fatalf("after %s (-upstream +ours):\n%s\nspec %s", after, diff, encoded(p.ours.job.Spec))
	}
}

func (p *pair) both(do func(*world)) {
	do(p.theirs.world)
	do(p.ours)
}

// act has the same happen in both worlds and says what.
func (p *pair) act() string {
	pause := time.Duration(rapid.IntRange(1, 15).Draw(p.t, "seconds")) * time.Second
	p.both(func(w *world) { w.now = w.now.Add(pause) })
	what := rapid.IntRange(0, 9).Draw(p.t, "what")
	switch {
	case what == 0:
		n := rapid.Int32Range(0, 4).Draw(p.t, "parallelism")
		p.both(func(w *world) { w.edit(func(j *batchv1.Job) { j.Spec.Parallelism = &n }) })
		return fmt.Sprintf("parallelism %d", n)
	case what == 1:
		p.both(func(w *world) { w.edit(func(j *batchv1.Job) { yes := !*j.Spec.Suspend; j.Spec.Suspend = &yes }) })
		return "suspend or resume"
	case len(p.ours.pods) == 0:
		return "time"
	}
	pod := p.ours.drawPod(p.t)
	if what == 2 && !p.calm && podstate.IsActive(pod) {
		p.both(func(w *world) { w.deletePod(pod.Name, pod.UID) })
		return "deletion of " + pod.Name
	}
	if podstate.IsTerminal(pod) {
		return "time"
	}
	end := rapid.SampledFrom([]corev1.PodPhase{corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed}).Draw(p.t, "end")
	code, disrupted := rapid.Int32Range(1, 3).Draw(p.t, "exit code"), rapid.IntRange(0, 3).Draw(p.t, "disrupted") == 0
	p.both(func(w *world) { w.become(pod.Name, end, code, disrupted) })
	return fmt.Sprintf("%s is %s", pod.Name, end)
}

// become puts a pod on a node and into a phase.
func (w *world) become(name string, phase corev1.PodPhase, code int32, disrupted bool) {
	pod := w.pods[name].DeepCopy()
	pod.Spec.NodeName = "node"
	if phase == corev1.PodRunning {
		pod.Status.Phase = phase
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.now)}}
		w.putPod(pod)
		return
	}
	endPod(pod, phase, w.now)
	if phase == corev1.PodFailed {
		pod.Status.ContainerStatuses[0].State.Terminated.ExitCode = code
		if disrupted {
			pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue})
		}
	}
	w.putPod(pod)
}
