package endpoints

import (
	"fmt"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/labels"
	endpointsv1 "k8s.io/kubernetes/pkg/api/v1/endpoints"
	utilnet "k8s.io/utils/net"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
	"github.com/zeroplane/zeroplane/core/podstate"
)

// The kinds of the older API.
type (
	// Endpoints is an Endpoints object.
	Endpoints = corev1.Endpoints       //nolint:staticcheck // upstream still writes them
	subset    = corev1.EndpointSubset  //nolint:staticcheck // as above
	address   = corev1.EndpointAddress //nolint:staticcheck // as above
	port      = corev1.EndpointPort
)

const (
	// maxCapacity is how many addresses an Endpoints has at most.
	maxCapacity = 1000
	// truncated is the value of the annotation of one that should have more.
	truncated = "truncated"

	managedBy       = "endpoints.kubernetes.io/managed-by"
	objectComponent = "endpoint-controller"
)

// ObjectSnapshot is a Service, or the name of one that is gone, and what its Endpoints follow from.
type ObjectSnapshot struct {
	// Service is nil if there is none of the name.
	Service *corev1.Service
	// Pods of the namespace that the Service's selector matches.
	Pods []*corev1.Pod
	// Endpoints of the Service's name, nil if there are none.
	Endpoints *Endpoints
}

// Object decides about the Endpoints of a Service.
//
// Upstream: endpoints_controller.go syncService.
func Object(in ObjectSnapshot) plan.Plan {
	switch {
	case in.Service == nil && in.Endpoints == nil:
		return plan.Plan{}
	case in.Service == nil:
		return leftOver(in.Endpoints)
	case !Selected(in.Service):
		return plan.Plan{}
	}
	in.Pods = sortedByName(in.Pods)
	svc, current := in.Service, in.Endpoints
	subsets := subsetsOf(svc, in.Pods)
	if current != nil && sameSubsets(current.Subsets, subsets) && labelsRight(current.Labels, svc.Labels) && capacityRight(current) {
		return plan.Plan{}
	}

	next := &Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name}}
	verb := plan.Create
	if current != nil {
		verb = plan.Update
		next = current.DeepCopy()
	}
	next.Subsets = subsets
	next.Labels = without(svc.Labels, corev1.IsHeadlessService)
	if !isIPSet(svc) {
		next.Labels[corev1.IsHeadlessService] = ""
	}
	next.Labels[managedBy] = objectComponent
	next.Annotations = withTrigger(without(next.Annotations, corev1.EndpointsOverCapacity), in.triggered())
	if truncate(next.Subsets) {
		next.Annotations[corev1.EndpointsOverCapacity] = truncated
	}
	if current != nil && unchanged(current, next) {
		return plan.Plan{}
	}
	return in.write(verb, next)
}

// leftOver deletes the Endpoints of a Service that is gone, but those by which somebody elects a leader
// (endpoints_controller.go syncService, checkLeftoverEndpoints).
func leftOver(e *Endpoints) plan.Plan {
	if electsLeader(e) || e.DeletionTimestamp != nil {
		return plan.Plan{}
	}
	return plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.Delete, Resource: plan.Endpoints, Namespace: e.Namespace, Name: e.Name, UID: e.UID,
			ResourceVersion: e.ResourceVersion, Reason: "the Service is gone",
		}},
		Reads: []plan.Read{{Resource: plan.Endpoints, Namespace: e.Namespace, Name: e.Name}, {Resource: plan.Services, Namespace: e.Namespace, Name: e.Name}},
	}
}

func electsLeader(e *Endpoints) bool {
	_, ok := e.Annotations["control-plane.alpha.kubernetes.io/leader"]
	return ok
}

func (in ObjectSnapshot) write(verb plan.Verb, next *Endpoints) plan.Plan {
	svc := in.Service
	about := podcontrol.NoticesOf(next, corev1.SchemeGroupVersion.WithKind("Endpoints"), objectComponent)
	failed := about.Warning("FailedToUpdateEndpoint", fmt.Sprintf("Failed to update endpoint %s/%s: %%v", svc.Namespace, svc.Name))
	if verb == plan.Create {
		failed = about.Warning("FailedToCreateEndpoint", fmt.Sprintf("Failed to create endpoint for service %s/%s: %%v", svc.Namespace, svc.Name))
	}
	return plan.Plan{
		Writes: []plan.Write{{
			Verb: verb, Resource: plan.Endpoints, Namespace: next.Namespace, Name: next.Name, Object: next,
			Reason: "endpoints changed", IfFailed: failed,
		}},
		Reads: []plan.Read{
			{Resource: plan.Endpoints, Namespace: svc.Namespace, Name: svc.Name},
			{Resource: plan.Services, Namespace: svc.Namespace, Name: svc.Name},
			{Resource: plan.Pods, Namespace: svc.Namespace, Selector: labels.SelectorFromSet(svc.Spec.Selector)},
		},
	}
}

// triggered is when the first of the changes happened that this look is about, zero if that is not known.
//
// Upstream: trigger_time_tracker.go ComputeEndpointLastChangeTriggerTime of k8s.io/endpointslice/util.
func (in ObjectSnapshot) triggered() time.Time {
	if in.Endpoints == nil {
		return in.Service.CreationTimestamp.Time
	}
	known := map[string]bool{}
	note := func(addresses []address, ready bool) {
		for i := range addresses {
			if ref := addresses[i].TargetRef; ref != nil {
				known[ref.Name] = ready
			}
		}
	}
	for i := range in.Endpoints.Subsets {
		note(in.Endpoints.Subsets[i].Addresses, true)
		note(in.Endpoints.Subsets[i].NotReadyAddresses, false)
	}
	published := slices.DeleteFunc(slices.Clone(in.Pods), func(pod *corev1.Pod) bool {
		return !publishable(pod, in.Service.Spec.PublishNotReadyAddresses) || addressOf(in.Service, pod) == nil
	})
	return firstTrigger(published, known, func(pod *corev1.Pod) bool { return usable(in.Service, pod) })
}

