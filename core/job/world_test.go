package job

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/batch"
	_ "k8s.io/kubernetes/pkg/apis/batch/install" // to convert Jobs
	_ "k8s.io/kubernetes/pkg/apis/core/install"  // to convert their templates
	jobregistry "k8s.io/kubernetes/pkg/registry/batch/job"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podstate"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world is a namespace in memory: one Job, its pods, enough of the API server's rules to run plans, and a kubelet.
type world struct {
	now     time.Time
	version int
	names   map[string]int
	job     *batchv1.Job
	pods    map[string]*corev1.Pod
	later   map[string]plan.Later
	events  []string
	writes  int
	// arrived and moved are the versions at which pods came, and at which their standing changed last.
	arrived, moved int
	// strict worlds let no pod go that has ended and is not accounted for.
	strict bool
	// refuse makes every create of a pod fail.
	refuse bool
	// ends are how pods ended that had their finalizer then, by UID.
	ends map[types.UID]corev1.PodPhase
	// released are the pods that plans deleted, by UID: they count as what they end as, or not at all.
	released map[types.UID]bool
	// succeededIndexes are those of which a pod succeeded, true if it had not been deleted: a deletion counts as a failure at once,
	// as upstream, so that its index may run again.
	succeededIndexes map[int]bool
}

func newJob(change ...func(*batchv1.Job)) *batchv1.Job {
	const name = "work"
	one, limit := int32(1), int32(6)
	nonIndexed := batchv1.NonIndexedCompletion
	no := false
	selector := map[string]string{batchv1.ControllerUidLabel: "uid-" + name}
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "default", UID: types.UID("uid-" + name), ResourceVersion: "1", Generation: 1,
			CreationTimestamp: metav1.NewTime(epoch.Add(-time.Minute)),
		},
		Spec: batchv1.JobSpec{
			Parallelism: &one, Completions: &one, BackoffLimit: &limit, CompletionMode: &nonIndexed, Suspend: &no,
			Selector: &metav1.LabelSelector{MatchLabels: selector},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: maps.Clone(selector)},
				Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: "v1"}}},
			},
		},
	}
	for _, f := range change {
		f(job)
	}
	return job
}

func size(parallelism, completions int32) func(*batchv1.Job) {
	return func(j *batchv1.Job) { j.Spec.Parallelism, j.Spec.Completions = &parallelism, &completions }
}

func indexed(j *batchv1.Job) {
	mode := batchv1.IndexedCompletion
	j.Spec.CompletionMode = &mode
}

func newWorld(job *batchv1.Job) *world {
	return &world{
		now: epoch, version: 10, names: map[string]int{}, job: job, pods: map[string]*corev1.Pod{}, later: map[string]plan.Later{},
		ends: map[types.UID]corev1.PodPhase{}, succeededIndexes: map[int]bool{},
		released: map[types.UID]bool{},
	}
}

// stored is an object after a trip through the API, as a reader would see it.
func stored[T any](object *T) *T {
	read := new(T)
	if err := json.Unmarshal(encoded(object), read); err != nil {
		panic(err)
	}
	return read
}

func encoded(object any) []byte {
	body, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	return body
}

func (w *world) sortedPods() []*corev1.Pod {
	var all []*corev1.Pod
	for _, name := range slices.Sorted(maps.Keys(w.pods)) {
		all = append(all, w.pods[name])
	}
	return all
}

// drawPod picks a pod.
func (w *world) drawPod(t *rapid.T) *corev1.Pod {
	return w.pods[rapid.SampledFrom(slices.Sorted(maps.Keys(w.pods))).Draw(t, "pod")]
}

func (w *world) stamp(meta *metav1.ObjectMeta) {
	w.version++
	meta.ResourceVersion = strconv.Itoa(w.version)
	if meta.UID == "" {
		meta.UID = types.UID("uid-" + strconv.Itoa(w.version))
		meta.CreationTimestamp = metav1.NewTime(w.now).Rfc3339Copy()
	}
}

