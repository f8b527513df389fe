package scheduling_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/scheduling"
)

// using has a pod use a claim for devices.
func using(claims ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for _, name := range claims {
			p.Spec.ResourceClaims = append(p.Spec.ResourceClaims, corev1.PodResourceClaim{Name: name, ResourceClaimName: &name})
		}
	}
}

// deviceClaim asks for one device of the class "gpu".
func deviceClaim(name string, change ...func(*resourceapi.ResourceClaim)) *resourceapi.ResourceClaim {
	claim := &resourceapi.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "4"},
		Spec:       resourceapi.ResourceClaimSpec{Devices: resourceapi.DeviceClaim{Requests: []resourceapi.DeviceRequest{{Name: "r", Exactly: exactly("gpu", 1)}}}},
	}
	for _, f := range change {
		f(claim)
	}
	return claim
}

func exactly(class string, count int64) *resourceapi.ExactDeviceRequest {
	return &resourceapi.ExactDeviceRequest{DeviceClassName: class, AllocationMode: resourceapi.DeviceAllocationModeExactCount, Count: count}
}

func forDevices(request *resourceapi.ExactDeviceRequest) func(*resourceapi.ResourceClaim) {
	return func(c *resourceapi.ResourceClaim) { c.Spec.Devices.Requests[0].Exactly = request }
}

// eitherOr asks for so many devices, or for one.
func eitherOr(count int64) func(*resourceapi.ResourceClaim) {
	return func(c *resourceapi.ResourceClaim) {
		sub := func(name string, count int64) resourceapi.DeviceSubRequest {
			return resourceapi.DeviceSubRequest{Name: name, DeviceClassName: "gpu", AllocationMode: resourceapi.DeviceAllocationModeExactCount, Count: count}
		}
		c.Spec.Devices.Requests[0] = resourceapi.DeviceRequest{Name: "r", FirstAvailable: []resourceapi.DeviceSubRequest{sub("many", count), sub("one", 1)}}
	}
}

// having is a claim that has a device of a node, and is reserved for pods.
func having(node, device string, pods ...string) func(*resourceapi.ResourceClaim) {
	return func(c *resourceapi.ResourceClaim) {
		c.Finalizers = []string{resourceapi.Finalizer}
		c.Status.Allocation = &resourceapi.AllocationResult{
			Devices: resourceapi.DeviceAllocationResult{Results: []resourceapi.DeviceRequestAllocationResult{
				{Request: "r", Driver: "d", Pool: node, Device: device},
			}},
			NodeSelector: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
				{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{node}},
			}}}},
			AllocationTimestamp: new(metav1.NewTime(now)),
		}
		for _, pod := range pods {
			c.Status.ReservedFor = append(c.Status.ReservedFor, resourceapi.ResourceClaimConsumerReference{Resource: "pods", Name: pod, UID: types.UID("uid-" + pod)})
		}
	}
}

// pool is the devices of a node, of the driver "d".
func pool(node string, devices ...resourceapi.Device) *resourceapi.ResourceSlice {
	return &resourceapi.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: node}, Spec: resourceapi.ResourceSliceSpec{
		Driver: "d", NodeName: &node, Pool: resourceapi.ResourcePool{Name: node, Generation: 1, ResourceSliceCount: 1}, Devices: devices,
	}}
}

func device(name string, change ...func(*resourceapi.Device)) resourceapi.Device {
	d := resourceapi.Device{Name: name}
	for _, f := range change {
		f(&d)
	}
	return d
}

func madeReady(d *resourceapi.Device) {
	d.BindingConditions, d.BindingFailureConditions, d.BindsToNode = []string{"ready"}, []string{"failed"}, new(true)
}

func deviceClass(name string, change ...func(*resourceapi.DeviceClass)) *resourceapi.DeviceClass {
	class := &resourceapi.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourceapi.DeviceClassSpec{
		Selectors: []resourceapi.DeviceSelector{{CEL: &resourceapi.CELDeviceSelector{Expression: `device.driver == "d"`}}},
	}}
	for _, f := range change {
		f(class)
	}
	return class
}

