package scheduling

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
)

// devices is what the cluster has of devices, which of them claims have, and what a run assumes about that. What costs
// something is made when a pod asks for devices.
type devices struct {
	claims map[types.NamespacedName]*resourceapi.ResourceClaim
	// special are the claims made for extended resources of pods, by the UIDs of the pods.
	special map[types.UID]*resourceapi.ResourceClaim
	slices  map[string]*resourceapi.ResourceSlice
	classes map[string]*resourceapi.DeviceClass
	rules   map[string]*resourceapi.DeviceTaintRule
	// backing are the classes whose devices are had by asking for an extended resource.
	backing map[corev1.ResourceName]*resourceapi.DeviceClass

	// assumed are the claims that a run has changed, as it has left them, and made counts the changes.
	assumed map[types.NamespacedName]*resourceapi.ResourceClaim
	made    int

	// offered are the slices, with the taints that rules add, and taken what claims have of them; nil until somebody asks.
	offered []*resourceapi.ResourceSlice
	taken   *structured.AllocatedState
	// allocator is of this moment, and selectors are compiled expressions; nil until somebody asks.
	allocator structured.Allocator
	selectors *cel.Cache
	// counts are the devices of classes that are scored, nil until somebody asks.
	counts map[*resourceapi.DeviceClass]*census
}

func newDevices() devices {
	return devices{
		claims:  map[types.NamespacedName]*resourceapi.ResourceClaim{},
		special: map[types.UID]*resourceapi.ResourceClaim{},
		slices:  map[string]*resourceapi.ResourceSlice{},
		classes: map[string]*resourceapi.DeviceClass{},
		rules:   map[string]*resourceapi.DeviceTaintRule{},
		backing: map[corev1.ResourceName]*resourceapi.DeviceClass{},
		assumed: map[types.NamespacedName]*resourceapi.ResourceClaim{},
	}
}

// SetResourceClaim adds a ResourceClaim or replaces the one of its name.
func (c *Cluster) SetResourceClaim(claim *resourceapi.ResourceClaim) {
	d, name := &c.devices, nameOfClaim(claim)
	old := d.claims[name]
	d.put(name, claim)
	if old != nil && sameClaim(old, claim) {
		return
	}
	d.recount()
	tell(c, deviceClaimHint, old, claim)
}

// DeleteResourceClaim removes a ResourceClaim.
func (c *Cluster) DeleteResourceClaim(namespace, name string) {
	d, key := &c.devices, types.NamespacedName{Namespace: namespace, Name: name}
	if old := d.claims[key]; old != nil {
		d.drop(key)
		d.recount()
		tell(c, deviceClaimHint, old, nil)
	}
}

func (d *devices) put(name types.NamespacedName, claim *resourceapi.ResourceClaim) {
	d.drop(name)
	d.claims[name] = claim
	if pod := servedBy(claim); pod != "" {
		d.special[pod] = claim
	}
}

func (d *devices) drop(name types.NamespacedName) {
	if old := d.claims[name]; old != nil {
		delete(d.special, servedBy(old))
	}
	delete(d.claims, name)
}

// servedBy is the UID of the pod whose extended resources a claim was made for, empty for other claims.
//
// Upstream: findExtendedResourceClaim in plugins/dynamicresources/extendeddynamicresources.go.
func servedBy(claim *resourceapi.ResourceClaim) types.UID {
	if claim.Annotations[resourceapi.ExtendedResourceClaimAnnotation] != "true" {
		return ""
	}
	owner := metav1.GetControllerOfNoCopy(claim)
	if owner == nil {
		return ""
	}
	return owner.UID
}

// sameClaim reports whether no rule tells two versions of a claim apart. Its spec does not change.
func sameClaim(a, b *resourceapi.ResourceClaim) bool {
	return a.UID == b.UID && (a.DeletionTimestamp == nil) == (b.DeletionTimestamp == nil) &&
		equality.Semantic.DeepEqual(a.Status, b.Status) && equality.Semantic.DeepEqual(a.OwnerReferences, b.OwnerReferences) &&
		servedBy(a) == servedBy(b)
}

