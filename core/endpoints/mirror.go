package endpoints

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	endpointsv1 "k8s.io/kubernetes/pkg/api/v1/endpoints"
	utilnet "k8s.io/utils/net"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
)

const (
	// MirrorManager is the value of the label that tells whose slices these are.
	MirrorManager = "endpointslicemirroring-controller.k8s.io"
	// maxPerSubset is upstream's default of --mirroring-max-endpoints-per-subset.
	maxPerSubset = 1000

	mirrorComponent = "endpoint-slice-mirroring-controller"
)

// notMirrored are the annotations of Endpoints that slices do not get.
var notMirrored = []string{corev1.EndpointsLastChangeTriggerTime, corev1.LastAppliedConfigAnnotation}

// MirrorSnapshot is what has one name: a Service and Endpoints, and the slices made of them.
type MirrorSnapshot struct {
	Namespace, Name string
	// Service and Endpoints are nil if there are none.
	Service   *corev1.Service
	Endpoints *Endpoints
	// Slices, as OfService chooses them for MirrorManager.
	Slices []*discoveryv1.EndpointSlice
}

// Mirrorable reports whether Endpoints are mirrored if their Service has no selector
// (endpointslicemirroring_controller.go shouldMirror).
func Mirrorable(e *Endpoints) bool {
	return e != nil && e.Labels[discoveryv1.LabelSkipMirror] != "true" && !electsLeader(e)
}

// mirroring is one look at Endpoints.
type mirroring struct {
	MirrorSnapshot
	changes changes
	notices []plan.Notice
}

// mirrored are the endpoints of a subset that are of one family, and their slices.
type mirrored struct {
	group
	family discoveryv1.AddressType
}

// Mirror decides about the slices that mirror Endpoints.
//
// Upstream: endpointslicemirroring_controller.go syncEndpoints, reconciler.go reconcile.
func Mirror(in MirrorSnapshot) plan.Plan {
	in.Slices = sortedByName(in.Slices)
	m := &mirroring{MirrorSnapshot: in}
	if !Mirrorable(in.Endpoints) || in.Service == nil || in.Service.Spec.Selector != nil {
		m.changes.remove = in.Slices
		return m.plan()
	}
	groups := m.desired()
	for _, slice := range in.Slices {
		if g := groups[mirrorKey(slice.AddressType, slice.Ports)]; g != nil {
			g.existing = append(g.existing, slice)
		} else {
			m.changes.remove = append(m.changes.remove, slice)
		}
	}
	for _, key := range sortedKeys(groups) {
		m.mirror(groups[key])
	}
	m.recycle()
	if in.Endpoints.DeletionTimestamp != nil {
		m.changes.create = nil
	}
	return m.plan()
}

func mirrorKey(family discoveryv1.AddressType, ports []discoveryv1.EndpointPort) string {
	return string(family) + "\n" + keyOfPorts(ports)
}

// desired are the endpoints that should be in slices, by family and ports.
//
// Upstream: reconciler_helpers.go desiredCalc.
func (m *mirroring) desired() map[string]*mirrored {
	groups := map[string]*mirrored{}
	invalid, skipped := 0, 0
	for _, s := range endpointsv1.RepackSubsets(m.Endpoints.Subsets) {
		ports := mirroredPorts(s.Ports)
		byFamily := map[discoveryv1.AddressType]*mirrored{}
		for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
			key := mirrorKey(family, ports)
			if groups[key] == nil {
				groups[key] = &mirrored{group: *newGroup(ports), family: family}
			}
			byFamily[family] = groups[key]
		}
		added := 0
		add := func(addresses []address, ready bool) {
			for i := range addresses {
				if added == maxPerSubset {
					return
				}
				e, family := mirroredEndpoint(&addresses[i], ready)
				if e == nil {
					invalid++
					continue
				}
				byFamily[family].desired.insert(e)
				added++
			}
		}
		add(s.Addresses, true)
		add(s.NotReadyAddresses, false)
		skipped += len(s.Addresses) + len(s.NotReadyAddresses) - added
	}
	if invalid > 0 {
		m.warn("InvalidIPAddress", fmt.Sprintf("Skipped %d invalid IP addresses when mirroring to EndpointSlices", invalid))
	}
	if skipped > invalid {
		m.warn("TooManyAddressesToMirror", fmt.Sprintf(
			"A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped", maxPerSubset, skipped))
	}
	return groups
}

func (m *mirroring) warn(reason, message string) {
	about := podcontrol.NoticesOf(m.Endpoints, corev1.SchemeGroupVersion.WithKind("Endpoints"), mirrorComponent)
	m.notices = append(m.notices, *about.Warning(reason, message))
}

