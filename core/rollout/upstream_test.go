package rollout

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/features"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podstate"
	"github.com/zeroplane/zeroplane/tests/controllers"
)

// TestControllersOfKubernetesComeToTheSameRest gives the same edits to Kubernetes's own Deployment and
// ReplicaSet controllers, over a fake API server, and to this package, and compares what is there
// each time both have come to rest.
func TestControllersOfKubernetesComeToTheSameRest(t *testing.T) {
	upstream, ours := newUpstream(t), newWorld()
	for _, edit := range []string{
		"image=v1", "image=v2", "replicas=5", "image=v1 annotate=kubernetes.io/change-cause:again", "image=bad", "image=bad replicas=8",
		"image=v2", "paused=true", "image=v3 replicas=3", "paused=false", "surge=0 unavailable=100% image=v4", "history=1",
		"rollback=0", "rollback=99", "min-ready=1", "min-ready=0 replicas=0", "replicas=4", "strategy=Recreate image=v5", "deadline=2147483647 image=v6", "replicas=1",
	} {
		change := func(d *appsv1.Deployment) {
			for field := range strings.FieldsSeq(edit) {
				key, value, _ := strings.Cut(field, "=")
				if err := configureOne(d, key, value); err != nil {
					t.Fatal(err)
				}
			}
		}
		upstream.edit(change)
		if ours.deployments["web"] == nil {
			d := newDeployment("web", 3)
			change(d)
			ours.putDeployment(d)
		} else {
			ours.edit("web", change)
		}
		if err := ours.settle(); err != nil {
			t.Fatal(err)
		}
		// Upstream waits for minReadySeconds by itself, but is not given the time for a deadline.
		for len(ours.later) > 0 && ours.later["deployments/web/progress"].Kind == "" {
			if err := wait(ours); err != nil {
				t.Fatal(err)
			}
		}
		want, got := upstream.rest(), rest(ours.deployments["web"], sorted(ours.sets), len(ours.pods))
		if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
			t.Fatalf("after %q (-upstream +ours):\n%s", edit, diff)
		}
		t.Logf("after %q both rest at\n%s", edit, got)
	}
}