// edit changes the Job as a user would.
func (w *world) edit(change func(*batchv1.Job)) {
	job := w.job.DeepCopy()
	change(job)
	if !apiequality.Semantic.DeepEqual(job.Spec, w.job.Spec) {
		job.Generation++
	}
	w.stamp(&job.ObjectMeta)
	w.job = stored(job)
}

func (w *world) podSnapshot(job *batchv1.Job) []*corev1.Pod {
	var out []*corev1.Pod
	for _, pod := range w.sortedPods() {
		ref := metav1.GetControllerOf(pod)
		if metav1.IsControlledBy(pod, job) || ref == nil && pod.Labels[batchv1.ControllerUidLabel] == job.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel] {
			out = append(out, pod)
		}
	}
	return out
}

func (w *world) snapshot() Snapshot {
	return Snapshot{Job: w.job, Pods: w.podSnapshot(w.job), Now: w.now}
}

// decided is a plan and what it was decided on: the versions are those that its reads are held against.
type decided struct {
	plan.Plan
	job  string
	pods int
}

// decide decides on a snapshot, whose pods are as they are now. An error is a rule that the decision broke.
func (w *world) decide(s Snapshot) (decided, error) {
	before := encoded(s)
	p := Job(s)
	if !bytes.Equal(before, encoded(s)) {
		return decided{}, fmt.Errorf("the decision altered its snapshot")
	}
	return decided{Plan: p, job: s.Job.ResourceVersion, pods: w.version}, nil
}

// step decides and commits once, and again if a create was refused.
func (w *world) step() error {
	d, err := w.decide(w.snapshot())
	if err != nil {
		return err
	}
	if w.refuse && slices.ContainsFunc(d.Writes, func(write plan.Write) bool { return write.Verb == plan.Create }) {
		s := w.snapshot()
		s.Refused = true
		if d, err = w.decide(s); err != nil {
			return err
		}
	}
	return w.commit(d, -1)
}

// commit commits the first objects of a plan, all if the number is negative, as adapters/planclient would: unless what was read has
// moved.
func (w *world) commit(d decided, objects int) error {
	if d.stale(w) {
		return nil
	}
	keys := map[string]bool{}
	for i, write := range d.Writes {
		key := write.Resource.Resource + "/" + write.Name
		if write.Name == "" {
			key = strconv.Itoa(i)
		}
		if !keys[key] && len(keys) == objects {
			continue
		}
		keys[key] = true
		if write.Verb == plan.UpdateStatus && d.job != w.job.ResourceVersion {
			return nil // what went before stays
		}
		if err := w.write(write); err != nil {
			return fmt.Errorf("%s %s/%s: %w", write.Verb, write.Resource.Resource, write.Name, err)
		}
		w.writes++
	}
	for _, n := range d.Notices {
		w.notice(&n, "")
	}
	for _, l := range d.Later {
		w.later[l.Kind] = l
		if l.At.IsZero() {
			delete(w.later, l.Kind)
		}
	}
	return nil
}

// stale reports whether the plan's reads have moved.
func (d decided) stale(w *world) bool {
	pods := slices.ContainsFunc(d.Writes, func(write plan.Write) bool { return write.Resource == plan.Pods })
	for _, r := range d.Reads {
		switch {
		case r.Resource == plan.Jobs && r.Again && d.job != w.job.ResourceVersion:
			return true
		case r.Resource == plan.Pods && pods && w.arrived > d.pods:
			return true
		case r.Resource == plan.Pods && pods && !r.Arrivals && w.moved > d.pods:
			return true
		}
	}
	return false
}

func (w *world) notice(n *plan.Notice, name string) {
	if n != nil {
		w.events = append(w.events, fmt.Sprintf("%s %s: %s", n.Type, n.Reason, strings.ReplaceAll(n.Message, "{{name}}", name)))
	}
}