// usable reports whether a pod is among the ready addresses.
func usable(svc *corev1.Service, pod *corev1.Pod) bool {
	return svc.Spec.PublishNotReadyAddresses || podstate.IsReady(pod)
}

// subsetsOf are the pods' addresses and ports, packed.
func subsetsOf(svc *corev1.Service, pods []*corev1.Pod) []subset {
	var out []subset
	for _, pod := range pods {
		if !publishable(pod, svc.Spec.PublishNotReadyAddresses) {
			continue
		}
		a := addressOf(svc, pod)
		if a == nil {
			continue
		}
		if len(svc.Spec.Ports) == 0 && svc.Spec.ClusterIP == corev1.ClusterIPNone {
			out = append(out, subsetOf(*a, usable(svc, pod)))
		}
		for i := range svc.Spec.Ports {
			p := &svc.Spec.Ports[i]
			if number, found := targetPort(pod, p); found {
				out = append(out, subsetOf(*a, usable(svc, pod), port{Name: p.Name, Port: number, Protocol: p.Protocol, AppProtocol: p.AppProtocol}))
			}
		}
	}
	return endpointsv1.RepackSubsets(out)
}

// subsetOf is endpoints_controller.go addEndpointSubset.
func subsetOf(a address, ready bool, ports ...port) subset {
	if ready {
		return subset{Addresses: []address{a}, Ports: ports}
	}
	return subset{NotReadyAddresses: []address{a}, Ports: ports}
}

// addressOf is the address of a pod in the Service's first family, nil if it has none
// (endpoints_controller.go podToEndpointAddressForService).
func addressOf(svc *corev1.Service, pod *corev1.Pod) *address {
	v6 := false
	switch {
	case len(svc.Spec.IPFamilies) > 0:
		v6 = svc.Spec.IPFamilies[0] == corev1.IPv6Protocol
	case isIPSet(svc):
		v6 = utilnet.IsIPv6String(svc.Spec.ClusterIP)
	default:
		v6 = utilnet.IsIPv6String(pod.Status.PodIP)
	}
	for _, podIP := range pod.Status.PodIPs {
		ip := utilnet.ParseIPSloppy(podIP.IP)
		if utilnet.IsIPv6(ip) != v6 {
			continue
		}
		node := pod.Spec.NodeName
		a := &address{IP: ip.String(), NodeName: &node, TargetRef: referenceTo(pod)}
		if named(pod, svc) {
			a.Hostname = pod.Spec.Hostname
		}
		return a
	}
	return nil
}

// ignoringVersions compares what refers to pods in any version.
var ignoringVersions = conversion.EqualitiesOrDie(func(a, b corev1.ObjectReference) bool { return sameReference(&a, &b) })

// sameSubsets compares packed subsets with those that are there, which another version of a controller may have packed
// differently.
func sameSubsets(current, want []subset) bool {
	return ignoringVersions.DeepEqual(current, want) || ignoringVersions.DeepEqual(endpointsv1.RepackSubsets(current), want)
}

// labelsRight is endpoints_controller.go labelsCorrectForEndpoints.
func labelsRight(have, service map[string]string) bool {
	if have[managedBy] != objectComponent {
		return false
	}
	skipped := 0
	for k, v := range have {
		if k == corev1.IsHeadlessService || k == managedBy {
			skipped++
		} else if want, ok := service[k]; !ok || want != v {
			return false
		}
	}
	return len(service) == len(have)-skipped
}

// capacityRight is endpoints_controller.go capacityAnnotationSetCorrectly.
func capacityRight(e *Endpoints) bool {
	ready, notReady := countAddresses(e.Subsets)
	_, over := e.Annotations[corev1.EndpointsOverCapacity]
	return ready+notReady <= maxCapacity && !over
}

// unchanged reports whether the next Endpoints are the current ones, but for when they changed.
func unchanged(current, next *Endpoints) bool {
	trigger := corev1.EndpointsLastChangeTriggerTime
	return sameSubsets(current.Subsets, next.Subsets) && equality.Semantic.DeepEqual(current.Labels, next.Labels) &&
		equality.Semantic.DeepEqual(without(current.Annotations, trigger), without(next.Annotations, trigger))
}

func countAddresses(subsets []subset) (ready, notReady int) {
	for i := range subsets {
		ready += len(subsets[i].Addresses)
		notReady += len(subsets[i].NotReadyAddresses)
	}
	return ready, notReady
}

// truncate takes addresses away that are too many, and reports whether there were: of each subset as many as its share is, and those
// that are not ready first.
//
// Upstream: endpoints_controller.go truncateEndpoints.
func truncate(subsets []subset) bool {
	ready, notReady := countAddresses(subsets)
	if ready+notReady <= maxCapacity {
		return false
	}
	of, room := notReady, maxCapacity-ready
	if ready > maxCapacity {
		of, room = ready, maxCapacity
	}
	left := room
	share := func(addresses []address) []address {
		n := min(int(math.Ceil(float64(len(addresses))/float64(of)*float64(room))), left, len(addresses))
		left -= n
		return addresses[:n]
	}
	for i := range subsets {
		if ready > maxCapacity {
			subsets[i].Addresses, subsets[i].NotReadyAddresses = share(subsets[i].Addresses), nil
		} else {
			subsets[i].NotReadyAddresses = share(subsets[i].NotReadyAddresses)
		}
	}
	return true
}
