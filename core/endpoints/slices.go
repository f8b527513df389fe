package endpoints

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	utilnet "k8s.io/utils/net"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
)

const (
	// SliceManager is the value of the label that tells whose slices these are.
	SliceManager = "endpointslice-controller.k8s.io"
	// maxPerSlice is upstream's default of --max-endpoints-per-slice.
	maxPerSlice = 100

	sliceComponent = "endpoint-slice-controller"
)

// SlicesSnapshot is a Service and what its EndpointSlices follow from.
type SlicesSnapshot struct {
	Service *corev1.Service
	// Pods of the namespace that the Service's selector matches.
	Pods []*corev1.Pod
	// Nodes that these are on, by name. One that is missing does not exist.
	Nodes map[string]*corev1.Node
	// Slices of the Service, as OfService chooses them for SliceManager.
	Slices []*discoveryv1.EndpointSlice
	// Zones need only be known if WantsZones.
	Zones Zones
}

// Selected reports whether endpoints of a Service are found by its selector: those of others are
// written by somebody else (endpointslice_controller.go syncService).
func Selected(svc *corev1.Service) bool {
	return svc.Spec.Type != corev1.ServiceTypeExternalName && svc.Spec.Selector != nil
}

// OfService reports whether a slice is one of a Service's that a controller manages, and stays.
func OfService(slice *discoveryv1.EndpointSlice, service, manager string) bool {
	return slice.Labels[discoveryv1.LabelServiceName] == service && slice.Labels[discoveryv1.LabelManagedBy] == manager &&
		slice.DeletionTimestamp == nil
}

// slicing is one look at the slices of a Service.
type slicing struct {
	SlicesSnapshot
	// hinted says that the Service has hints of topology mode Auto.
	hinted bool
	// published are the pods that have an endpoint.
	published []*corev1.Pod
	changes   changes
	notices   []plan.Notice
}

// changes are slices to create, to update and to delete. Those of the first two are the plan's own.
type changes struct{ create, update, remove []*discoveryv1.EndpointSlice }

func (c *changes) add(other changes) {
	c.create = append(c.create, other.create...)
	c.update = append(c.update, other.update...)
	c.remove = append(c.remove, other.remove...)
}

// Slices decides about the EndpointSlices of a Service.
//
// Upstream: reconciler.go Reconcile.
func Slices(in SlicesSnapshot) plan.Plan {
	if !Selected(in.Service) {
		return plan.Plan{}
	}
	in.Pods = sortedByName(in.Pods)
	in.Slices = sortedByName(in.Slices)
	s := &slicing{SlicesSnapshot: in}
	s.hinted = slices.ContainsFunc(in.Slices, hasZoneHints)

	// 1. Slices of a family that the Service has no more go, and so does what is another Service's of that name.
	families := addressTypes(in.Service)
	existing := map[discoveryv1.AddressType][]*discoveryv1.EndpointSlice{}
	for _, slice := range in.Slices {
		if slices.Contains(families, slice.AddressType) && ownedBy(slice, in.Service) {
			existing[slice.AddressType] = append(existing[slice.AddressType], slice)
		} else {
			s.changes.remove = append(s.changes.remove, slice)
		}
	}
	// 2. Each family by itself.
	for _, family := range families {
		s.changes.add(s.family(family, existing[family]))
	}
	// 3. What triggered it.
	triggered := s.triggered()
	for _, slice := range slices.Concat(s.changes.create, s.changes.update) {
		annotateTrigger(slice, triggered)
	}
	return s.plan()
}

// group is the endpoints of a Service that have the same ports, and their slices.
type group struct {
	ports    []discoveryv1.EndpointPort
	existing []*discoveryv1.EndpointSlice
	desired  *endpointSet
}

func newGroup(ports []discoveryv1.EndpointPort) *group {
	return &group{ports: ports, desired: newEndpointSet()}
}

