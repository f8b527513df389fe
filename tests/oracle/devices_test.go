package oracle_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/informers"
	resourceinformers "k8s.io/client-go/informers/resource/v1"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	clientcache "k8s.io/client-go/tools/cache"
	resourceslicetracker "k8s.io/dynamic-resource-allocation/resourceslice/tracker"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/dynamicresources"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/feature"
	"k8s.io/kubernetes/pkg/scheduler/util/assumecache"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/scheduling"
)

// rack is what a cluster has of devices.
type rack struct {
	claims  map[types.NamespacedName]*resourceapi.ResourceClaim
	classes []*resourceapi.DeviceClass
	slices  []*resourceapi.ResourceSlice
	rules   []*resourceapi.DeviceTaintRule
}

// tell gives a rack to the core.
func (r *rack) tell(c *scheduling.Cluster) {
	for _, o := range r.claims {
		c.SetResourceClaim(o)
	}
	for _, o := range r.slices {
		c.SetResourceSlice(o)
	}
	for _, o := range r.classes {
		c.SetDeviceClass(o)
	}
	for _, o := range r.rules {
		c.SetDeviceTaintRule(o)
	}
}

// test is what testing.T and rapid.T have in common.
type test interface {
	Context() context.Context
	Fatal(args ...any)
}

// manager is what upstream's plugins ask about devices. Informers here do not run: what they have is delivered at once.
func (r *rack) manager(t test, factory informers.SharedInformerFactory) fwk.SharedDRAManager {
	resources := factory.Resource().V1()
	put := func(store clientcache.Store, obj any) {
		if err := store.Add(obj); err != nil {
			t.Fatal(err)
		}
	}
	tracked := primed{resources.ResourceSlices()}
	for _, o := range r.slices {
		put(resources.ResourceSlices().Informer().GetStore(), o)
	}
	for _, o := range r.rules {
		put(resources.DeviceTaintRules().Informer().GetStore(), o)
	}
	for _, o := range r.classes {
		put(resources.DeviceClasses().Informer().GetStore(), o)
	}
	tracker, err := resourceslicetracker.StartTracker(t.Context(), resourceslicetracker.Options{
		EnableDeviceTaintRules: true, EnableConsumableCapacity: true, SliceInformer: tracked, TaintInformer: resources.DeviceTaintRules(),
	})
	if err != nil {
		t.Fatal(err)
	}
	manager := dynamicresources.NewDRAManager(t.Context(), assumecache.NewAssumeCache(klog.Background(), r, "ResourceClaim", "", nil), tracker, factory)
	backing := manager.DeviceClassResolver().(clientcache.ResourceEventHandler)
	for _, o := range r.classes {
		backing.OnAdd(o, true)
	}
	return manager
}

// AddEventHandler delivers the claims to upstream's cache.
func (r *rack) AddEventHandler(handler clientcache.ResourceEventHandler) (clientcache.ResourceEventHandlerRegistration, error) {
	for _, claim := range r.claims {
		handler.OnAdd(claim, true)
	}
	return synced{}, nil
}

// primed are ResourceSlices that are delivered to whoever wants to hear of them.
type primed struct {
	resourceinformers.TypedResourceSliceInformer
}

type primedInformer struct {
	resourceinformers.ResourceSliceIndexInformer
}

func (p primed) TypedInformer() resourceinformers.ResourceSliceIndexInformer {
	return primedInformer{p.TypedResourceSliceInformer.TypedInformer()}
}

func (p primedInformer) AddTypedEventHandler(
	handler clientcache.TypedResourceEventHandler[*resourceapi.ResourceSlice], _ ...clientcache.HandlerOptions,
) (clientcache.ResourceEventHandlerRegistration, error) {
	for _, obj := range p.GetIndexer().List() {
		handler.OnAdd(obj.(*resourceapi.ResourceSlice), true)
	}
	return synced{}, nil
}

// synced is the registration of a handler that has got everything.
type synced struct{}

func (synced) HasSynced() bool                           { return true }
func (synced) HasSyncedChecker() clientcache.DoneChecker { return synced{} }
func (synced) Name() string                              { return "synced" }
func (synced) Done() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}