func (w *world) write(write plan.Write) error {
	name := write.Name
	var err error
	switch {
	case write.Verb == plan.Create && write.Resource == plan.Pods:
		name = w.createPod(write.Object.(*corev1.Pod).DeepCopy())
	case write.Verb == plan.Patch && write.Resource == plan.Pods:
		err = w.patchPod(write)
	case write.Verb == plan.Delete && write.Resource == plan.Pods:
		w.released[write.UID] = true
		w.deletePod(write.Name, write.UID)
	case write.Verb == plan.UpdateStatus && write.Resource == plan.Jobs:
		err = w.updateStatus(write.Object.(*batchv1.Job).DeepCopy())
	default:
		return fmt.Errorf("the world does not know this write")
	}
	if err == nil {
		w.notice(write.OnSuccess, name)
	}
	return err
}

func (w *world) createPod(pod *corev1.Pod) string {
	// The name and the UID do not depend on in which order pods of different names are made.
	w.names[pod.GenerateName]++
	pod.Name = fmt.Sprintf("%s%05d", pod.GenerateName, w.names[pod.GenerateName])
	// No two are of the same age, so that it is no matter of chance which goes first.
	order := time.Duration(w.names[pod.GenerateName]+1000*(indexOf(pod)+1)) * time.Second
	pod.UID, pod.CreationTimestamp = types.UID("uid-"+pod.Name), metav1.NewTime(epoch.AddDate(-1, 0, 0).Add(order))
	pod.Namespace, pod.Status.Phase = "default", corev1.PodPending
	w.stamp(&pod.ObjectMeta)
	w.arrived, w.moved = w.version, w.version
	w.pods[pod.Name] = stored(pod)
	return pod.Name
}

func (w *world) patchPod(write plan.Write) error {
	pod := w.pods[write.Name]
	if pod == nil {
		return nil // another instance has deleted it
	}
	body, err := strategicpatch.StrategicMergePatch(encoded(pod), write.PatchBody, &corev1.Pod{})
	if err != nil {
		return err
	}
	patched := &corev1.Pod{}
	if err := json.Unmarshal(body, patched); err != nil {
		return err
	}
	if patched.UID != pod.UID {
		return fmt.Errorf("the patch is of another pod")
	}
	if apiequality.Semantic.DeepEqual(pod, patched) {
		return nil // another instance has done it
	}
	if w.strict && hasFinalizer(pod) && !hasFinalizer(patched) && podstate.IsTerminal(pod) && !w.accountsFor(pod) {
		return fmt.Errorf("%s has ended, and is let go uncounted", pod.Name)
	}
	owned := metav1.IsControlledBy(patched, w.job) != metav1.IsControlledBy(pod, w.job)
	w.putPod(patched)
	if owned {
		w.arrived, w.moved = w.version, w.version
	}
	return nil
}

// accountsFor reports whether the stored status has a pod that has ended.
func (w *world) accountsFor(pod *corev1.Pod) bool {
	s := w.job.Status
	if u := s.UncountedTerminatedPods; u != nil && slices.Contains(append(slices.Clone(u.Succeeded), u.Failed...), pod.UID) {
		return true
	}
	return isIndexed(w.job) && pod.Status.Phase == corev1.PodSucceeded && parseIndexes(s.CompletedIndexes, int(*w.job.Spec.Completions)).has(indexOf(pod))
}

// putPod stores a pod, or lets it go when nothing holds it any more.
func (w *world) putPod(pod *corev1.Pod) {
	old := w.pods[pod.Name]
	w.stamp(&pod.ObjectMeta)
	if (old.DeletionTimestamp == nil) != (pod.DeletionTimestamp == nil) || podstate.IsTerminal(old) != podstate.IsTerminal(pod) {
		w.moved = w.version
	}
	gone := pod.DeletionTimestamp != nil && (pod.Spec.NodeName == "" || podstate.IsTerminal(pod))
	if gone && len(pod.Finalizers) == 0 {
		delete(w.pods, pod.Name)
		w.moved = w.version
		return
	}
	w.pods[pod.Name] = stored(pod)
	w.noteEnd(w.pods[pod.Name])
}

