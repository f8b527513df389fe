package endpoints_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/endpoint"
	"k8s.io/kubernetes/pkg/controller/endpointslice"
	"k8s.io/kubernetes/pkg/controller/endpointslicemirroring"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/endpoints"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/tests/oracle/endpoints/world"
)

const (
	// together is for how long upstream gathers changes of pods.
	together = time.Second
	// rest is by when upstream has given up whatever fails: its pauses are up to 1,000 s, 15 times.
	rest = 5 * time.Hour
)

func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard())
	utilruntime.ErrorHandlers = nil
	os.Exit(m.Run())
}

// upstreams are upstream's controllers and what they work on.
type upstreams struct {
	client  *fake.Clientset
	tracker clienttesting.ObjectTracker
	version atomic.Int64
	stop    func()
}

// start runs the controllers, with the defaults of kube-controller-manager's flags.
func start() *upstreams {
	u := &upstreams{client: fake.NewSimpleClientset()}
	u.tracker = u.client.Tracker()
	u.version.Store(1_000_000)
	u.client.PrependReactor("create", "*", u.create)
	u.client.PrependReactor("update", "*", u.update)
	ctx, cancel := context.WithCancel(context.Background())
	f := informers.NewSharedInformerFactory(u.client, 0)
	pods, svcs, nodes := f.Core().V1().Pods(), f.Core().V1().Services(), f.Core().V1().Nodes()
	objects, parts := f.Core().V1().Endpoints(), f.Discovery().V1().EndpointSlices()
	sliceController := endpointslice.NewController(ctx, pods, svcs, nodes, parts, 100, u.client, together)
	objectController := endpoint.NewEndpointController(ctx, pods, svcs, objects, u.client, together)
	mirrorController := endpointslicemirroring.NewController(ctx, objects, parts, svcs, 1000, u.client, together)
	f.Start(ctx.Done())
	f.WaitForCacheSync(ctx.Done())
	var wg sync.WaitGroup
	wg.Go(func() { sliceController.Run(ctx, 1) })
	wg.Go(func() { objectController.Run(ctx, 1) })
	wg.Go(func() { mirrorController.Run(ctx, 1) })
	u.stop = func() {
		cancel()
		wg.Wait()
		f.Shutdown()
	}
	return u
}

func (u *upstreams) next() string { return strconv.FormatInt(u.version.Add(1), 10) }

// create stores a new object as the API server would.
func (u *upstreams) create(action clienttesting.Action) (bool, runtime.Object, error) {
	a := action.(clienttesting.CreateAction)
	obj := a.GetObject().DeepCopyObject()
	m, err := meta.Accessor(obj)
	if err != nil {
		return true, nil, err
	}
	version := u.next()
	m.SetResourceVersion(version)
	m.SetUID(types.UID("upstream-" + version))
	m.SetGeneration(1)
	if m.GetName() == "" {
		m.SetName(m.GetGenerateName() + version)
	}
	if err := u.tracker.Create(a.GetResource(), obj, a.GetNamespace()); err != nil {
		return true, nil, err
	}
	return true, obj, nil
}

// update replaces an object as the API server would: what changes nothing is not written.
func (u *upstreams) update(action clienttesting.Action) (bool, runtime.Object, error) {
	a := action.(clienttesting.UpdateAction)
	obj := a.GetObject().DeepCopyObject()
	m, err := meta.Accessor(obj)
	if err != nil {
		return true, nil, err
	}
	old, err := u.tracker.Get(a.GetResource(), a.GetNamespace(), m.GetName())
	if err != nil {
		return true, nil, err
	}
	before, err := meta.Accessor(old)
	if err != nil {
		return true, nil, err
	}
	m.SetUID(before.GetUID())
	m.SetGenerateName(before.GetGenerateName())
	m.SetCreationTimestamp(before.GetCreationTimestamp())
	m.SetGeneration(before.GetGeneration())
	m.SetResourceVersion(before.GetResourceVersion())
	if apiequality.Semantic.DeepEqual(old, obj) {
		return true, old, nil
	}
	m.SetGeneration(before.GetGeneration() + 1)
	m.SetResourceVersion(u.next())
	if err := u.tracker.Update(a.GetResource(), obj, a.GetNamespace()); err != nil {
		return true, nil, err
	}
	return true, obj, nil
}

func resourceOf(obj runtime.Object) schema.GroupVersionResource {
	switch obj.(type) {
	case *corev1.Service:
		return plan.Services
	case *corev1.Pod:
		return plan.Pods
	case *corev1.Node:
		return plan.Nodes
	case *endpoints.Endpoints:
		return plan.Endpoints
	}
	panic(fmt.Sprintf("users do not write a %T", obj))
}