// rest describes what does not depend on time and chance.
func rest(d *appsv1.Deployment, sets []*appsv1.ReplicaSet, pods int) string {
	text := strings.Builder{}
	status := *d.Status.DeepCopy()
	slices.SortFunc(status.Conditions, func(a, b appsv1.DeploymentCondition) int { return strings.Compare(string(a.Type), string(b.Type)) })
	for _, c := range status.Conditions {
		fmt.Fprintf(&text, "%s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	status.Conditions = nil
	fmt.Fprintf(&text, "%s\nannotations %v\nimage %s\n%d pods\n", encoded(status), d.Annotations, d.Spec.Template.Spec.Containers[0].Image, pods)
	slices.SortFunc(sets, func(a, b *appsv1.ReplicaSet) int { return strings.Compare(a.Name, b.Name) })
	for _, rs := range sets {
		rs = rs.DeepCopy()
		// How often the spec was written is chance.
		if rs.Status.ObservedGeneration == rs.Generation {
			rs.Status.ObservedGeneration = 0
		}
		fmt.Fprintf(&text, "%s size %d labels %v selector %v annotations %v status %s\n",
			rs.Name, sizeOf(rs), rs.Labels, rs.Spec.Selector.MatchLabels, rs.Annotations, encoded(rs.Status))
	}
	return text.String()
}

// upstream is a fake API server with the controllers of Kubernetes and a kubelet.
type upstream struct {
	t       *testing.T
	client  *fake.Clientset
	mu      sync.Mutex
	version int
}

func newUpstream(t *testing.T) *upstream {
	klog.SetLogger(klog.Logger{})
	t.Cleanup(klog.ClearLogger)
	// The fake server's deletes have no version, so a check that reads are as new as writes fails.
	featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, features.StaleControllerConsistencyReplicaSet, false)
	u := &upstream{t: t, client: fake.NewClientset()}
	for _, verb := range []string{"create", "update"} {
		u.client.PrependReactor(verb, "*", u.serve)
	}
	ctx, cancel := context.WithCancel(t.Context())
	factory := informers.NewSharedInformerFactory(u.client, 0)
	apps, pods := factory.Apps().V1(), factory.Core().V1().Pods()
	deployments, err := deployment.NewDeploymentController(ctx, apps.Deployments(), apps.ReplicaSets(), pods, u.client)
	if err != nil {
		t.Fatal(err)
	}
	replicaSets := replicaset.NewReplicaSetController(ctx, apps.ReplicaSets(), pods, u.client, replicaset.BurstReplicas)
	wait := controllers.Run(ctx, factory,
		func(ctx context.Context) { deployments.Run(ctx, 1) }, func(ctx context.Context) { replicaSets.Run(ctx, 1) }, u.kubelet)
	t.Cleanup(func() { cancel(); wait() })
	return u
}

// serve does what the registry does before it stores: names, versions, generations, conflicts.
func (u *upstream) serve(action clienttesting.Action) (bool, runtime.Object, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	object := action.(clienttesting.CreateAction).GetObject()
	accessor, err := meta.Accessor(object)
	if err != nil || action.GetResource().Group != "apps" && action.GetResource().Resource != "pods" {
		return false, nil, err
	}
	u.version++
	if action.GetVerb() == "create" {
		if accessor.GetName() == "" {
			accessor.SetName(accessor.GetGenerateName() + strconv.Itoa(u.version))
		}
		accessor.SetUID(types.UID("uid-" + strconv.Itoa(u.version)))
		accessor.SetCreationTimestamp(metav1.NewTime(epoch.Add(time.Duration(u.version) * time.Second)))
		accessor.SetGeneration(1)
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
	if old, _ := meta.Accessor(stored); old.GetResourceVersion() != accessor.GetResourceVersion() {
		return apierrors.NewConflict(schema.GroupResource{Resource: action.GetResource().Resource}, accessor.GetName(), fmt.Errorf("changed"))
	}
	if action.GetSubresource() != "" {
		return nil
	}
	switch object := object.(type) {
	case *appsv1.Deployment:
		old := stored.(*appsv1.Deployment)
		object.Status = old.Status
		if !apiequality.Semantic.DeepEqual(old.Spec, object.Spec) || !apiequality.Semantic.DeepEqual(old.Annotations, object.Annotations) {
			object.Generation = old.Generation + 1
		}
	case *appsv1.ReplicaSet:
		old := stored.(*appsv1.ReplicaSet)
		object.Status = old.Status
		if !apiequality.Semantic.DeepEqual(old.Spec, object.Spec) {
			object.Generation = old.Generation + 1
		}
	}
	return nil
}

// kubelet makes every pod ready whose image is not bad.
func (u *upstream) kubelet(ctx context.Context) {
	ticker := time.NewTicker(kubeletInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		for _, pod := range u.pods() {
			if pod.Spec.Containers[0].Image != "bad" && !podstate.IsReady(&pod) {
				pod.Status.Phase = corev1.PodRunning
				pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
				_, _ = u.client.CoreV1().Pods("default").UpdateStatus(ctx, &pod, metav1.UpdateOptions{})
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

func (u *upstream) pods() []corev1.Pod {
	// The copies are taken one by one: the tracker hands out what it stores.
	list, err := u.client.Tracker().List(plan.Pods, corev1.SchemeGroupVersion.WithKind("Pod"), "default")
	if err != nil {
		return nil
	}
	return list.DeepCopyObject().(*corev1.PodList).Items
}

// edit changes the Deployment, as often as controllers get in between.
func (u *upstream) edit(change func(*appsv1.Deployment)) {
	client := u.client.AppsV1().Deployments("default")
	for {
		d, err := client.Get(u.t.Context(), "web", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			d = newDeployment("web", 3)
			change(d)
			_, err = client.Create(u.t.Context(), d, metav1.CreateOptions{})
		} else if err == nil {
			change(d)
			_, err = client.Update(u.t.Context(), d, metav1.UpdateOptions{})
		}
		if err == nil {
			return
		}
		if !apierrors.IsConflict(err) {
			u.t.Fatal(err)
		}
	}
}

// quietTime is how long nothing may be written before the controllers count as at rest: longer than
// minReadySeconds of the test and than a few retries.
const quietTime = 1600 * time.Millisecond

const (
	// kubeletInterval and restInterval are how often the fake kubelet and the wait for rest look.
	kubeletInterval = 10 * time.Millisecond
	restInterval    = 20 * time.Millisecond
	// restTimeout bounds that wait.
	restTimeout = 2 * time.Minute
)

// rest waits until nothing changes any more.
func (u *upstream) rest() string {
	ticker := time.NewTicker(restInterval)
	defer ticker.Stop()
	began := time.Now()
	for before, since := -1, began; time.Since(since) < quietTime; <-ticker.C {
		if time.Since(began) > restTimeout {
			u.t.Fatalf("the controllers of Kubernetes still write after %v", restTimeout)
		}
		u.mu.Lock()
		now := u.version
		u.mu.Unlock()
		if now != before {
			before, since = now, time.Now()
		}
	}
	d, err := u.client.AppsV1().Deployments("default").Get(u.t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		u.t.Fatal(err)
	}
	list, err := u.client.AppsV1().ReplicaSets("default").List(u.t.Context(), metav1.ListOptions{})
	if err != nil {
		u.t.Fatal(err)
	}
	sets := map[string]*appsv1.ReplicaSet{}
	for i := range list.Items {
		sets[list.Items[i].Name] = &list.Items[i]
	}
	return rest(d, slices.Collect(maps.Values(sets)), len(u.pods()))
}
