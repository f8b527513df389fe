package oracle_test

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
)

const (
	gpuDriver = "gpu.example.com"
	nicDriver = "nic.example.com"
	// drawn is an extended resource that a class backs and some nodes offer themselves.
	drawn = "example.com/drawn"
)

var longAgo, yetToCome = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)

// racking draws what a cluster has of devices.
type racking struct {
	*rack
	t *rapid.T
	// calm ones have devices that can be had, so that pods get to the scores.
	calm bool
}

func (r *racking) rarely(what string) bool { return !r.calm && rarely(r.t, what) }

func (r *racking) among(n int, what string) bool { return rapid.IntRange(1, n).Draw(r.t, what) == 1 }

// anyRack has devices for a cluster, and makes its pods ask for some. Half of the clusters have none.
func anyRack(t *rapid.T, nodes []*corev1.Node, pending []*corev1.Pod) *rack {
	if rapid.Bool().Draw(t, "has no devices") {
		return &rack{}
	}
	return fullRack(t, nodes, pending)
}

func fullRack(t *rapid.T, nodes []*corev1.Node, pending []*corev1.Pod) *rack {
	r := &racking{rack: &rack{claims: map[types.NamespacedName]*resourceapi.ResourceClaim{}}, t: t}
	r.calm = rapid.Bool().Draw(t, "calm devices")
	r.addClasses()
	for _, node := range nodes {
		r.addNodePool(node)
		if rapid.Bool().Draw(t, "offers it itself") {
			node.Status.Allocatable[drawn] = *resource.NewQuantity(int64(rapid.IntRange(0, 3).Draw(t, "offers")), resource.DecimalSI)
		}
	}
	r.addSharedPools()
	if r.among(3, "has rules") {
		r.addRules()
	}
	for _, namespace := range []string{"default", "other"} {
		for i := range 3 {
			if !r.rarely("no claim") {
				r.addClaim(namespace, fmt.Sprintf("c%d", i))
			}
		}
	}
	for _, pod := range pending {
		r.ask(pod)
	}
	return r.rack
}

func selector(expression string) []resourceapi.DeviceSelector {
	return []resourceapi.DeviceSelector{{CEL: &resourceapi.CELDeviceSelector{Expression: expression}}}
}

func (r *racking) addClasses() {
	add := func(name string, spec resourceapi.DeviceClassSpec) {
		r.classes = append(r.classes, &resourceapi.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec})
	}
	add("gpu", resourceapi.DeviceClassSpec{Selectors: selector(`device.driver == "gpu.example.com"`)})
	add("any", resourceapi.DeviceClassSpec{Config: []resourceapi.DeviceClassConfiguration{{DeviceConfiguration: opaque(`{"of":"class"}`)}}})
	add("fast", resourceapi.DeviceClassSpec{Selectors: selector(`device.driver == "gpu.example.com" && device.attributes["gpu.example.com"].model == "fast"`)})
	add("drawn", resourceapi.DeviceClassSpec{Selectors: selector(`device.driver == "nic.example.com"`), ExtendedResourceName: new(drawn)})
	if !r.calm {
		add("broken", resourceapi.DeviceClassSpec{Selectors: selector(`device.attribute`)})
		add("hasty", resourceapi.DeviceClassSpec{Selectors: selector(`device.attributes["gpu.example.com"].absent`)})
	}
}

func opaque(parameters string) resourceapi.DeviceConfiguration {
	return resourceapi.DeviceConfiguration{Opaque: &resourceapi.OpaqueDeviceConfiguration{Driver: gpuDriver, Parameters: runtime.RawExtension{Raw: []byte(parameters)}}}
}

// addNodePool gives a node a pool of its own.
func (r *racking) addNodePool(node *corev1.Node) {
	if r.among(4, "node has no pool") {
		return
	}
	r.addPool(gpuDriver, node.Name, func(s *resourceapi.ResourceSliceSpec) { s.NodeName = new(node.Name) })
	if r.among(2, "and cards") {
		r.addPool(nicDriver, node.Name, func(s *resourceapi.ResourceSliceSpec) { s.NodeName = new(node.Name) })
	}
}

func inZone(zone string) *corev1.NodeSelector {
	return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
		{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{zone}}}},
	}}
}