// take does what a placement writes. Upstream goes by the clock: what was allocated just now has not taken too long.
func (r *rack) take(placed scheduling.Placement) {
	for _, use := range placed.Devices {
		claim := use.After.DeepCopy()
		if use.Before != use.After {
			claim.Status.Allocation.AllocationTimestamp = new(metav1.NewTime(yetToCome))
		}
		r.claims[types.NamespacedName{Namespace: claim.Namespace, Name: claim.Name}] = claim
	}
}

// writes are what upstream's plugin has written.
type writes struct {
	claims   map[string]*resourceapi.ResourceClaim
	gone     []string
	mappings []corev1.ContainerExtendedResourceRequest
}

// recording is a client that takes whatever is written about claims, and says what.
func recording() (*fake.Clientset, *writes) {
	client, w := fake.NewClientset(), &writes{claims: map[string]*resourceapi.ResourceClaim{}}
	client.PrependReactor("update", "resourceclaims", func(action clienttesting.Action) (bool, runtime.Object, error) {
		claim := action.(clienttesting.UpdateAction).GetObject().(*resourceapi.ResourceClaim)
		w.claims[claim.Name] = claim
		return true, claim, nil
	})
	client.PrependReactor("create", "resourceclaims", func(action clienttesting.Action) (bool, runtime.Object, error) {
		claim := action.(clienttesting.CreateAction).GetObject().(*resourceapi.ResourceClaim).DeepCopy()
		claim.Name = claim.GenerateName
		w.claims[claim.Name] = claim
		return true, claim, nil
	})
	client.PrependReactor("delete", "resourceclaims", func(action clienttesting.Action) (bool, runtime.Object, error) {
		w.gone = append(w.gone, action.(clienttesting.DeleteAction).GetName())
		return true, nil, nil
	})
	client.PrependReactor("patch", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		pod := &corev1.Pod{}
		err := json.Unmarshal(action.(clienttesting.PatchAction).GetPatch(), pod)
		if pod.Status.ExtendedResourceClaimStatus != nil {
			w.mappings = pod.Status.ExtendedResourceClaimStatus.RequestMappings
		}
		return true, pod, err
	})
	return client, w
}

// anew is a framework that a plugin is made of once more.
type anew struct{ framework.Framework }

func (anew) ProfileName() string { return "anew" }

// checkAllocation compares what a placement writes for its claims with what upstream's plugin does.
func (u *upstream) checkAllocation(t *rapid.T, placed scheduling.Placement) {
	pl, err := dynamicresources.New(t.Context(), &schedulerconfig.DynamicResourcesArgs{}, anew{u.framework}, feature.NewSchedulerFeaturesFromGates(utilfeature.DefaultFeatureGate))
	if err != nil {
		t.Fatal(err)
	}
	plugin := pl.(*dynamicresources.DynamicResources)
	node, err := u.snapshot.NodeInfos().Get(placed.Node)
	if err != nil {
		t.Fatal(err)
	}
	over, end := context.WithCancel(t.Context())
	end() // it writes, and does not wait
	state := framework.NewCycleState()
	_, status := plugin.PreFilter(t.Context(), state, placed.Pod, nil)
	if status.IsSkip() {
		if len(placed.Devices) > 0 {
			t.Fatalf("pod %s uses claims for devices, and upstream says that it has none", placed.Pod.Name)
		}
		return
	}
	if !status.IsSuccess() {
		t.Fatalf("pod %s: upstream says %v", placed.Pod.Name, status)
	}
	if status = plugin.Filter(t.Context(), state, placed.Pod, node); !status.IsSuccess() {
		t.Fatalf("pod %s on %s: upstream says %v", placed.Pod.Name, placed.Node, status)
	}
	if status = plugin.Reserve(t.Context(), state, placed.Pod, placed.Node); !status.IsSuccess() {
		t.Fatalf("pod %s on %s: upstream cannot reserve: %v", placed.Pod.Name, placed.Node, status)
	}
	bound := plugin.PreBind(over, state, placed.Pod, placed.Node)
	waits := !bound.IsSuccess()
	// A claim that it has made does not come back to it here, so that it cannot look whether that one's devices are ready.
	lost := strings.Contains(bound.Message(), "could not find ResourceClaim")
	want, got := map[string]*resourceapi.ResourceClaim{}, map[string]*resourceapi.ResourceClaim{}
	for name, claim := range u.written.claims {
		want[name] = timeless(claim)
	}
	for _, use := range placed.Devices {
		if use.Before == use.After {
			continue
		}
		claim := timeless(use.After)
		if use.Before == nil {
			claim.Name = claim.GenerateName
		}
		got[claim.Name] = claim
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("pod %s on %s writes (-upstream +core):\n%s", placed.Pod.Name, placed.Node, diff)
	}
	if waits != placed.AwaitsDrivers && !lost {
		t.Fatalf("pod %s on %s: upstream waits for devices is %v, and the core %v", placed.Pod.Name, placed.Node, waits, placed.AwaitsDrivers)
	}
	var mappings []corev1.ContainerExtendedResourceRequest
	if placed.ExtendedClaim != nil {
		mappings = placed.ExtendedClaim.RequestMappings
	}
	if diff := cmp.Diff(u.written.mappings, mappings, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("pod %s on %s maps (-upstream +core):\n%s", placed.Pod.Name, placed.Node, diff)
	}
}