// recount has what claims have counted again.
func (d *devices) recount() { d.taken, d.allocator, d.counts = nil, nil, nil }

// restock has what there is gathered again.
func (d *devices) restock() { d.offered, d.allocator, d.counts = nil, nil, nil }

// SetResourceSlice adds a ResourceSlice or replaces the one of its name.
func (c *Cluster) SetResourceSlice(slice *resourceapi.ResourceSlice) {
	replace(c, c.devices.slices, slice.Name, slice, sliceHint)
}

// DeleteResourceSlice removes a ResourceSlice.
func (c *Cluster) DeleteResourceSlice(name string) {
	replace(c, c.devices.slices, name, nil, sliceHint)
}

// SetDeviceTaintRule adds a DeviceTaintRule or replaces the one of its name.
func (c *Cluster) SetDeviceTaintRule(rule *resourceapi.DeviceTaintRule) {
	replace(c, c.devices.rules, rule.Name, rule, taintRuleHint)
}

// DeleteDeviceTaintRule removes a DeviceTaintRule.
func (c *Cluster) DeleteDeviceTaintRule(name string) {
	replace(c, c.devices.rules, name, nil, taintRuleHint)
}

// replace sets an object that tells what devices there are, or takes it away if it is nil, and tells so.
func replace[T any](c *Cluster, objects map[string]*T, name string, now *T, hint func(*wakeHint) func(*Cluster, *sleeper, *T, *T) bool) {
	old := objects[name]
	if objects[name] = now; now == nil {
		delete(objects, name)
	}
	c.devices.restock()
	tell(c, hint, old, now)
}

// SetDeviceClass adds a DeviceClass or replaces the one of its name.
func (c *Cluster) SetDeviceClass(class *resourceapi.DeviceClass) {
	replace(c, c.devices.classes, class.Name, class, deviceClassHint)
	c.reclassify()
}

// DeleteDeviceClass removes a DeviceClass.
func (c *Cluster) DeleteDeviceClass(name string) {
	replace(c, c.devices.classes, name, nil, deviceClassHint)
	c.reclassify()
}

// reclassify follows a change of the classes: which extended resources are had by devices is read by the rule about
// resources, too.
func (c *Cluster) reclassify() {
	d := &c.devices
	before := d.backing
	d.backing = backingOf(d.classes)
	if maps.EqualFunc(before, d.backing, func(a, b *resourceapi.DeviceClass) bool { return a != nil && b != nil }) {
		return
	}
	c.journal.renew()
	for _, cl := range c.classes {
		d.mark(cl)
	}
}

// backingOf are the classes by the extended resources that they back: the newest, then the first by name.
//
// Upstream: updateResourceName2class in k8s.io/dynamic-resource-allocation/deviceclass/extendedresourcecache.
func backingOf(classes map[string]*resourceapi.DeviceClass) map[corev1.ResourceName]*resourceapi.DeviceClass {
	out := make(map[corev1.ResourceName]*resourceapi.DeviceClass, len(classes))
	for _, class := range classes {
		out[corev1.ResourceName(resourceapi.ResourceDeviceClassPrefix+class.Name)] = class
		if class.Spec.ExtendedResourceName == nil {
			continue
		}
		name := corev1.ResourceName(*class.Spec.ExtendedResourceName)
		if other := out[name]; other == nil || newer(class, other) {
			out[name] = class
		}
	}
	return out
}

func newer(a, b *resourceapi.DeviceClass) bool {
	return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name)) < 0
}

func nameOfClaim(claim *resourceapi.ResourceClaim) types.NamespacedName {
	return types.NamespacedName{Namespace: claim.Namespace, Name: claim.Name}
}

// claimNamed is a claim as the run has left it, nil for none.
func (d *devices) claimNamed(name types.NamespacedName) *resourceapi.ResourceClaim {
	if assumed := d.assumed[name]; assumed != nil {
		return assumed
	}
	return d.claims[name]
}