// noteEnd keeps how a pod ended, if it is the Job's to count.
func (w *world) noteEnd(pod *corev1.Pod) {
	if !hasFinalizer(pod) || !podstate.IsTerminal(pod) {
		return
	}
	if _, known := w.ends[pod.UID]; known {
		return
	}
	w.ends[pod.UID] = pod.Status.Phase
	if u := w.job.Status.UncountedTerminatedPods; u != nil && slices.Contains(u.Failed, pod.UID) {
		w.ends[pod.UID] = corev1.PodFailed // it was deleted, and counted as failed at once
		return
	}
	if pod.Status.Phase == corev1.PodSucceeded {
		w.succeededIndexes[indexOf(pod)] = w.succeededIndexes[indexOf(pod)] || pod.DeletionTimestamp == nil
	}
}

func (w *world) deletePod(name string, uid types.UID) {
	pod := w.pods[name]
	if pod == nil || pod.UID != uid || pod.DeletionTimestamp != nil {
		return
	}
	pod = pod.DeepCopy()
	deleted := metav1.NewTime(w.now)
	pod.DeletionTimestamp = &deleted
	w.putPod(pod)
}

// updateStatus validates a status as the API server does.
func (w *world) updateStatus(job *batchv1.Job) error {
	job.Spec, job.Labels = w.job.Spec, w.job.Labels
	if apiequality.Semantic.DeepEqual(stored(job), w.job) {
		return fmt.Errorf("nothing changed")
	}
	before, after := internal(w.job), internal(job)
	if errs := jobregistry.StatusStrategy.ValidateUpdate(context.Background(), after, before); len(errs) > 0 {
		return errs.ToAggregate()
	}
	w.stamp(&job.ObjectMeta)
	w.job = stored(job)
	return nil
}

func internal(job *batchv1.Job) *batch.Job {
	job = job.DeepCopy()
	legacyscheme.Scheme.Default(job)
	out := &batch.Job{}
	if err := legacyscheme.Scheme.Convert(job, out, nil); err != nil {
		panic(err)
	}
	return out
}

// run moves a pod on: to a node, to running and ready, and to an end.
func (w *world) run(pod *corev1.Pod, end corev1.PodPhase) {
	next := pod.DeepCopy()
	switch {
	case podstate.IsTerminal(pod):
		return
	case pod.Spec.NodeName == "":
		next.Spec.NodeName = "node"
	case pod.Status.Phase == corev1.PodPending && pod.DeletionTimestamp == nil:
		next.Status.Phase = corev1.PodRunning
		next.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.now)}}
	default:
		endPod(next, end, w.now)
	}
	w.putPod(next)
}

func endPod(pod *corev1.Pod, end corev1.PodPhase, now time.Time) {
	code := int32(0)
	if end == corev1.PodFailed {
		code = 1
	}
	at := metav1.NewTime(now).Rfc3339Copy()
	pod.Status.Phase = end
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: at}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "main", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: at}},
	}}
}

// settleRounds bounds how many rounds a world may need: far more than any Job here takes.
const settleRounds = 400

// settle lets the controller and a kubelet act, a second apart, until the Job is over or nothing happens any more, not even later.
func (w *world) settle(end func(*corev1.Pod) corev1.PodPhase) error {
	for range settleRounds {
		before := w.version
		if err := w.step(); err != nil {
			return err
		}
		for _, pod := range w.sortedPods() {
			w.run(pod, end(pod))
		}
		w.now = w.now.Add(time.Second)
		if w.version != before {
			continue
		}
		if len(w.later) == 0 {
			return nil
		}
		next := slices.MinFunc(slices.Collect(maps.Values(w.later)), func(a, b plan.Later) int { return a.At.Compare(b.At) })
		delete(w.later, next.Kind)
		if next.At.After(w.now) {
			w.now = next.At
		}
	}
	return fmt.Errorf("not settled after %d rounds:\n%s", settleRounds, encoded(w.job.Status))
}

func always(end corev1.PodPhase) func(*corev1.Pod) corev1.PodPhase {
	return func(*corev1.Pod) corev1.PodPhase { return end }
}