// timeless is a claim without what upstream makes of the time and of chance.
func timeless(claim *resourceapi.ResourceClaim) *resourceapi.ResourceClaim {
	claim = claim.DeepCopy()
	claim.UID = ""
	if allocated := claim.Status.Allocation; allocated != nil {
		if allocated.AllocationTimestamp != nil {
			allocated.AllocationTimestamp = &metav1.Time{}
		}
		for i := range allocated.Devices.Results {
			if r := &allocated.Devices.Results[i]; r.ShareID != nil {
				r.ShareID = new(types.UID(fmt.Sprint(i)))
			}
		}
	}
	return claim
}

// awake counts the pods that are looked at at all.
func (u *upstream) awake(t *rapid.T, pods []*corev1.Pod) (n int) {
	for _, pod := range pods {
		held := slices.ContainsFunc(u.framework.PreEnqueuePlugins(), func(p fwk.PreEnqueuePlugin) bool { return !p.PreEnqueue(t.Context(), pod).IsSuccess() })
		if !held && pod.DeletionTimestamp == nil {
			n++
		}
	}
	return n
}

// checkFault compares an error with those that upstream comes to, of which it takes any.
func (u *upstream) checkFault(t *rapid.T, pod *corev1.Pod, message string) {
	if !slices.Contains(u.faults, message) {
		t.Fatalf("pod %s: upstream fails with one of %q, the core says %q", pod.Name, u.faults, message)
	}
}

// ofDevices begins the errors of the plugin.
const ofDevices = `running "DynamicResources" filter plugin: `

// settled is a message without the errors that preemption came to, of which upstream tells some, in any order.
func (u *upstream) settled(message string) string {
	if !u.broken {
		return message
	}
	before, _, _ := strings.Cut(message, ofDevices)
	return strings.TrimSuffix(before, "[")
}

// checkRelease compares the claim that is given back for a pod with those that upstream may give back, of which it takes any.
func (u *upstream) checkRelease(t *rapid.T, pod *corev1.Pod, release *scheduling.Release) {
	given := slices.Sorted(maps.Keys(u.written.claims))
	if len(given) == 0 && len(u.written.gone) == 0 {
		if release != nil {
			t.Fatalf("pod %s has %s given back, and upstream nothing", pod.Name, release.Claim.Name)
		}
		return
	}
	if release == nil || release.Goes != (len(u.written.gone) > 0) {
		t.Fatalf("pod %s has %v given back; upstream gives %v and has %v go", pod.Name, release, given, u.written.gone)
	}
	if release.Goes && u.written.gone[0] != release.Claim.Name {
		t.Fatalf("pod %s has %s go, upstream %v", pod.Name, release.Claim.Name, u.written.gone)
	}
}

