package daemonset

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	corelisters "k8s.io/client-go/listers/core/v1"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/util/flowcontrol"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/daemon"
	"k8s.io/kubernetes/pkg/features"
	clocktesting "k8s.io/utils/clock/testing"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/tests/controllers"
	"github.com/zeroplane/zeroplane/tests/planworld"
)

// worlds is how many random worlds are given to Kubernetes's own controller, at the same time.
const worlds = 40

// TestTheControllerOfKubernetesComesToTheSameRest gives the same random worlds and edits to Kubernetes's own DaemonSet
// controller, over a fake API server, and to this package, and compares what is there each time both have come to rest.
// Pods become ready only between the rests, so that it shows how far an update may go.
func TestTheControllerOfKubernetesComesToTheSameRest(t *testing.T) {
	klog.SetLogger(klog.Logger{})
	t.Cleanup(klog.ClearLogger)
	// The fake server's deletes have no version, so a check that reads are as new as writes fails.
	featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, features.StaleControllerConsistencyDaemonSet, false)
	var running sync.WaitGroup
	for seed := range worlds {
		running.Go(func() {
			h := rapid.Custom(drawHistory).Example(seed)
			u := newUpstream(t, h)
			defer u.stop()
			w := planworld.New(epoch)
			w.Instant = true
			h.begin(func(resource schema.GroupVersionResource, object metav1.Object) { w.Put(resource, object) })
			for i, edit := range append([]edit{{}}, h.edits...) {
				u.clock.SetTime(epoch.Add(time.Duration(i) * time.Minute))
				w.Now = u.clock.Now()
				u.edit(edit, i)
				editOurs(w, edit, i)
				if !settle(w) {
					t.Errorf("world %d, edit %d: ours does not come to rest", seed, i)
					return
				}
				if diff := u.await(restOf(w)); diff != "" {
					t.Errorf("world %d, edit %d %+v (-upstream +ours):\n%s\nset %s", seed, i, edit, diff, planworld.Text(h.set))
					return
				}
			}
		})
	}
	running.Wait()
}

// randomHistory is a random world and what happens to it.
type randomHistory struct {
	set       *appsv1.DaemonSet
	nodes     []*corev1.Node
	pods      []*corev1.Pod
	revisions []*appsv1.ControllerRevision
	edits     []edit
}

// edit is what users and kubelets do between two rests.
type edit struct {
	// image that the set gets, empty for the one it has; ready has pods become ready so long ago, 0 for none.
	image string
	ready time.Duration
	// taint a node, and take the taints of another.
	taint, leave bool
}

func drawHistory(t *rapid.T) randomHistory {
	h := randomHistory{set: drawSet(t)}
	h.set.Spec.MinReadySeconds = rapid.SampledFrom([]int32{0, 10}).Draw(t, "min ready")
	// In between, what is left depends on which pods there were whenever somebody looked.
	limit := rapid.SampledFrom([]int32{0, 10}).Draw(t, "history limit")
	h.set.Spec.RevisionHistoryLimit = &limit
	h.set.Spec.Template.Spec.NodeSelector, h.set.Spec.Template.Spec.Affinity = nil, nil
	// Which nodes an update takes first is chance. It shows if nodes differ, unless it takes all.
	alike := rapid.Bool().Draw(t, "nodes alike")
	if rolling := h.set.Spec.UpdateStrategy.RollingUpdate; !alike && rolling != nil {
		all, none := intstr.FromString("100%"), intstr.FromInt(0)
		rolling.MaxUnavailable, rolling.MaxSurge = &all, &none
		if rapid.Bool().Draw(t, "surge") {
			rolling.MaxUnavailable, rolling.MaxSurge = &none, &all
		}
	}
	former := h.set.DeepCopy()
	former.Spec.Template.Spec.Containers[0].Image = "v0"
	h.revisions = []*appsv1.ControllerRevision{newRevision(former, 1)}
	for i := range rapid.IntRange(0, 6).Draw(t, "nodes") {
		node := newNode(fmt.Sprintf("n%d", i))
		if !alike {
			node = drawNode(t, node.Name)
		}
		h.nodes = append(h.nodes, node)
		for j := range rapid.IntRange(0, 2).Draw(t, "pods") {
			of := rapid.SampledFrom([]*appsv1.DaemonSet{former, former, h.set}).Draw(t, "revision")
			h.pods = append(h.pods, drawPod(t, newPodOf(of, node.Name, fmt.Sprint("-", j))))
		}
	}
	if rapid.Bool().Draw(t, "pod of a node that is gone") {
		h.pods = append(h.pods, drawPod(t, newPodOf(h.set, "gone", "")))
	}
	for range rapid.IntRange(1, 6).Draw(t, "edits") {
		// One thing at a time: upstream hears of pods, nodes and the set in any order.
		switch rapid.IntRange(0, 3).Draw(t, "edit") {
		case 0:
			h.edits = append(h.edits, edit{image: rapid.SampledFrom([]string{"v4", "v5"}).Draw(t, "image")})
		case 1:
			h.edits = append(h.edits, edit{taint: !alike && rapid.Bool().Draw(t, "taint"), leave: !alike})
		default:
			h.edits = append(h.edits, edit{ready: rapid.SampledFrom([]time.Duration{5 * time.Second, 20 * time.Second}).Draw(t, "ready")})
		}
	}
	return h
}

