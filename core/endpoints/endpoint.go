package endpoints

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/utils/net"

	"github.com/zeroplane/zeroplane/core/podstate"
)

// publishable reports whether a pod has endpoints at all (util/controller_utils.go ShouldPodBeInEndpoints).
func publishable(pod *corev1.Pod, terminating bool) bool {
	return !podstate.IsTerminal(pod) && (pod.Status.PodIP != "" || len(pod.Status.PodIPs) > 0) &&
		(terminating || pod.DeletionTimestamp == nil)
}

// endpointOf is utils.go podToEndpoint.
func endpointOf(pod *corev1.Pod, node *corev1.Node, svc *corev1.Service, family discoveryv1.AddressType) *discoveryv1.Endpoint {
	serving, terminating := podstate.IsReady(pod), pod.DeletionTimestamp != nil
	ready := svc.Spec.PublishNotReadyAddresses || serving && !terminating
	e := &discoveryv1.Endpoint{
		Addresses:  addressesOf(pod, family == discoveryv1.AddressTypeIPv6),
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  referenceTo(pod),
	}
	if name := pod.Spec.NodeName; name != "" {
		e.NodeName = &name
	}
	if node != nil {
		if zone := node.Labels[corev1.LabelTopologyZone]; zone != "" {
			e.Zone = &zone
		}
	}
	if named(pod, svc) {
		hostname := pod.Spec.Hostname
		e.Hostname = &hostname
	}
	return e
}

func referenceTo(pod *corev1.Pod) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}

// named reports whether a pod's host name is one in the Service's domain (util/controller_utils.go ShouldSetHostname).
func named(pod *corev1.Pod, svc *corev1.Service) bool {
	return pod.Spec.Hostname != "" && pod.Spec.Subdomain == svc.Name && svc.Namespace == pod.Namespace
}

// addressesOf are a pod's addresses of a family, sorted, and written as usual (utils.go getEndpointAddresses, util/endpointset.go
// hashEndpoint).
func addressesOf(pod *corev1.Pod, v6 bool) []string {
	out := []string{}
	for _, podIP := range pod.Status.PodIPs {
		if ip := utilnet.ParseIPSloppy(podIP.IP); utilnet.IsIPv6(ip) == v6 {
			out = append(out, ip.String())
		}
	}
	slices.Sort(out)
	return out
}

// firstTrigger is when the first of some pods became ready or not, of those whose endpoint is not known to be so. A zero
// time is not one.
func firstTrigger(pods []*corev1.Pod, known map[string]bool, now func(*corev1.Pod) bool) time.Time {
	var first time.Time
	for _, pod := range pods {
		if was, ok := known[pod.Name]; ok && was == now(pod) {
			continue
		}
		if at := readyChanged(pod); !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

func isReady(pod *corev1.Pod) bool { return podstate.IsReady(pod) }

// readyChanged is when a pod became ready or not, zero if that is not known.
func readyChanged(pod *corev1.Pod) time.Time {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// endpointKey tells endpoints apart: those with one key are one endpoint that changed (util/endpointset.go hashEndpoint).
type endpointKey struct {
	addresses, hostname string
	pod                 types.NamespacedName
}

func keyOf(e *discoveryv1.Endpoint) endpointKey {
	addresses := e.Addresses
	if !slices.IsSorted(addresses) {
		addresses = slices.Sorted(slices.Values(addresses))
	}
	k := endpointKey{addresses: strings.Join(addresses, ",")}
	if e.Hostname != nil {
		k.hostname = *e.Hostname
	}
	if e.TargetRef != nil {
		k.pod = types.NamespacedName{Namespace: e.TargetRef.Namespace, Name: e.TargetRef.Name}
	}
	return k
}

// endpointSet is a set of endpoints that gives them away in the order in which they came. Of two with one key the
// second counts.
type endpointSet struct {
	order []endpointKey
	byKey map[endpointKey]*discoveryv1.Endpoint
}

func newEndpointSet() *endpointSet {
	return &endpointSet{byKey: map[endpointKey]*discoveryv1.Endpoint{}}
}

func (s *endpointSet) len() int { return len(s.byKey) }

func (s *endpointSet) insert(e *discoveryv1.Endpoint) {
	k := keyOf(e)
	if s.byKey[k] == nil {
		s.order = append(s.order, k)
	}
	s.byKey[k] = e
}

// get returns the endpoint with the key of another, nil if there is none.
func (s *endpointSet) get(e *discoveryv1.Endpoint) *discoveryv1.Endpoint { return s.byKey[keyOf(e)] }

// remove takes the endpoint with the key of another out.
func (s *endpointSet) remove(e *discoveryv1.Endpoint) { delete(s.byKey, keyOf(e)) }

// fill moves endpoints to the end of a slice until it has as many as it may.
func (s *endpointSet) fill(slice *discoveryv1.EndpointSlice, most int) {
	for len(s.order) > 0 && len(slice.Endpoints) < most {
		k := s.order[0]
		s.order = s.order[1:]
		if e := s.byKey[k]; e != nil {
			slice.Endpoints = append(slice.Endpoints, *e)
			delete(s.byKey, k)
		}
	}
}

// same reports whether two endpoints with one key are equal (util/controller_utils.go EndpointsEqualBeyondHash).
func same(a, b *discoveryv1.Endpoint) bool {
	return equal(a.NodeName, b.NodeName) && equal(a.Zone, b.Zone) && equal(a.Conditions.Ready, b.Conditions.Ready) &&
		equal(a.Conditions.Serving, b.Conditions.Serving) && equal(a.Conditions.Terminating, b.Conditions.Terminating) &&
		sameReference(a.TargetRef, b.TargetRef)
}

func equal[T comparable](a, b *T) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

// sameReference compares what is referred to, in any version.
func sameReference(a, b *corev1.ObjectReference) bool {
	if a == nil || b == nil {
		return a == b
	}
	first, second := *a, *b
	first.ResourceVersion, second.ResourceVersion = "", ""
	return first == second
}