// does lets a user do the same as in a world.
func (u *upstreams) does(t *testing.T, c world.Change) {
	if c.After == nil {
		before := c.Before.(metav1.Object)
		err := u.tracker.Delete(resourceOf(c.Before), before.GetNamespace(), before.GetName())
		if err != nil && !apierrors.IsNotFound(err) { // a controller may have done it before
			t.Fatal(err)
		}
		return
	}
	obj := c.After.DeepCopyObject()
	m := obj.(metav1.Object)
	gvr := resourceOf(obj)
	old, err := u.tracker.Get(gvr, m.GetNamespace(), m.GetName())
	m.SetResourceVersion(u.next())
	if err != nil {
		err = u.tracker.Create(gvr, obj, m.GetNamespace())
	} else {
		m.SetUID(old.(metav1.Object).GetUID())
		err = u.tracker.Update(gvr, obj, m.GetNamespace())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func list[T any](t *testing.T, u *upstreams, gvr schema.GroupVersionResource, kind string) []*T {
	all, err := u.tracker.List(gvr, gvr.GroupVersion().WithKind(kind), world.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	items, err := meta.ExtractList(all)
	if err != nil {
		t.Fatal(err)
	}
	var out []*T
	for _, item := range items {
		out = append(out, any(item).(*T))
	}
	return out
}

func (u *upstreams) slices(t *testing.T) []*discoveryv1.EndpointSlice {
	return list[discoveryv1.EndpointSlice](t, u, plan.EndpointSlices, "EndpointSlice")
}

func (u *upstreams) objects(t *testing.T) []*endpoints.Endpoints {
	return list[endpoints.Endpoints](t, u, plan.Endpoints, "Endpoints")
}

// settle waits until the controllers have come to rest, and lets each Service be looked at once more: not all that matters to a
// Service calls them.
func (u *upstreams) settle(t *testing.T) {
	time.Sleep(rest)
	synctest.Wait()
	u.collect(t)
	for _, svc := range list[corev1.Service](t, u, plan.Services, "Service") {
		svc = svc.DeepCopy()
		svc.ResourceVersion = u.next()
		if err := u.tracker.Update(plan.Services, svc, world.Namespace); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(rest)
	synctest.Wait()
	u.collect(t)
}

// collect deletes the slices whose owner is gone.
func (u *upstreams) collect(t *testing.T) {
	owners := map[types.UID]bool{}
	for _, svc := range list[corev1.Service](t, u, plan.Services, "Service") {
		owners[svc.UID] = true
	}
	for _, e := range u.objects(t) {
		owners[e.UID] = true
	}
	for _, slice := range u.slices(t) {
		if !owners[slice.OwnerReferences[0].UID] {
			if err := u.tracker.Delete(plan.EndpointSlices, world.Namespace, slice.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// shown is all that the controllers keep. Hints by zones are left to the other test: they depend on the steps in between.
func shown(all []*discoveryv1.EndpointSlice, objects []*endpoints.Endpoints, zoned map[string]bool) map[string]string {
	out := map[string]string{}
	uids := map[types.UID]bool{}
	for _, e := range objects {
		out["endpoints "+e.Name] = shownObject(e)
		uids[e.UID] = true
	}
	byService := map[string][]*discoveryv1.EndpointSlice{}
	for _, slice := range all {
		name := slice.Labels[discoveryv1.LabelServiceName]
		if zoned[name] {
			slice = slice.DeepCopy()
			for i := range slice.Endpoints {
				slice.Endpoints[i].Hints = nil
			}
		}
		byService[name] = append(byService[name], slice)
	}
	for _, name := range slices.Sorted(maps.Keys(byService)) {
		out["slices of "+name] = shownSlices(byService[name], func(slice *discoveryv1.EndpointSlice) string {
			o := slice.OwnerReferences[0]
			if o.Kind == "Endpoints" {
				return fmt.Sprintf("Endpoints %s current=%t", o.Name, uids[o.UID])
			}
			return encoded(o)
		}, false)
	}
	return out
}

// step is what users do, and what there is when the core has settled after it.
type step struct {
	changes []world.Change
	zoned   map[string]bool
	settled map[string]string
}

// drawSteps changes a world at random.
func drawSteps(t *rapid.T) []step {
	w := world.New()
	var out []step
	for range rapid.IntRange(1, 6).Draw(t, "steps") {
		w.Step(t)
		s := step{changes: w.Log, zoned: map[string]bool{}}
		w.Log = nil
		if err := w.Settle(); err != nil {
			t.Fatal(err)
		}
		for name, svc := range w.Services {
			s.zoned[name] = endpoints.WantsZones(svc)
		}
		s.settled = shown(slices.Collect(maps.Values(w.Slices)), slices.Collect(maps.Values(w.Objects)), s.zoned)
		out = append(out, s)
	}
	return out
}

// follow lets users do the same to upstream's world, and returns how it settles otherwise.
func follow(t *testing.T, steps []step) string {
	u := start()
	defer u.stop()
	for i, s := range steps {
		for _, c := range s.changes {
			u.does(t, c)
			synctest.Wait() // it can be told of so much only before it looks
		}
		u.settle(t)
		if diff := cmp.Diff(shown(u.slices(t), u.objects(t), s.zoned), s.settled); diff != "" {
			return fmt.Sprintf("after step %d of %d:\n%s", i+1, len(steps), diff)
		}
	}
	return ""
}

// TestWorldsSettleAsUnderUpstreamsControllers changes a world at random, and lets users do the same to upstream's.
func TestWorldsSettleAsUnderUpstreamsControllers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := drawSteps(rt)
		var difference string
		synctest.Test(t, func(t *testing.T) { difference = follow(t, steps) })
		if difference != "" {
			rt.Fatalf("it settles otherwise (-upstream +ours) %s", difference)
		}
	})
}