// TestDevicesAreHadAsUpstreamHasThem looks at clusters where little else matters.
func TestDevicesAreHadAsUpstreamHasThem(t *testing.T) {
	manyChecks(t)
	seen := newCoverage()
	rapid.Check(t, func(t *rapid.T) {
		of := theme{roomy: true, free: rapid.IntRange(0, 3).Draw(t, "with taints") > 0, alone: true}
		nodes, assigned, pending := anyClusterOf(t, of, 5)
		r := &replay{nodes: nodes, assigned: assigned, pending: pending, groups: anyGrouping(t), devices: fullRack(t, nodes, pending)}
		r.checkEvaluation(t, seen)
		r.seen = seen
		r.checkQueue(t)
	})
	t.Logf("figure: nodes rejected by %v, decisions in which one was preferred by %v, reasons about devices %v, what pods got %v",
		seen.rejected, seen.preferred, seen.devices, seen.got)
	for _, reason := range deviceReasons {
		if seen.devices[reason] == 0 {
			t.Errorf("nobody ever said of devices %q", reason)
		}
	}
	for _, kind := range allocations {
		if seen.got[kind] == 0 {
			t.Errorf("no pod ever got %s", kind)
		}
	}
}

// allocations are kinds of devices that some pod must get.
var allocations = []string{
	"a device", "a device that others share", "a look at a device", "an alternative", "a device with counters", "a device of several nodes",
	"a device that is made ready", "a device for extended resources", "a claim that is allocated", "a claim of another pod's run",
}

// get counts what a placement gives.
func (c *coverage) get(r *rack, placed scheduling.Placement) {
	if c == nil {
		return
	}
	for _, use := range placed.Devices {
		claim := use.After
		switch {
		case use.Before == nil:
			c.got["a device for extended resources"]++
		case use.Before.Status.Allocation != nil && len(claim.Status.ReservedFor) > 1 && claim.Status.ReservedFor[0].UID != "other-0":
			c.got["a claim of another pod's run"]++
		case use.Before.Status.Allocation != nil:
			c.got["a claim that is allocated"]++
		}
		if placed.AwaitsDrivers {
			c.got["a device that is made ready"]++
		}
		for _, result := range claim.Status.Allocation.Devices.Results {
			c.got["a device"]++
			if result.ShareID != nil {
				c.got["a device that others share"]++
			}
			if result.AdminAccess != nil {
				c.got["a look at a device"]++
			}
			if strings.Contains(result.Request, "/") {
				c.got["an alternative"]++
			}
			if r.counts(result) {
				c.got["a device with counters"]++
			}
			if slices.Contains([]string{"zone-x", "all", "mixed"}, result.Pool) {
				c.got["a device of several nodes"]++
			}
		}
	}
}

// counts reports whether a device consumes counters.
func (r *rack) counts(result resourceapi.DeviceRequestAllocationResult) bool {
	return slices.ContainsFunc(r.slices, func(s *resourceapi.ResourceSlice) bool {
		return s.Spec.Driver == result.Driver && s.Spec.Pool.Name == result.Pool && slices.ContainsFunc(s.Spec.Devices, func(d resourceapi.Device) bool {
			return d.Name == result.Device && len(d.ConsumesCounters) > 0
		})
	})
}

// deviceReasons are what the plugin says that must be seen.
var deviceReasons = []string{
	"resourceclaim not available on the node", "cannot allocate all claims", "does not exist", "could not find ResourceClaim",
	"is being deleted", "ResourceClaim not created yet", "was not created for Pod", "invalid resource pools were encountered",
	"cannot schedule extended resource claim",
	"CEL compile error", "CEL runtime error", "is currently being updated", "is currently invalid",
	"deallocation of ResourceClaim completed", "deletion of ResourceClaim completed",
}

// note counts the reasons about devices.
func (c *coverage) note(message string) {
	if c == nil {
		return
	}
	for _, reason := range deviceReasons {
		if strings.Contains(message, reason) {
			c.devices[reason]++
		}
	}
}