func TestDevicesDecideWhereAPodGoes(t *testing.T) {
	type claims = []*resourceapi.ResourceClaim
	helpless := " preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
	scarce := "0/2 nodes are available: 2 cannot allocate all claims." + helpless
	template := func(p *corev1.Pod) {
		p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "t", ResourceClaimTemplateName: new("template")}}
	}
	generated := func(p *corev1.Pod) {
		template(p)
		p.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "t", ResourceClaimName: new("c")}}
	}
	ownedByP := func(c *resourceapi.ResourceClaim) {
		c.OwnerReferences = []metav1.OwnerReference{{Kind: "Pod", Name: "p", UID: "uid-p", Controller: new(true)}}
	}
	everybody := make([]string, resourceapi.ResourceClaimReservedForMaxSize)
	for i := range everybody {
		everybody[i] = fmt.Sprintf("other-%d", i)
	}
	for what, c := range map[string]struct {
		pods   []*corev1.Pod
		claims claims
		rules  []*resourceapi.DeviceTaintRule
		want   map[string]string
	}{
		"a device is had once": {
			pods: []*corev1.Pod{pod("p", using("c1")), pod("q", using("c2")), pod("r", using("c3"))}, claims: claims{deviceClaim("c1"), deviceClaim("c2"), deviceClaim("c3")},
			want: map[string]string{"p": "b", "q": "b", "r": scarce},
		},
		"what others have is not free": {
			pods: []*corev1.Pod{pod("p", using("c"))}, claims: claims{deviceClaim("old1", having("b", "x")), deviceClaim("old2", having("b", "y")), deviceClaim("c")},
			want: map[string]string{"p": scarce},
		},
		"a claim that is shared is where its device is": {
			pods: []*corev1.Pod{pod("p", using("c")), pod("q", using("c"))}, claims: claims{deviceClaim("c")},
			want: map[string]string{"p": "b", "q": "b"},
		},
		"a pod that keeps to another node has the device given back": {
			pods: []*corev1.Pod{pod("p", using("c"), selecting("a"))}, claims: claims{deviceClaim("c", having("b", "x", "p"))},
			want: map[string]string{"p": "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 resourceclaim not available on the node. " +
				"deallocation of ResourceClaim completed," + helpless + " (c)"},
		},
		"but not if others use it": {
			pods: []*corev1.Pod{pod("p", using("c"), selecting("a"))}, claims: claims{deviceClaim("c", having("b", "x", "other"))},
			want: map[string]string{"p": "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 resourceclaim not available on the node." + helpless},
		},
		"no more than so many use one": {
			pods: []*corev1.Pod{pod("p", using("c"))}, claims: claims{deviceClaim("c", having("b", "x", everybody...))},
			want: map[string]string{"p": "0/2 nodes are available: resourceclaim in use." + helpless},
		},
		"a class that is missing is waited for": {
			pods: []*corev1.Pod{pod("p", using("c"))}, claims: claims{deviceClaim("c", forDevices(exactly("none", 1)))},
			want: map[string]string{"p": "0/2 nodes are available: request r: device class none does not exist." + helpless},
		},
		"nothing is said while a claim is missing": {pods: []*corev1.Pod{pod("p", using("c"))}, want: map[string]string{}},
		"nor while it is made of a template":       {pods: []*corev1.Pod{pod("p", template)}, want: map[string]string{}},
		"nor if it is another pod's":               {pods: []*corev1.Pod{pod("p", generated)}, claims: claims{deviceClaim("c")}, want: map[string]string{}},
		"one of a template is like others":         {pods: []*corev1.Pod{pod("p", generated)}, claims: claims{deviceClaim("c", ownedByP)}, want: map[string]string{"p": "b"}},
		"one that goes is not used": {
			pods: []*corev1.Pod{pod("p", using("c"))}, claims: claims{deviceClaim("c", func(c *resourceapi.ResourceClaim) { c.DeletionTimestamp = new(metav1.NewTime(now)) })},
			want: map[string]string{},
		},
		"a rule taints a device": {
			pods: []*corev1.Pod{pod("p", using("c")), pod("q", using("d"))}, claims: claims{deviceClaim("c"), deviceClaim("d")},
			rules: []*resourceapi.DeviceTaintRule{{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: resourceapi.DeviceTaintRuleSpec{
				DeviceSelector: &resourceapi.DeviceTaintSelector{Device: new("x")}, Taint: resourceapi.DeviceTaint{Key: "k", Effect: resourceapi.DeviceTaintEffectNoSchedule},
			}}},
			want: map[string]string{"p": "b", "q": scarce},
		},
		"a selector that makes no sense is an error": {
			pods: []*corev1.Pod{pod("p", using("c"))}, claims: claims{deviceClaim("c", forDevices(exactly("odd", 1)))},
			want: map[string]string{"p": `running "DynamicResources" filter plugin: class odd: selector #0 on device d/b/x: CEL runtime error: no such key: x. ` +
				"consider using CEL optional chaining (.? followed by orValue()) or guarding the check with has() for optional fields (an error)"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			odd := deviceClass("odd", func(c *resourceapi.DeviceClass) { c.Spec.Selectors[0].CEL.Expression = `device.attributes["d"].x == 1` })
			result := scheduling.Place(scheduling.Input{
				Nodes: []*corev1.Node{node("a"), node("b")}, Pods: c.pods, ResourceClaims: c.claims, DeviceTaintRules: c.rules,
				ResourceSlices: []*resourceapi.ResourceSlice{pool("b", device("x"), device("y"))},
				DeviceClasses:  []*resourceapi.DeviceClass{deviceClass("gpu"), odd}, Seed: 1, Now: now,
			})
			got := outcome(result)
			for _, failed := range result.Unschedulable {
				if failed.Release != nil {
					got[failed.Pod.Name] += " (" + failed.Release.Claim.Name + ")"
				}
				if failed.Fault {
					got[failed.Pod.Name] += " (an error)"
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheEarlierAlternativeIsWorthMore(t *testing.T) {
	result := scheduling.Place(scheduling.Input{
		Nodes: []*corev1.Node{node("a", offering("cpu=8")), node("b")}, Pods: []*corev1.Pod{pod("p", using("c"), asking("cpu=2"))},
		ResourceClaims: []*resourceapi.ResourceClaim{deviceClaim("c", eitherOr(2))}, DeviceClasses: []*resourceapi.DeviceClass{deviceClass("gpu")},
		ResourceSlices: []*resourceapi.ResourceSlice{pool("a", device("x")), pool("b", device("x"), device("y"))}, Seed: 1, Now: now,
	})
	if got := outcome(result); got["p"] != "b" {
		t.Errorf("the pod goes to %v, where fewer devices are", got)
	}
}

// TestAllocationReservationAndBindingAreOnePlan whose first write is on the version that was read, and which reads what claims
// have.
func TestAllocationReservationAndBindingAreOnePlan(t *testing.T) {
	claim := deviceClaim("c")
	got := scheduling.Place(scheduling.Input{
		Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{pod("p", using("c")), pod("q", using("c"))}, ResourceClaims: []*resourceapi.ResourceClaim{claim},
		DeviceClasses: []*resourceapi.DeviceClass{deviceClass("gpu")}, ResourceSlices: []*resourceapi.ResourceSlice{pool("a", device("x"))}, Seed: 1, Now: now,
	}).Plan
	held := deviceClaim("c")
	held.Finalizers = []string{resourceapi.Finalizer}
	allocated := deviceClaim("c", having("a", "x", "p", "q"))
	allocated.ResourceVersion = ""
	want := []plan.Write{
		{Verb: plan.Update, Resource: plan.ResourceClaims, Namespace: "default", Name: "c", Object: held, UID: "uid-c", ResourceVersion: "4", Reason: "it gets devices"},
		{Verb: plan.UpdateStatus, Resource: plan.ResourceClaims, Namespace: "default", Name: "c", Object: allocated, UID: "uid-c", Reason: "pod q uses it"},
	}
	if diff := cmp.Diff(want, got.Writes[:2]); diff != "" || len(got.Writes) != 4 || got.Writes[2].Verb != plan.Bind || got.Writes[3].Verb != plan.Bind {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	for _, read := range []plan.Read{
		{Resource: plan.ResourceClaims, Namespace: "default", Name: "c"}, {Resource: plan.ResourceClaims, Allocated: true},
	} {
		if !slices.Contains(got.Reads, read) {
			t.Errorf("%+v is not read", read)
		}
	}
	if claim.Status.Allocation != nil {
		t.Error("the claim that was given was changed")
	}
}

// TestAPodWaitsForItsDevices until the driver has made them ready; if it fails or takes too long the devices are given back.
func TestAPodWaitsForItsDevices(t *testing.T) {
	c := scheduling.NewCluster()
	c.SetNode(node("a"))
	c.SetNode(node("b"))
	c.SetDeviceClass(deviceClass("gpu"))
	c.SetResourceSlice(pool("a", device("x", madeReady)))
	c.SetResourceClaim(deviceClaim("c"))
	p := pod("p", using("c"), asking("cpu=4"))
	c.SetPod(p)

	// 1. The claim is allocated, and the pod is told its node.
	first := c.Place(1, now)
	if len(first.Placements) != 1 || !first.Placements[0].Waits || len(first.Plan.Later) != 1 || !first.Plan.Later[0].At.Equal(now.Add(10*time.Minute+time.Second)) {
		t.Fatalf("first: %+v", first)
	}
	if n := first.Plan.Notices; len(n) != 1 || n[0].Message != "waiting for binding conditions for device on node a" {
		t.Errorf("notices: %+v", n)
	}
	for _, w := range first.Plan.Writes {
		switch o := w.Object.(type) {
		case *resourceapi.ResourceClaim:
			c.SetResourceClaim(o)
		case *corev1.Pod:
			p = o
			c.SetPod(o)
		}
	}
	if p.Status.NominatedNodeName != "a" {
		t.Errorf("the pod is told %q", p.Status.NominatedNodeName)
	}

	// 2. It keeps its room while nothing happens, and nothing is written.
	c.SetPod(pod("q", asking("cpu=4"), prioritized(9)))
	if got := c.Place(1, now); outcome(got)["p"] != "a" || outcome(got)["q"] != "b" || len(got.Plan.Writes) != 1 {
		t.Errorf("while it waits: %v, %+v", outcome(got), got.Plan.Writes)
	}
	c.DeletePod("default", "q")
	if c.Place(1, now); !c.Settled(now) {
		t.Error("it is not settled while nothing is written")
	}
	if c.Settled(now.Add(10*time.Minute + time.Second)) {
		t.Error("it is settled though the driver took too long")
	}

	// 3. The driver says so, or not.
	said := func(kind string) *resourceapi.ResourceClaim {
		claim := c.Place(1, now).Placements[0].Devices[0].After.DeepCopy()
		claim.Status.Devices = []resourceapi.AllocatedDeviceStatus{{Driver: "d", Pool: "a", Device: "x", Conditions: []metav1.Condition{{Type: kind, Status: metav1.ConditionTrue}}}}
		return claim
	}
	ready, failed := said("ready"), said("failed")
	c.SetResourceClaim(failed)
	gone := "0/2 nodes are available: 2 resourceclaim not available on the node. deallocation of ResourceClaim completed, " +
		"preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
	if got := c.Place(1, now); outcome(got)["p"] != gone {
		t.Errorf("after a failure: %v", outcome(got))
	}
	late := ready.DeepCopy()
	late.Status.Devices = nil
	c.SetResourceClaim(late)
	if got := c.Place(1, now.Add(10*time.Minute+time.Second)); outcome(got)["p"] != gone || got.Unschedulable[0].Release == nil {
		t.Errorf("after ten minutes: %v", outcome(got))
	}
	c.SetResourceClaim(ready)
	last := c.Place(1, now).Plan
	if len(last.Writes) != 1 || last.Writes[0].Verb != plan.Bind || last.Writes[0].Node != "a" || len(last.Later) != 0 {
		t.Errorf("the last plan is %+v", last)
	}
}

// TestExtendedResourcesAreHadByDevices where the node does not offer them itself.
func TestExtendedResourcesAreHadByDevices(t *testing.T) {
	class := deviceClass("gpu", func(c *resourceapi.DeviceClass) { c.Spec.ExtendedResourceName = new("example.com/gpu") })
	in := scheduling.Input{
		Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{pod("p", asking("example.com/gpu=2"))}, DeviceClasses: []*resourceapi.DeviceClass{class},
		ResourceSlices: []*resourceapi.ResourceSlice{pool("a", device("x"), device("y"))}, Seed: 1, Now: now,
	}
	result := scheduling.Place(in)
	if len(result.Placements) != 1 {
		t.Fatalf("%v", outcome(result))
	}
	var verbs []plan.Verb
	for _, w := range result.Plan.Writes {
		verbs = append(verbs, w.Verb)
	}
	if diff := cmp.Diff([]plan.Verb{plan.Create, plan.UpdateStatus, plan.UpdateStatus, plan.Bind}, verbs); diff != "" {
		t.Fatalf("verbs (-want +got):\n%s", diff)
	}
	made, told := result.Plan.Writes[0].Object.(*resourceapi.ResourceClaim), result.Plan.Writes[2].Object.(*corev1.Pod)
	want := &corev1.PodExtendedResourceClaimStatus{ResourceClaimName: made.Name, RequestMappings: []corev1.ContainerExtendedResourceRequest{
		{ContainerName: "main", ResourceName: "example.com/gpu", RequestName: "container-0-request-0"},
	}}
	if diff := cmp.Diff(want, told.Status.ExtendedResourceClaimStatus); diff != "" {
		t.Errorf("the pod is told (-want +got):\n%s", diff)
	}
	if r := made.Spec.Devices.Requests; len(r) != 1 || r[0].Exactly.Count != 2 || made.Status.Allocation != nil {
		t.Errorf("the claim is made as %+v", made)
	}
	again := scheduling.Place(in).Plan.Writes[0].Name
	in.Seed++
	if other := scheduling.Place(in).Plan.Writes[0].Name; again != made.Name || other == made.Name {
		t.Errorf("names: %s, the same again %s, of another seed %s", made.Name, again, other)
	}

	// A node that offers them itself needs no claim, and one without devices lacks them.
	in.Nodes = []*corev1.Node{node("a", offering("example.com/gpu=2"))}
	if got := scheduling.Place(in).Plan.Writes; len(got) != 1 || got[0].Verb != plan.Bind {
		t.Errorf("on a node that offers them: %+v", got)
	}
	in.Nodes = []*corev1.Node{node("b")}
	if got := outcome(scheduling.Place(in))["p"]; got != "0/1 nodes are available: 1 cannot allocate all claims. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling." {
		t.Error(got)
	}
	in.DeviceClasses = nil
	if got := outcome(scheduling.Place(in))["p"]; got != "0/1 nodes are available: 1 Insufficient example.com/gpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling." {
		t.Error(got)
	}
}

// TestDevicesAreScoredAsTheResourcesThatTheyBack packs pods on nodes by their devices, or spreads them.
func TestDevicesAreScoredAsTheResourcesThatTheyBack(t *testing.T) {
	for strategy, wantNodes := range map[scheduling.Strategy]int{scheduling.MostAllocated: 1, scheduling.LeastAllocated: 2} {
		for seed := range uint64(8) {
			profile := scheduling.DefaultProfile()
			profile.Weights = map[string]int64{scheduling.NodeResourcesFit: 1}
			profile.Fit = scheduling.Scoring{Strategy: strategy, Resources: []scheduling.WeightedResource{{Name: "example.com/gpu", Weight: 1}}}
			c := scheduling.NewCluster(profile)
			c.SetDeviceClass(deviceClass("gpu", func(c *resourceapi.DeviceClass) { c.Spec.ExtendedResourceName = new("example.com/gpu") }))
			for _, name := range []string{"a", "b"} {
				c.SetNode(node(name))
				c.SetResourceSlice(pool(name, device("x"), device("y")))
			}
			for _, name := range []string{"p", "q"} {
				c.SetPod(pod(name, asking("example.com/gpu=1")))
			}
			went := map[string]bool{}
			for _, placed := range c.Place(seed, now).Placements {
				went[placed.Node] = true
			}
			if len(went) != wantNodes {
				t.Errorf("%s, seed %d: two pods went to %v", strategy, seed, went)
			}
		}
	}
}

// TestPodsThatComeHaveTheirDevicesAskedFor in what-if questions, and get them back after.
func TestPodsThatComeHaveTheirDevicesAskedFor(t *testing.T) {
	c := scheduling.NewCluster()
	c.SetNode(node("a"))
	c.SetDeviceClass(deviceClass("gpu"))
	c.SetResourceSlice(pool("a", device("x")))
	c.SetResourceClaim(deviceClaim("c"))
	c.SetResourceClaim(deviceClaim("d"))
	for range 2 {
		out := c.WhatIf(scheduling.Change{Pods: []*corev1.Pod{pod("p", using("c")), pod("q", using("d"))}}, 1, now)
		if len(out.Moves) != 1 || len(out.Unfit) != 1 {
			t.Fatalf("%+v", out)
		}
	}
}

// A pod whose node goes gives its devices back, and gets others: those of a claim that was made for it by a template as well.
func TestAPodThatMovesInASimulationGetsOtherDevices(t *testing.T) {
	owned := func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "r", UID: "r", Controller: new(true)}}
	}
	generated := func(p *corev1.Pod) {
		p.Spec.ResourceClaims = append(p.Spec.ResourceClaims, corev1.PodResourceClaim{Name: "t", ResourceClaimTemplateName: new("template")})
		p.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "t", ResourceClaimName: new("c")}}
	}
	ofP := func(c *resourceapi.ResourceClaim) {
		c.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "p", UID: "uid-p", Controller: new(true)}}
	}
	c := scheduling.NewCluster()
	c.SetNode(node("a"))
	c.SetNode(node("b"))
	c.SetDeviceClass(deviceClass("gpu"))
	c.SetResourceSlice(pool("a", device("x"), device("y")))
	c.SetResourceSlice(pool("b", device("x"), device("y")))
	c.SetResourceClaim(deviceClaim("c", having("a", "x", "p"), ofP))
	c.SetResourceClaim(deviceClaim("d", having("a", "y", "p")))
	c.SetPod(pod("p", on("a"), owned, using("d"), generated))
	for range 2 {
		out := c.WhatIf(scheduling.Change{Remove: []string{"a"}}, 1, now)
		if len(out.Moves) != 1 || out.Moves[0].Node != "b" {
			t.Fatalf("%+v", out)
		}
	}
}

// BenchmarkPlaceDevices places pods that each have a claim for one of the devices of a node.
func BenchmarkPlaceDevices(b *testing.B) {
	const nodes, pods, each = 100, 200, 8
	c := scheduling.NewCluster()
	c.SetDeviceClass(deviceClass("gpu"))
	for i := range nodes {
		name := fmt.Sprintf("node-%d", i)
		c.SetNode(node(name))
		var devices []resourceapi.Device
		for j := range each {
			devices = append(devices, device(fmt.Sprintf("d%d", j)))
		}
		c.SetResourceSlice(pool(name, devices...))
	}
	for i := range pods {
		c.SetResourceClaim(deviceClaim(fmt.Sprintf("c%d", i)))
		c.SetPod(pod(fmt.Sprintf("p%d", i), using(fmt.Sprintf("c%d", i))))
	}
	for b.Loop() {
		if got := len(c.Place(1, now).Placements); got != pods {
			b.Fatal(got)
		}
	}
	b.ReportMetric(float64(b.N*pods)/b.Elapsed().Seconds(), "pods/s")
}