func drawPod(t *rapid.T, pod *corev1.Pod) *corev1.Pod {
	pod.CreationTimestamp = metav1.NewTime(epoch.Add(-time.Duration(rapid.IntRange(60, 90).Draw(t, "age")) * time.Minute))
	switch rapid.IntRange(0, 9).Draw(t, "state") {
	case 0:
		pod.Spec.NodeName, pod.Status = "", corev1.PodStatus{Phase: corev1.PodPending}
	case 1:
		pod.Status = corev1.PodStatus{Phase: corev1.PodFailed}
	case 2:
		pod.Status = corev1.PodStatus{Phase: corev1.PodSucceeded}
	case 3:
		pod.Status.Conditions = nil
	case 4:
		pod.OwnerReferences = nil
	case 5:
		pod.Labels["app"] = "other"
	}
	return pod
}

// begin stores the world.
func (h *randomHistory) begin(put func(schema.GroupVersionResource, metav1.Object)) {
	for _, node := range h.nodes {
		put(plan.Nodes, node)
	}
	for _, revision := range h.revisions {
		put(plan.Revisions, revision)
	}
	for _, pod := range h.pods {
		put(plan.Pods, pod)
	}
	put(plan.DaemonSets, h.set)
}

// editSet also says how often there was an edit, so that the controller looks.
func (e edit) editSet(set *appsv1.DaemonSet, round int) {
	set.Labels = map[string]string{"round": strconv.Itoa(round)}
	if e.image != "" {
		if set.Annotations[appsv1.DeprecatedTemplateGeneration] == "1" {
			set.Annotations = map[string]string{appsv1.DeprecatedTemplateGeneration: "2"} // the API server counts
		}
		set.Spec.Template.Spec.Containers[0].Image = e.image
	}
}

// editPod makes a pod ready; it reports whether it was not.
func (e edit) editPod(pod *corev1.Pod, now time.Time) bool {
	if e.ready == 0 || pod.Status.Phase != corev1.PodPending {
		return false
	}
	pod.Spec.NodeName, _ = targetNode(pod)
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{
		Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-e.ready)),
	}}}
	return true
}

// editNode changes the taints of the first two nodes; it reports whether it did.
func (e edit) editNode(node *corev1.Node) bool {
	switch {
	case e.taint && node.Name == "n0":
		node.Spec.Taints = []corev1.Taint{{Key: "own", Effect: corev1.TaintEffectNoExecute}}
	case e.leave && node.Name == "n1":
		node.Spec.Taints = nil
	default:
		return false
	}
	return true
}

func editOurs(w *planworld.World, e edit, round int) {
	for _, pod := range planworld.List[*corev1.Pod](w, plan.Pods) {
		if changed := pod.DeepCopy(); e.editPod(changed, w.Now) {
			w.Put(plan.Pods, changed)
		}
	}
	for _, node := range planworld.List[*corev1.Node](w, plan.Nodes) {
		if changed := node.DeepCopy(); e.editNode(changed) {
			w.Put(plan.Nodes, changed)
		}
	}
	planworld.Edit(w, plan.DaemonSets, "agent", func(set *appsv1.DaemonSet) { e.editSet(set, round) })
}

// settle decides until nothing is written.
func settle(w *planworld.World) bool {
	for range 100 {
		writes := w.Writes
		if err := w.Apply(Decide(snapshot(w))); err != nil {
			panic(err)
		}
		if w.Writes == writes {
			return true
		}
	}
	return false
}