// allDevices are the slices by name. Rules taint devices in them.
//
// Upstream: applyPatches in k8s.io/dynamic-resource-allocation/resourceslice/tracker/tracker.go.
func (d *devices) allDevices() []*resourceapi.ResourceSlice {
	if d.offered != nil {
		return d.offered
	}
	rules := slices.Collect(maps.Values(d.rules))
	slices.SortFunc(rules, func(a, b *resourceapi.DeviceTaintRule) int { return cmp.Compare(a.Name, b.Name) })
	d.offered = make([]*resourceapi.ResourceSlice, 0, len(d.slices))
	for _, name := range slices.Sorted(maps.Keys(d.slices)) {
		d.offered = append(d.offered, tainted(d.slices[name], rules))
	}
	return d.offered
}

func tainted(slice *resourceapi.ResourceSlice, rules []*resourceapi.DeviceTaintRule) *resourceapi.ResourceSlice {
	out := slice
	matches := func(asked *string, is string) bool { return asked == nil || *asked == is }
	for _, rule := range rules {
		of := rule.Spec.DeviceSelector
		if of == nil || !matches(of.Driver, slice.Spec.Driver) || !matches(of.Pool, slice.Spec.Pool.Name) {
			continue
		}
		for i := range slice.Spec.Devices {
			if !matches(of.Device, slice.Spec.Devices[i].Name) {
				continue
			}
			if out == slice {
				out = slice.DeepCopy()
			}
			out.Spec.Devices[i].Taints = append(out.Spec.Devices[i].Taints, rule.Spec.Taint)
		}
	}
	return out
}

// allTaken is what claims have, those of the run included.
func (d *devices) allTaken() *structured.AllocatedState {
	if d.taken != nil {
		return d.taken
	}
	d.taken = &structured.AllocatedState{
		AllocatedDevices:         sets.New[structured.DeviceID](),
		AllocatedSharedDeviceIDs: sets.New[structured.SharedDeviceID](),
		AggregatedCapacity:       structured.NewConsumedCapacityCollection(),
	}
	for name := range d.claims {
		d.take(d.claimNamed(name))
	}
	for name, claim := range d.assumed {
		if d.claims[name] == nil {
			d.take(claim)
		}
	}
	return d.taken
}

// take counts what a claim has. Devices that it may only look at are nobody's.
//
// Upstream: foreachAllocatedDevice in plugins/dynamicresources/allocateddevices.go.
func (d *devices) take(claim *resourceapi.ResourceClaim) {
	if claim.Status.Allocation == nil {
		return
	}
	for i := range claim.Status.Allocation.Devices.Results {
		r := &claim.Status.Allocation.Devices.Results[i]
		if r.AdminAccess != nil && *r.AdminAccess {
			continue
		}
		id := structured.MakeDeviceID(r.Driver, r.Pool, r.Device)
		if r.ShareID == nil {
			d.taken.AllocatedDevices.Insert(id)
			continue
		}
		d.taken.AllocatedSharedDeviceIDs.Insert(structured.MakeSharedDeviceID(id, r.ShareID))
		if r.ConsumedCapacity != nil {
			d.taken.AggregatedCapacity.Insert(structured.NewDeviceConsumedCapacity(id, r.ConsumedCapacity))
		}
	}
}

// change has the run see a claim as it leaves it.
func (d *devices) change(claim *resourceapi.ResourceClaim) {
	before := d.claimNamed(nameOfClaim(claim))
	d.assumed[nameOfClaim(claim)] = claim
	d.made++
	if d.taken != nil && (before == nil || before.Status.Allocation == nil) {
		d.take(claim)
		d.allocator, d.counts = nil, nil
	}
}

// forget ends all assumptions.
func (d *devices) forget() {
	if len(d.assumed) > 0 {
		d.recount()
		d.assumed = map[types.NamespacedName]*resourceapi.ResourceClaim{}
	}
}