// mirroredEndpoint is utils.go addressToEndpoint; nil for what is no address.
func mirroredEndpoint(a *address, ready bool) (*discoveryv1.Endpoint, discoveryv1.AddressType) {
	ip := utilnet.ParseIPSloppy(a.IP)
	if ip == nil {
		return nil, ""
	}
	family := discoveryv1.AddressTypeIPv4
	if ip.To4() == nil {
		family = discoveryv1.AddressTypeIPv6
	}
	e := &discoveryv1.Endpoint{
		Addresses: []string{ip.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		TargetRef: a.TargetRef, NodeName: a.NodeName,
	}
	if hostname := a.Hostname; hostname != "" {
		e.Hostname = &hostname
	}
	return e, family
}

// mirroredPorts is utils.go epPortsToEpsPorts, in the order of newAddrTypePortMapKey.
func mirroredPorts(ports []port) []discoveryv1.EndpointPort {
	out := []discoveryv1.EndpointPort{}
	for _, p := range ports {
		out = append(out, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol, AppProtocol: p.AppProtocol})
	}
	sortPorts(out)
	return out
}

// mirror puts the endpoints of a group into one slice.
//
// Upstream: reconciler.go reconcileByPortMapping.
func (m *mirroring) mirror(g *mirrored) {
	if g.desired.len() == 0 {
		m.changes.remove = append(m.changes.remove, g.existing...)
		return
	}
	slice := m.newSlice(g)
	if len(g.existing) == 0 {
		slice.GenerateName = namePrefix(m.Name)
		g.desired.fill(slice, maxPerSubset)
		m.changes.create = append(m.changes.create, slice)
		return
	}
	first := g.existing[0]
	m.changes.remove = append(m.changes.remove, g.existing[1:]...)
	if m.upToDate(first, slice, g.desired) {
		return
	}
	slice.Name, slice.ResourceVersion = first.Name, first.ResourceVersion
	g.desired.fill(slice, maxPerSubset)
	m.changes.update = append(m.changes.update, slice)
}

// upToDate reports whether a slice has what it should have: the metadata of want, and the desired endpoints. (Upstream compares labels before it
// adds its own, and so finds Endpoints that bring one of those changed each time.)
//
// Upstream: reconciler.go totalChanges, needRebuildExistingSlices.
func (m *mirroring) upToDate(slice, want *discoveryv1.EndpointSlice, desired *endpointSet) bool {
	if len(slice.Endpoints) != desired.len() {
		return false
	}
	for i := range slice.Endpoints {
		if e := desired.get(&slice.Endpoints[i]); e == nil || !same(e, &slice.Endpoints[i]) {
			return false
		}
	}
	return maps.Equal(slice.Labels, want.Labels) && maps.Equal(slice.Annotations, want.Annotations) &&
		!slices.ContainsFunc(slice.OwnerReferences, func(o metav1.OwnerReference) bool {
			return o.Kind == "Endpoints" && o.Name == m.Name && o.UID != m.Endpoints.UID
		})
}

// newSlice is utils.go newEndpointSlice, without a name.
func (m *mirroring) newSlice(g *mirrored) *discoveryv1.EndpointSlice {
	e := m.Endpoints
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: e.Namespace, Labels: map[string]string{}, Annotations: without(e.Annotations, notMirrored...),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(e, corev1.SchemeGroupVersion.WithKind("Endpoints"))},
		},
		Ports: g.ports, AddressType: g.family, Endpoints: []discoveryv1.Endpoint{},
	}
	maps.Copy(slice.Labels, e.Labels)
	slice.Labels[discoveryv1.LabelServiceName] = e.Name
	slice.Labels[discoveryv1.LabelManagedBy] = MirrorManager
	return slice
}

// recycle uses slices that are to be deleted for those of the family that are to be created.
//
// Upstream: reconciler_helpers.go recycleSlices.
func (m *mirroring) recycle() {
	var create []*discoveryv1.EndpointSlice
	for _, slice := range m.changes.create {
		i := slices.IndexFunc(m.changes.remove, func(old *discoveryv1.EndpointSlice) bool { return old.AddressType == slice.AddressType })
		if i < 0 {
			create = append(create, slice)
			continue
		}
		slice.Name, slice.ResourceVersion = m.changes.remove[i].Name, m.changes.remove[i].ResourceVersion
		m.changes.remove = slices.Delete(slices.Clone(m.changes.remove), i, i+1)
		m.changes.update = append(m.changes.update, slice)
	}
	m.changes.create = create
}

func (m *mirroring) plan() plan.Plan {
	c := m.changes
	if len(c.create)+len(c.update)+len(c.remove) == 0 {
		return plan.Plan{}
	}
	p := plan.Plan{Notices: m.notices, Reads: []plan.Read{
		readSlices(m.Namespace, m.Name, MirrorManager),
		{Resource: plan.Endpoints, Namespace: m.Namespace, Name: m.Name},
		{Resource: plan.Services, Namespace: m.Namespace, Name: m.Name},
	}}
	for _, slice := range c.create {
		p.Writes = append(p.Writes, createSlice(slice, nil))
	}
	for _, slice := range c.update {
		p.Writes = append(p.Writes, updateSlice(slice, nil))
	}
	for _, slice := range c.remove {
		p.Writes = append(p.Writes, deleteSlice(slice, nil))
	}
	return p
}