// addSharedPools has pools of several nodes.
func (r *racking) addSharedPools() {
	if r.among(3, "pool of a zone") {
		r.addPool(gpuDriver, "zone-x", func(s *resourceapi.ResourceSliceSpec) { s.NodeSelector = inZone("x") })
	}
	if r.among(3, "pool of all") {
		r.addPool(nicDriver, "all", func(s *resourceapi.ResourceSliceSpec) { s.AllNodes = new(true) })
	}
	if r.among(3, "pool of this and that") {
		r.addPool(gpuDriver, "mixed", func(s *resourceapi.ResourceSliceSpec) {
			s.PerDeviceNodeSelection = new(true)
			for i := range s.Devices {
				d := &s.Devices[i]
				switch rapid.IntRange(0, 2).Draw(r.t, "device is of") {
				case 0:
					d.NodeName = new(fmt.Sprintf("n%d", rapid.IntRange(0, 2).Draw(r.t, "node of device")))
				case 1:
					d.NodeSelector = inZone("y")
				default:
					d.AllNodes = new(true)
				}
			}
		})
	}
}

// addPool has one or two slices of devices, of the same generation or not.
func (r *racking) addPool(driver, name string, reach func(*resourceapi.ResourceSliceSpec)) {
	pool := resourceapi.ResourcePool{Name: name, Generation: 2, ResourceSliceCount: int64(rapid.SampledFrom([]int{1, 1, 2}).Draw(r.t, "slices"))}
	parted := driver == gpuDriver && r.among(3, "is parted")
	slices := int(pool.ResourceSliceCount)
	if parted {
		pool.ResourceSliceCount++
	}
	if r.rarely("is incomplete") {
		pool.ResourceSliceCount++
	}
	add := func(suffix string, spec resourceapi.ResourceSliceSpec) {
		spec.Driver = driver
		reach(&spec)
		if spec.PerDeviceNodeSelection != nil && len(spec.SharedCounters) > 0 {
			spec.PerDeviceNodeSelection, spec.AllNodes = nil, new(true)
		}
		r.slices = append(r.slices, &resourceapi.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: driver + "-" + name + suffix}, Spec: spec})
	}
	twice := r.rarely("has a name twice")
	for i := range slices {
		spec := resourceapi.ResourceSliceSpec{Pool: pool}
		for j := range rapid.IntRange(1, 3).Draw(r.t, "devices") {
			device := r.anyDevice(driver, fmt.Sprintf("d%d-%d", i, j), parted)
			if twice {
				device.Name = "twice"
			}
			spec.Devices = append(spec.Devices, device)
		}
		add(fmt.Sprintf("-%d", i), spec)
	}
	if parted {
		add("-counters", resourceapi.ResourceSliceSpec{Pool: pool, SharedCounters: []resourceapi.CounterSet{
			{Name: "board", Counters: map[string]resourceapi.Counter{"slots": {Value: resource.MustParse("3")}}},
		}})
	}
	if r.among(5, "has an older generation") {
		old := pool
		old.Generation, old.ResourceSliceCount = 1, 1
		add("-old", resourceapi.ResourceSliceSpec{Pool: old, Devices: []resourceapi.Device{r.anyDevice(driver, "old", false)}})
	}
}

func (r *racking) anyDevice(driver, name string, parted bool) resourceapi.Device {
	d := resourceapi.Device{Name: name, Attributes: map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{
		"model": {StringValue: new(rapid.SampledFrom([]string{"fast", "slow"}).Draw(r.t, "model"))},
		"bus":   {IntValue: new(int64(rapid.IntRange(0, 2).Draw(r.t, "bus")))},
	}}
	if r.among(4, "is shared") {
		d.AllowMultipleAllocations = new(true)
		d.Capacity = map[resourceapi.QualifiedName]resourceapi.DeviceCapacity{"memory": {
			Value: resource.MustParse("8Gi"),
			RequestPolicy: rapid.SampledFrom([]*resourceapi.CapacityRequestPolicy{
				nil, {Default: new(resource.MustParse("1Gi")), ValidRange: &resourceapi.CapacityRequestPolicyRange{Min: new(resource.MustParse("1Gi")), Step: new(resource.MustParse("1Gi"))}},
				{Default: new(resource.MustParse("2Gi")), ValidValues: []resource.Quantity{resource.MustParse("2Gi"), resource.MustParse("4Gi")}},
			}).Draw(r.t, "policy"),
		}}
	} else if r.among(2, "has a capacity") {
		d.Capacity = map[resourceapi.QualifiedName]resourceapi.DeviceCapacity{"memory": {Value: resource.MustParse(rapid.SampledFrom([]string{"1Gi", "4Gi", "8Gi"}).Draw(r.t, "capacity"))}}
	}
	if parted {
		d.ConsumesCounters = []resourceapi.DeviceCounterConsumption{{CounterSet: "board", Counters: map[string]resourceapi.Counter{
			"slots": {Value: *resource.NewQuantity(int64(rapid.IntRange(1, 3).Draw(r.t, "slots")), resource.DecimalSI)},
		}}}
	}
	if r.among(6, "is tainted") {
		d.Taints = []resourceapi.DeviceTaint{{Key: "sick", Effect: rapid.SampledFrom([]resourceapi.DeviceTaintEffect{
			resourceapi.DeviceTaintEffectNoSchedule, resourceapi.DeviceTaintEffectNoExecute, resourceapi.DeviceTaintEffectNone,
		}).Draw(r.t, "effect")}}
	}
	if driver == nicDriver && r.among(4, "is made ready") {
		d.BindingConditions, d.BindingFailureConditions = []string{"ready"}, []string{"failed"}
		d.BindsToNode = new(rapid.Bool().Draw(r.t, "binds to its node"))
	}
	return d
}