// family decides about the slices of one family, of which existing are the Service's.
//
// Upstream: reconciler.go reconcileByAddressType, finalize.
func (s *slicing) family(family discoveryv1.AddressType, existing []*discoveryv1.EndpointSlice) changes {
	// 1. Compare what is desired with what is there, by ports.
	var c changes
	groups := s.desired(family)
	for _, slice := range existing {
		if g := groups[keyOfPorts(slice.Ports)]; g != nil {
			g.existing = append(g.existing, slice)
		} else {
			c.remove = append(c.remove, slice)
		}
	}
	for _, key := range sortedKeys(groups) {
		c.add(s.pack(groups[key], family))
	}

	// 2. A Service without endpoints has an empty slice.
	if len(existing) == len(c.remove) && len(c.create) == 0 {
		placeholder := s.newSlice(family, []discoveryv1.EndpointPort{})
		if len(c.remove) == 1 && isPlaceholder(c.remove[0], placeholder) {
			c.remove = nil
		} else {
			c.create = append(c.create, placeholder)
		}
	}

	// 3. Hints.
	s.hint(&c, family, existing)

	// 4. What is to be deleted is used for what is to be created. The last of one goes with the first of the other.
	for len(c.remove) > 0 && len(c.create) > 0 {
		last := len(c.create) - 1
		c.create[last].Name, c.create[last].ResourceVersion = c.remove[0].Name, c.remove[0].ResourceVersion
		c.update = append(c.update, c.create[last])
		c.create, c.remove = c.create[:last], c.remove[1:]
	}
	if s.Service.DeletionTimestamp != nil { // the garbage collector deletes them
		c.create = nil
	}
	return c
}

// desired are the endpoints that a family should have, by their ports.
func (s *slicing) desired(family discoveryv1.AddressType) map[string]*group {
	groups := map[string]*group{}
	for _, pod := range s.Pods {
		if !publishable(pod, true) {
			continue
		}
		ports := portsOf(s.Service, pod)
		key := keyOfPorts(ports)
		if groups[key] == nil {
			sortPorts(ports)
			groups[key] = newGroup(ports)
		}
		node := s.Nodes[pod.Spec.NodeName]
		if node == nil && !s.Service.Spec.PublishNotReadyAddresses {
			continue
		}
		if e := endpointOf(pod, node, s.Service, family); len(e.Addresses) > 0 {
			groups[key].desired.insert(e)
			s.published = append(s.published, pod)
		}
	}
	return groups
}

// triggered is when the first of the changes happened that this look is about, zero if that is not known.
//
// Upstream: util/trigger_time_tracker.go ComputeEndpointLastChangeTriggerTime.
func (s *slicing) triggered() time.Time {
	if len(s.Slices) == 0 {
		return s.Service.CreationTimestamp.Time
	}
	known := map[string]bool{}
	for _, slice := range s.Slices {
		for i := range slice.Endpoints {
			if e := &slice.Endpoints[i]; e.TargetRef != nil {
				known[e.TargetRef.Name] = e.Conditions.Serving != nil && *e.Conditions.Serving
			}
		}
	}
	return firstTrigger(s.published, known, isReady)
}

// newSlice is utils.go newEndpointSlice.
func (s *slicing) newSlice(family discoveryv1.AddressType, ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: namePrefix(s.Service.Name), Namespace: s.Service.Namespace,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(s.Service, corev1.SchemeGroupVersion.WithKind("Service"))},
		},
		Ports: ports, AddressType: family, Endpoints: []discoveryv1.Endpoint{},
	}
	slice.Labels, _ = labelsOf(slice, s.Service)
	return slice
}

// isPlaceholder reports whether a slice is as an empty one should be, apart from its name (placeholderSliceCompare of
// reconciler.go).
func isPlaceholder(slice, want *discoveryv1.EndpointSlice) bool {
	return len(slice.Endpoints) == 0 && len(slice.Ports) == 0 && sameLabels(slice.Labels, want.Labels)
}

