package scheduling

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
)

// Extended resources of a pod that DeviceClasses back are had by one special claim, which is made for the pod: what it asks
// for depends on what the node offers itself.

const (
	// specialInMemory is the name of a special claim that is not made yet. No claim can have it.
	specialInMemory    = "<extended-resources>"
	reasonSpecialStale = "cannot schedule extended resource claim"
	reasonSpecialUnfit = "cannot fit resource"
)

// specialFor is the special claim of a pod: the one that is there from before, or one that asks for nothing yet.
//
// Upstream: preFilterExtendedResources in plugins/dynamicresources/extendeddynamicresources.go.
func (d *devices) specialFor(pod *corev1.Pod) *resourceapi.ResourceClaim {
	if there := d.special[pod.UID]; there != nil {
		return there
	}
	return &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{
		Namespace: pod.Namespace, Name: specialInMemory, GenerateName: pod.Name + "-extended-resources-",
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID, Controller: new(true)}},
		Annotations:     map[string]string{resourceapi.ExtendedResourceClaimAnnotation: "true"},
	}}
}

// awaits reports whether a run before this one has made the special claim of a pod, and the drivers are to make its devices
// ready before the pod is bound. Upstream waits for that in PreBind, and takes all other such claims for leftovers.
func awaits(pod *corev1.Pod, special *resourceapi.ResourceClaim) bool {
	told := pod.Status.ExtendedResourceClaimStatus
	return told != nil && told.ResourceClaimName == special.Name && pod.Status.NominatedNodeName != "" &&
		special.Status.Allocation != nil && resourceclaim.IsReservedForPod(pod, special, false)
}

// specialOn is the special claim as a node needs it, nil if the node offers all that is asked for itself, or why it cannot
// take the pod.
//
// Upstream: filterExtendedResources in plugins/dynamicresources/extendeddynamicresources.go.
func (a *allocating) specialOn(n *nodeState) (special *resourceapi.ResourceClaim, mappings []corev1.ContainerExtendedResourceRequest, reason string) {
	if a.special.Spec.Devices.Requests != nil {
		return nil, nil, reasonSpecialStale
	}
	var asked []corev1.ResourceName
	for _, name := range a.needs.extended {
		offered, known := n.offered.scalars[name]
		if a.devices.backing[name] != nil && offered == 0 {
			asked = append(asked, name)
		} else if !known {
			return nil, nil, reasonSpecialUnfit
		}
	}
	if len(asked) == 0 {
		return nil, nil, ""
	}
	special = a.special.DeepCopy()
	special.Spec.Devices.Requests, mappings = a.devices.requestsOf(a.needs.pod, asked)
	if len(special.Spec.Devices.Requests) == 0 { // no container asks for them
		return nil, nil, ""
	}
	return special, mappings, ""
}

// requestsOf are the requests for extended resources of a pod, by name, and which container has what of them.
//
// Upstream: createRequestsAndMappings in plugins/dynamicresources/extendeddynamicresources.go.
func (d *devices) requestsOf(pod *corev1.Pod, names []corev1.ResourceName) ([]resourceapi.DeviceRequest, []corev1.ContainerExtendedResourceRequest) {
	var requests []resourceapi.DeviceRequest
	var mappings []corev1.ContainerExtendedResourceRequest
	for _, name := range names {
		s := &sharing{name: name, class: d.backing[name].Name, inits: len(pod.Spec.InitContainers)}
		s.containers = append(slices.Clone(pod.Spec.InitContainers), pod.Spec.Containers...)
		s.share()
		requests = append(requests, s.requests...)
		mappings = append(append(mappings, s.kept...), s.passing...)
	}
	slices.SortFunc(requests, func(a, b resourceapi.DeviceRequest) int { return cmp.Compare(a.Name, b.Name) })
	return requests, mappings
}

// sharing divides the devices of one extended resource between the containers of a pod: those that stay have their own, and
// init containers, which run before, have what those after them will have, and one request more for all of them.
type sharing struct {
	name       corev1.ResourceName
	class      string
	containers []corev1.Container
	inits      int
	requests   []resourceapi.DeviceRequest
	// kept are the mappings of containers that stay, and passing those of init containers.
	kept, passing []corev1.ContainerExtendedResourceRequest
}

func (s *sharing) share() {
	own := make([]*resourceapi.DeviceRequest, len(s.containers))
	for i := range s.containers {
		if !s.passes(i) {
			var mappings []corev1.ContainerExtendedResourceRequest
			own[i], mappings = s.request(i, nil)
			s.kept = append(s.kept, mappings...)
		}
	}
	var largest *resourceapi.DeviceRequest
	extra := map[string]bool{}
	for i := range s.containers {
		if !s.passes(i) {
			continue
		}
		request, mappings := s.request(i, own[i:])
		s.passing = append(s.passing, mappings...)
		if request == nil {
			continue
		}
		extra[request.Name] = true
		if largest == nil || largest.Exactly.Count < request.Exactly.Count {
			largest = request
		}
	}
	for i := range s.passing {
		if extra[s.passing[i].RequestName] {
			s.passing[i].RequestName = largest.Name
		}
	}
	for _, request := range append([]*resourceapi.DeviceRequest{largest}, own...) {
		if request != nil {
			s.requests = append(s.requests, *request)
		}
	}
}

// passes reports whether a container is gone when the others run.
func (s *sharing) passes(i int) bool {
	return i < s.inits && !isSidecar(&s.containers[i])
}

// request is what a container asks for beyond what it finds in other requests, nil for nothing, and what it has of which.
//
// Upstream: createResourceRequestAndMappings in plugins/dynamicresources/extendeddynamicresources.go.
func (s *sharing) request(i int, others []*resourceapi.DeviceRequest) (*resourceapi.DeviceRequest, []corev1.ContainerExtendedResourceRequest) {
	c := &s.containers[i]
	quantity := c.Resources.Requests[s.name]
	asked, whole := quantity.AsInt64()
	if !whole || asked == 0 {
		return nil, nil
	}
	var mappings []corev1.ContainerExtendedResourceRequest
	has := func(name string) {
		mappings = append(mappings, corev1.ContainerExtendedResourceRequest{ContainerName: c.Name, ResourceName: s.name.String(), RequestName: name})
	}
	found := int64(0)
	for _, other := range others {
		if other == nil {
			continue
		}
		found += other.Exactly.Count
		if has(other.Name); found >= asked {
			return nil, mappings
		}
	}
	at := slices.Index(slices.Sorted(maps.Keys(c.Resources.Requests)), s.name)
	request := &resourceapi.DeviceRequest{
		Name: fmt.Sprintf("container-%d-request-%d", i, at),
		Exactly: &resourceapi.ExactDeviceRequest{
			DeviceClassName: s.class, AllocationMode: resourceapi.DeviceAllocationModeExactCount, Count: asked - found,
		},
	}
	has(request.Name)
	return request, mappings
}