func (r *racking) addRules() {
	for i := range rapid.IntRange(1, 2).Draw(r.t, "rules") {
		rule := &resourceapi.DeviceTaintRule{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("r%d", i)}, Spec: resourceapi.DeviceTaintRuleSpec{
			Taint: resourceapi.DeviceTaint{Key: "away", Value: "yes", Effect: resourceapi.DeviceTaintEffectNoSchedule},
		}}
		if rapid.Bool().Draw(r.t, "selects") {
			rule.Spec.DeviceSelector = &resourceapi.DeviceTaintSelector{
				Driver: rapid.SampledFrom([]*string{nil, new(gpuDriver)}).Draw(r.t, "taints driver"),
				Pool:   rapid.SampledFrom([]*string{nil, new("n0"), new("all")}).Draw(r.t, "taints pool"),
				Device: rapid.SampledFrom([]*string{nil, new("d0-0"), new("d0-1")}).Draw(r.t, "taints device"),
			}
		}
		r.rules = append(r.rules, rule)
	}
}

// addClaim has a claim that is allocated or not.
func (r *racking) addClaim(namespace, name string) *resourceapi.ResourceClaim {
	claim := &resourceapi.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + namespace + name), ResourceVersion: "7"},
	}
	for i := range rapid.SampledFrom([]int{1, 1, 1, 2}).Draw(r.t, "requests") {
		claim.Spec.Devices.Requests = append(claim.Spec.Devices.Requests, r.anyRequest(fmt.Sprintf("r%d", i)))
	}
	if r.among(4, "has a constraint") {
		attribute := resourceapi.FullyQualifiedName(gpuDriver + "/" + rapid.SampledFrom([]string{"model", "bus"}).Draw(r.t, "attribute"))
		c := resourceapi.DeviceConstraint{MatchAttribute: &attribute}
		if rapid.Bool().Draw(r.t, "is distinct") {
			c = resourceapi.DeviceConstraint{DistinctAttribute: &attribute}
		}
		claim.Spec.Devices.Constraints = append(claim.Spec.Devices.Constraints, c)
	}
	if r.among(4, "has a config") {
		claim.Spec.Devices.Config = append(claim.Spec.Devices.Config, resourceapi.DeviceClaimConfiguration{
			Requests: rapid.SampledFrom([][]string{nil, {"r0"}, {"r0/b"}}).Draw(r.t, "configures"), DeviceConfiguration: opaque(`{"of":"claim"}`),
		})
	}
	if !r.calm && r.among(2, "is allocated") {
		r.allocate(claim)
	}
	if r.rarely("claim goes") {
		claim.DeletionTimestamp = new(metav1.NewTime(now))
	}
	r.claims[types.NamespacedName{Namespace: namespace, Name: name}] = claim
	return claim
}

func (r *racking) anyClass() string {
	switch {
	case r.rarely("class is broken"):
		return "broken"
	case r.rarely("class is hasty"):
		return "hasty"
	case r.rarely("no class"):
		return "none"
	}
	return rapid.SampledFrom([]string{"gpu", "gpu", "fast", "any", "drawn"}).Draw(r.t, "device class")
}