func (s *slicing) plan() plan.Plan {
	svc, c := s.Service, s.changes
	if len(c.create)+len(c.update)+len(c.remove) == 0 {
		return plan.Plan{}
	}
	p := plan.Plan{Notices: s.notices, Reads: []plan.Read{
		readSlices(svc.Namespace, svc.Name, SliceManager),
		{Resource: plan.Services, Namespace: svc.Namespace, Name: svc.Name},
		{Resource: plan.Pods, Namespace: svc.Namespace, Selector: labels.SelectorFromSet(svc.Spec.Selector)},
	}}
	failed := func(verb, name string) *plan.Notice {
		return s.about().Warning("FailedToUpdateEndpointSlices", fmt.Sprintf(
			"Error updating Endpoint Slices for Service %[1]s/%[2]s: failed to %[3]s%[4]s EndpointSlice for Service %[1]s/%[2]s: %%v",
			svc.Namespace, svc.Name, verb, name))
	}
	for _, slice := range c.create {
		p.Writes = append(p.Writes, createSlice(slice, failed("create", "")))
	}
	for _, slice := range c.update {
		p.Writes = append(p.Writes, updateSlice(slice, failed("update ", slice.Name)))
	}
	for _, slice := range c.remove {
		p.Writes = append(p.Writes, deleteSlice(slice, failed("delete ", slice.Name)))
	}
	return p
}

func (s *slicing) about() podcontrol.Notices {
	return podcontrol.NoticesOf(s.Service, corev1.SchemeGroupVersion.WithKind("Service"), sliceComponent)
}

// readSlices is the read of what OfService chooses.
func readSlices(namespace, service, manager string) plan.Read {
	return plan.Read{Resource: plan.EndpointSlices, Namespace: namespace, Selector: labels.SelectorFromSet(labels.Set{
		discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: manager,
	})}
}

func createSlice(slice *discoveryv1.EndpointSlice, failed *plan.Notice) plan.Write {
	return plan.Write{
		Verb: plan.Create, Resource: plan.EndpointSlices, Namespace: slice.Namespace, Name: slice.Name, Object: slice,
		Reason: "endpoints have no slice", IfFailed: failed,
	}
}

func updateSlice(slice *discoveryv1.EndpointSlice, failed *plan.Notice) plan.Write {
	return plan.Write{
		Verb: plan.Update, Resource: plan.EndpointSlices, Namespace: slice.Namespace, Name: slice.Name, Object: slice,
		Reason: "endpoints changed", IfFailed: failed,
	}
}

func deleteSlice(slice *discoveryv1.EndpointSlice, failed *plan.Notice) plan.Write {
	return plan.Write{
		Verb: plan.Delete, Resource: plan.EndpointSlices, Namespace: slice.Namespace, Name: slice.Name, UID: slice.UID,
		ResourceVersion: slice.ResourceVersion, Reason: "the slice is not needed", IfFailed: failed,
	}
}

// ownedBy is utils.go ownedBy.
func ownedBy(slice *discoveryv1.EndpointSlice, svc *corev1.Service) bool {
	return slices.ContainsFunc(slice.OwnerReferences, func(o metav1.OwnerReference) bool {
		return o.UID == svc.UID && o.Kind == "Service" && o.APIVersion == "v1"
	})
}

// addressTypes are the families that a Service has, in order (utils.go getAddressTypesForService).
func addressTypes(svc *corev1.Service) []discoveryv1.AddressType {
	var out []discoveryv1.AddressType
	has := func(family corev1.IPFamily) bool { return slices.Contains(svc.Spec.IPFamilies, family) }
	v4, v6 := has(corev1.IPv4Protocol), has(corev1.IPv6Protocol)
	if !v4 && !v6 { // it was stored without its defaults
		v6 = !isIPSet(svc) || utilnet.IsIPv6String(svc.Spec.ClusterIP)
		v4 = !isIPSet(svc) || !v6
	}
	if v4 {
		out = append(out, discoveryv1.AddressTypeIPv4)
	}
	if v6 {
		out = append(out, discoveryv1.AddressTypeIPv6)
	}
	return out
}

// sortedByName returns the objects in the order of their names, in a list of its own.
func sortedByName[T metav1.Object](objects []T) []T {
	return slices.SortedFunc(slices.Values(objects), func(a, b T) int { return strings.Compare(a.GetName(), b.GetName()) })
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