func restOf(w *planworld.World) string {
	return rest(planworld.Get[*appsv1.DaemonSet](w, plan.DaemonSets, "agent"), planworld.List[*corev1.Pod](w, plan.Pods),
		planworld.List[*appsv1.ControllerRevision](w, plan.Revisions))
}

// rest describes what does not depend on time and chance.
func rest(set *appsv1.DaemonSet, pods []*corev1.Pod, revisions []*appsv1.ControllerRevision) string {
	status := set.Status
	if status.ObservedGeneration == set.Generation {
		status.ObservedGeneration = 0 // how often the spec was written is no matter
	}
	lines := []string{"status " + planworld.Text(&status)}
	byNode := map[string][]string{}
	for _, pod := range pods {
		node, _ := targetNode(pod)
		if len(pod.OwnerReferences) == 0 {
			node = pod.Name // it says nothing about the node
		}
		labels := fmt.Sprint(pod.Labels, " ", pod.Status.Phase, " ready ", len(pod.Status.Conditions) > 0, " owned ", len(pod.OwnerReferences))
		byNode[node] = append(byNode[node], labels)
	}
	for _, on := range byNode {
		slices.Sort(on)
		lines = append(lines, "node "+strings.Join(on, ", "))
	}
	for _, r := range revisions {
		lines = append(lines, fmt.Sprint("revision ", r.Name, " ", r.Revision, " ", r.Labels, " ", r.Annotations, " owned ", len(r.OwnerReferences), " ", string(r.Data.Raw)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// upstream is a fake API server with the controller of Kubernetes.
type upstream struct {
	t       *testing.T
	client  *fake.Clientset
	clock   *clocktesting.FakeClock
	mu      sync.Mutex
	version int
	// known are the nodes that the controller has heard of.
	known corelisters.NodeLister
	stop  func()
}

func newUpstream(t *testing.T, h randomHistory) *upstream {
	var objects []runtime.Object
	h.begin(func(_ schema.GroupVersionResource, object metav1.Object) {
		object = object.(runtime.Object).DeepCopyObject().(metav1.Object)
		object.SetGeneration(1)
		object.SetResourceVersion("1")
		objects = append(objects, object.(runtime.Object))
	})
	u := &upstream{t: t, client: fake.NewClientset(objects...), clock: clocktesting.NewFakeClock(epoch), version: 1}
	for _, verb := range []string{"create", "update"} {
		u.client.PrependReactor(verb, "*", u.serve)
	}
	ctx, cancel := context.WithCancel(t.Context())
	factory := informers.NewSharedInformerFactory(u.client, 0)
	apps, core := factory.Apps().V1(), factory.Core().V1()
	controller, err := daemon.NewDaemonSetsController(ctx, apps.DaemonSets(), apps.ControllerRevisions(), core.Pods(), core.Nodes(), u.client,
		flowcontrol.NewFakeBackOff(minBackoff, maxBackoff, u.clock))
	if err != nil {
		panic(err)
	}
	u.known = core.Nodes().Lister()
	wait := controllers.Run(ctx, factory, func(ctx context.Context) { controller.Run(ctx, 1) })
	u.stop = func() { cancel(); wait() }
	return u
}

// serve does what the registry does before it stores: names, versions, generations, conflicts.
func (u *upstream) serve(action clienttesting.Action) (bool, runtime.Object, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	object := action.(clienttesting.CreateAction).GetObject()
	accessor, err := meta.Accessor(object)
	if err != nil || action.GetResource().Resource == "events" {
		return false, nil, err
	}
	u.version++
	if action.GetVerb() == "create" {
		if accessor.GetName() == "" {
			accessor.SetName(accessor.GetGenerateName() + strconv.Itoa(u.version))
		}
		accessor.SetUID(types.UID("uid-" + strconv.Itoa(u.version)))
		accessor.SetCreationTimestamp(metav1.NewTime(u.clock.Now()))
		if pod, ok := object.(*corev1.Pod); ok {
			pod.Status.Phase = corev1.PodPending
		}
	} else if err := u.update(action, object, accessor); err != nil {
		return true, nil, err
	}
	accessor.SetResourceVersion(strconv.Itoa(u.version))
	return false, nil, nil
}

func (u *upstream) update(action clienttesting.Action, object runtime.Object, accessor metav1.Object) error {
	stored, err := u.client.Tracker().Get(action.GetResource(), accessor.GetNamespace(), accessor.GetName())
	if err != nil {
		return err
	}
	old, _ := meta.Accessor(stored)
	if old.GetResourceVersion() != accessor.GetResourceVersion() {
		return apierrors.NewConflict(schema.GroupResource{Resource: action.GetResource().Resource}, accessor.GetName(), fmt.Errorf("changed"))
	}
	if set, ok := object.(*appsv1.DaemonSet); ok && action.GetSubresource() == "" {
		before := stored.(*appsv1.DaemonSet)
		set.Status = before.Status
		if !reflect.DeepEqual(before.Spec, set.Spec) {
			set.Generation = before.Generation + 1
		}
	}
	return nil
}

// edit edits the world, as often as the controller gets in between.
func (u *upstream) edit(e edit, round int) {
	ctx := context.Background()
	for _, pod := range u.pods() {
		for e.editPod(pod, u.clock.Now()) {
			if _, err := u.client.CoreV1().Pods("default").Update(ctx, pod, metav1.UpdateOptions{}); err == nil {
				break
			}
			fresh, err := u.client.CoreV1().Pods("default").Get(ctx, pod.Name, metav1.GetOptions{})
			if err != nil {
				break
			}
			pod = fresh.DeepCopy()
		}
	}
	nodes, err := u.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		panic(err)
	}
	for _, node := range nodes.Items {
		if changed := node.DeepCopy(); e.editNode(changed) {
			updated, err := u.client.CoreV1().Nodes().Update(ctx, changed, metav1.UpdateOptions{})
			if err != nil {
				panic(err)
			}
			// A node that changes calls upstream's controller for pods that are on it alone, so the set, which is edited next,
			// has to be heard of later.
			u.awaitNode(updated)
		}
	}
	for {
		set, err := u.client.AppsV1().DaemonSets("default").Get(ctx, "agent", metav1.GetOptions{})
		if err != nil {
			panic(err)
		}
		set = set.DeepCopy()
		e.editSet(set, round)
		if _, err = u.client.AppsV1().DaemonSets("default").Update(ctx, set, metav1.UpdateOptions{}); err == nil {
			return
		}
	}
}

func (u *upstream) awaitNode(updated *corev1.Node) {
	ticker := time.NewTicker(restInterval)
	defer ticker.Stop()
	for began := time.Now(); time.Since(began) < restTimeout; <-ticker.C {
		if node, err := u.known.Get(updated.Name); err == nil && node.ResourceVersion == updated.ResourceVersion {
			return
		}
	}
	u.t.Errorf("the controller of Kubernetes has not heard of node %s after %v", updated.Name, restTimeout)
}

// pods are copied while they are listed: the tracker hands out what it stores.
func (u *upstream) pods() []*corev1.Pod {
	list, err := u.client.Tracker().List(plan.Pods, corev1.SchemeGroupVersion.WithKind("Pod"), "default")
	if err != nil {
		panic(err)
	}
	var pods []*corev1.Pod
	for _, pod := range list.DeepCopyObject().(*corev1.PodList).Items {
		pods = append(pods, &pod)
	}
	return pods
}

func (u *upstream) rest() string {
	ctx := context.Background()
	set, err := u.client.AppsV1().DaemonSets("default").Get(ctx, "agent", metav1.GetOptions{})
	if err != nil {
		panic(err)
	}
	list, err := u.client.AppsV1().ControllerRevisions("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		panic(err)
	}
	var revisions []*appsv1.ControllerRevision
	for i := range list.Items {
		revisions = append(revisions, &list.Items[i])
	}
	return rest(set, u.pods(), revisions)
}

const (
	// quietTime is for how long both must be the same, longer than a few retries.
	quietTime = 400 * time.Millisecond
	// restInterval is how often the wait for that looks, restTimeout how long.
	restInterval = 20 * time.Millisecond
	restTimeout  = 30 * time.Second
)

// await waits until upstream has come to a rest, and returns how it differs from it in the end.
func (u *upstream) await(want string) string {
	ticker := time.NewTicker(restInterval)
	defer ticker.Stop()
	began := time.Now()
	for same := began; ; <-ticker.C {
		got := u.rest()
		now := time.Now()
		switch {
		case got == want && now.Sub(same) >= quietTime:
			return ""
		case got != want && now.Sub(began) > restTimeout:
			return cmp.Diff(strings.Split(got, "\n"), strings.Split(want, "\n"))
		case got != want:
			same = now
		}
	}
}
