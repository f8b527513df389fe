package scheduling_test

import (
	"fmt"
	"testing"

	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/scheduling"
)

// rack is what is left of a random history of devices.
type rack struct {
	claims  map[string]*resourceapi.ResourceClaim
	slices  map[string]*resourceapi.ResourceSlice
	classes map[string]*resourceapi.DeviceClass
	rules   map[string]*resourceapi.DeviceTaintRule
}

func newRack() rack {
	return rack{
		claims: map[string]*resourceapi.ResourceClaim{}, slices: map[string]*resourceapi.ResourceSlice{},
		classes: map[string]*resourceapi.DeviceClass{}, rules: map[string]*resourceapi.DeviceTaintRule{},
	}
}

// start has devices on all nodes and claims that ask for some.
func (r rack) start(c *scheduling.Cluster, nodes []string) {
	class := deviceClass("gpu")
	apply(false, r.classes, class.Name, class, c.SetDeviceClass, nil)
	for i, name := range nodes {
		apply(false, r.slices, name, pool(name, device("d0"), device("d1")), c.SetResourceSlice, nil)
		claim := deviceClaim(fmt.Sprintf("c%d", i))
		apply(false, r.claims, claim.Name, claim, c.SetResourceClaim, nil)
	}
}

// change sets one object or deletes it.
func (r rack) change(t *rapid.T, c *scheduling.Cluster, nodes []string) {
	gone := rapid.IntRange(0, 4).Draw(t, "device gone") == 0
	name := rapid.SampledFrom(nodes).Draw(t, "devices of")
	switch rapid.SampledFrom([]string{"claim", "claim", "slice", "slice", "class", "rule"}).Draw(t, "what of devices") {
	case "claim":
		var changes []func(*resourceapi.ResourceClaim)
		i := rapid.IntRange(0, 4).Draw(t, "claim number")
		switch rapid.IntRange(0, 3).Draw(t, "claim is") {
		case 0: // each has a device of its own: that two have one is nobody's doing
			changes = append(changes, having(name, fmt.Sprintf("d%d", i), fmt.Sprintf("p%d", rapid.IntRange(0, 9).Draw(t, "reserved for"))))
		case 1:
			changes = append(changes, eitherOr(2))
		}
		claim := deviceClaim(fmt.Sprintf("c%d", i), changes...)
		apply(gone, r.claims, claim.Name, claim, c.SetResourceClaim, func(n string) { c.DeleteResourceClaim("default", n) })
	case "slice":
		var devices []resourceapi.Device
		for i := range rapid.IntRange(1, 3).Draw(t, "devices") {
			d := device(fmt.Sprintf("d%d", i))
			if rapid.IntRange(0, 4).Draw(t, "is made ready") == 0 {
				madeReady(&d)
			}
			devices = append(devices, d)
		}
		apply(gone, r.slices, name, pool(name, devices...), c.SetResourceSlice, c.DeleteResourceSlice)
	case "class":
		class := deviceClass(rapid.SampledFrom([]string{"gpu", "gpu", "other"}).Draw(t, "device class"))
		if rapid.Bool().Draw(t, "backs") {
			class.Spec.ExtendedResourceName = new("example.com/gpu")
		}
		apply(gone, r.classes, class.Name, class, c.SetDeviceClass, c.DeleteDeviceClass)
	case "rule":
		rule := &resourceapi.DeviceTaintRule{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourceapi.DeviceTaintRuleSpec{
			DeviceSelector: &resourceapi.DeviceTaintSelector{Pool: &name}, Taint: resourceapi.DeviceTaint{Key: "k", Effect: resourceapi.DeviceTaintEffectNoSchedule},
		}}
		apply(gone, r.rules, name, rule, c.SetDeviceTaintRule, c.DeleteDeviceTaintRule)
	}
}

// fill puts what is left into an input.
func (r rack) fill(in *scheduling.Input) {
	in.ResourceClaims, in.ResourceSlices = inOrder(r.claims), inOrder(r.slices)
	in.DeviceClasses, in.DeviceTaintRules = inOrder(r.classes), inOrder(r.rules)
}

// TestNoDeviceIsHadTwice and pods are where their devices are.
func TestNoDeviceIsHadTwice(t *testing.T) {
	given := 0
	rapid.Check(t, func(t *rapid.T) {
		_, in := history(t)
		in.Nodes = nil
		for _, name := range worldNodes { // that lack nothing else
			in.Nodes = append(in.Nodes, node(name))
		}
		for i := range rapid.IntRange(1, 5).Draw(t, "more pods") {
			in.Pods = append(in.Pods, pod(fmt.Sprintf("more-%d", i), using(fmt.Sprintf("c%d", i))))
		}
		after := map[string]*resourceapi.ResourceClaim{}
		for _, claim := range in.ResourceClaims {
			after[claim.Name] = claim
		}
		result := scheduling.Place(in)
		for _, placed := range result.Placements {
			for _, use := range placed.Devices {
				after[use.After.Name] = use.After
				for _, r := range use.After.Status.Allocation.Devices.Results {
					if r.Pool != placed.Node {
						t.Errorf("pod %s is on %s and has a device of %s", placed.Pod.Name, placed.Node, r.Pool)
					}
				}
			}
		}
		for _, released := range result.Unschedulable {
			if released.Release != nil {
				delete(after, released.Release.Claim.Name)
			}
		}
		before := map[string]*resourceapi.ResourceClaim{}
		for _, claim := range in.ResourceClaims {
			before[claim.Name] = claim
		}
		has := map[string]string{}
		for name, claim := range after {
			if claim.Status.Allocation == nil {
				continue
			}
			for _, r := range claim.Status.Allocation.Devices.Results {
				id := r.Pool + "/" + r.Device
				if other := has[id]; other != "" {
					t.Errorf("claims %s and %s have device %s", name, other, id)
				}
				has[id] = name
			}
			if old := before[name]; old == nil || old.Status.Allocation == nil {
				given++
			}
		}
	})
	t.Logf("%d claims got devices", given)
	if given == 0 {
		t.Error("nobody got a device")
	}
}