var tolerations = [][]resourceapi.DeviceToleration{
	nil, nil, {{Operator: resourceapi.DeviceTolerationOpExists}}, {{Key: "sick", Operator: resourceapi.DeviceTolerationOpExists, Effect: resourceapi.DeviceTaintEffectNoSchedule}},
	{{Key: "away", Operator: resourceapi.DeviceTolerationOpEqual, Value: "yes"}},
}

func (r *racking) anyRequest(name string) resourceapi.DeviceRequest {
	if r.calm && rapid.Bool().Draw(r.t, "calm has alternatives") || r.among(3, "has alternatives") {
		out := resourceapi.DeviceRequest{Name: name}
		for _, sub := range []string{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(r.t, "alternatives")] {
			out.FirstAvailable = append(out.FirstAvailable, resourceapi.DeviceSubRequest{
				Name: sub, DeviceClassName: r.anyClass(), AllocationMode: resourceapi.DeviceAllocationModeExactCount,
				Count: int64(rapid.IntRange(1, 2).Draw(r.t, "sub count")), Tolerations: rapid.SampledFrom(tolerations).Draw(r.t, "sub tolerations"),
			})
		}
		return out
	}
	exactly := &resourceapi.ExactDeviceRequest{
		DeviceClassName: r.anyClass(), AllocationMode: resourceapi.DeviceAllocationModeExactCount, Count: int64(rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(r.t, "count")),
		Tolerations: rapid.SampledFrom(tolerations).Draw(r.t, "device tolerations"),
	}
	if !r.calm && r.among(6, "wants all") {
		exactly.AllocationMode, exactly.Count = resourceapi.DeviceAllocationModeAll, 0
	}
	if r.among(6, "as admin") {
		exactly.AdminAccess = new(true)
	}
	if r.among(5, "selects devices") {
		exactly.Selectors = selector(rapid.SampledFrom([]string{
			`"model" in device.attributes["gpu.example.com"] && device.attributes["gpu.example.com"].model == "slow"`,
			`"memory" in device.capacity["gpu.example.com"] && device.capacity["gpu.example.com"].memory.compareTo(quantity("4Gi")) >= 0`,
			`device.allowMultipleAllocations == true`,
		}).Draw(r.t, "device selector"))
	}
	if r.among(4, "asks for capacity") {
		exactly.Capacity = &resourceapi.CapacityRequirements{Requests: map[resourceapi.QualifiedName]resource.Quantity{
			"memory": resource.MustParse(rapid.SampledFrom([]string{"1Gi", "1500Mi", "3Gi", "6Gi"}).Draw(r.t, "memory of device")),
		}}
	}
	return resourceapi.DeviceRequest{Name: name, Exactly: exactly}
}

// allocate gives a claim a device as an earlier run would have.
func (r *racking) allocate(claim *resourceapi.ResourceClaim) {
	if len(r.slices) == 0 {
		return
	}
	slice := rapid.SampledFrom(r.slices).Draw(r.t, "from slice")
	if len(slice.Spec.Devices) == 0 {
		return
	}
	device := rapid.SampledFrom(slice.Spec.Devices).Draw(r.t, "has device")
	result := resourceapi.DeviceRequestAllocationResult{
		Request: claim.Spec.Devices.Requests[0].Name, Driver: slice.Spec.Driver, Pool: slice.Spec.Pool.Name, Device: device.Name,
		BindingConditions: device.BindingConditions, BindingFailureConditions: device.BindingFailureConditions,
	}
	if alternatives := claim.Spec.Devices.Requests[0].FirstAvailable; len(alternatives) > 0 {
		result.Request += "/" + alternatives[0].Name
	}
	if device.AllowMultipleAllocations != nil {
		result.ShareID = new(types.UID("share-" + claim.UID))
		result.ConsumedCapacity = map[resourceapi.QualifiedName]resource.Quantity{"memory": resource.MustParse("3Gi")}
	}
	if r.among(6, "only looks") {
		result.AdminAccess = new(true)
	}
	claim.Finalizers = []string{resourceapi.Finalizer}
	claim.Status.Allocation = &resourceapi.AllocationResult{
		Devices:      resourceapi.DeviceAllocationResult{Results: []resourceapi.DeviceRequestAllocationResult{result}},
		NodeSelector: rapid.SampledFrom([]*corev1.NodeSelector{nil, inZone("x"), inZone("y"), inZone("nowhere")}).Draw(r.t, "can be used"),
	}
	if rapid.Bool().Draw(r.t, "has a time") {
		// Upstream goes by the clock: for any clock it was long ago, or is yet to come.
		claim.Status.Allocation.AllocationTimestamp = new(metav1.NewTime(rapid.SampledFrom([]time.Time{longAgo, yetToCome}).Draw(r.t, "allocated at")))
	}
	if len(device.BindingConditions) > 0 && rapid.Bool().Draw(r.t, "driver has said") {
		claim.Status.Devices = []resourceapi.AllocatedDeviceStatus{{
			Driver: result.Driver, Pool: result.Pool, Device: result.Device,
			Conditions: []metav1.Condition{{
				Type:   rapid.SampledFrom([]string{"ready", "failed"}).Draw(r.t, "driver says"),
				Status: rapid.SampledFrom([]metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse}).Draw(r.t, "is so"),
			}},
		}}
	}
	others := rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(r.t, "reserved for")
	for i := range others {
		claim.Status.ReservedFor = append(claim.Status.ReservedFor, podReference(fmt.Sprintf("other-%d", i)))
	}
	if others == 0 && rapid.Bool().Draw(r.t, "reserved for one that waits") {
		claim.Status.ReservedFor = append(claim.Status.ReservedFor, podReference(fmt.Sprintf("waiting-%d", rapid.IntRange(0, 3).Draw(r.t, "who"))))
	}
}

func podReference(name string) resourceapi.ResourceClaimConsumerReference {
	return resourceapi.ResourceClaimConsumerReference{Resource: "pods", Name: name, UID: types.UID(name)}
}

// ask has a pod use claims, or extended resources that a class backs.
func (r *racking) ask(pod *corev1.Pod) {
	used := map[string]bool{}
	for i := range rapid.SampledFrom([]int{0, 1, 1, 2}).Draw(r.t, "uses claims") {
		use := corev1.PodResourceClaim{Name: fmt.Sprintf("u%d", i)}
		if rapid.Bool().Draw(r.t, "of a template") {
			use.ResourceClaimTemplateName = new("template")
			r.made(pod, use.Name)
		} else {
			name := fmt.Sprintf("c%d", rapid.IntRange(0, 2).Draw(r.t, "uses"))
			if used[name] { // upstream would have it allocated twice
				continue
			}
			used[name] = true
			use.ResourceClaimName = &name
		}
		pod.Spec.ResourceClaims = append(pod.Spec.ResourceClaims, use)
	}
	if !r.among(4, "asks for extended resources") {
		return
	}
	names := []corev1.ResourceName{corev1.ResourceName(resourceapi.ResourceDeviceClassPrefix + "gpu")}
	if len(pod.Spec.ResourceClaims) == 0 { // where a node offers it itself, upstream fails to bind a pod that has claims besides
		names = append(names, drawn)
	}
	for i := range pod.Spec.InitContainers {
		r.draw(&pod.Spec.InitContainers[i], names)
	}
	r.draw(&pod.Spec.Containers[0], names)
	if len(pod.Spec.ResourceClaims) == 0 && r.rarely("has a leftover") {
		claim := r.addClaim(pod.Namespace, pod.Name+"-extended-resources-old")
		claim.Annotations = map[string]string{resourceapi.ExtendedResourceClaimAnnotation: "true"}
		claim.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID, Controller: new(true)}}
	}
}

func (r *racking) draw(c *corev1.Container, names []corev1.ResourceName) {
	for _, name := range names {
		if !rapid.Bool().Draw(r.t, "draws") {
			continue
		}
		if c.Resources.Requests == nil {
			c.Resources.Requests = corev1.ResourceList{}
		}
		c.Resources.Requests[name] = *resource.NewQuantity(int64(rapid.IntRange(0, 2).Draw(r.t, "draws so many")), resource.DecimalSI)
	}
}

// made has the claim that a pod gets of a template, if it has got it.
func (r *racking) made(pod *corev1.Pod, use string) {
	if r.rarely("is not made yet") {
		return
	}
	status := corev1.PodResourceClaimStatus{Name: use}
	if !r.rarely("is not needed") {
		name := pod.Name + "-" + use
		status.ResourceClaimName = &name
		if !r.rarely("is gone") {
			claim := r.addClaim(pod.Namespace, name)
			if !r.rarely("is another's") {
				claim.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID, Controller: new(true)}}
			}
		}
	}
	pod.Status.ResourceClaimStatuses = append(pod.Status.ResourceClaimStatuses, status)
}
