package endpoints

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/endpointslice/trafficdist"
)

// Why hints of topology mode Auto are not given (topologycache/event.go).
const (
	noZoneSpecified       = "One or more endpoints do not have a zone specified"
	noHintsAllocated      = "No hints allocated for zones"
	hintsEnabled          = "Topology Aware Hints has been enabled"
	hintsDisabled         = "Topology Aware Hints has been disabled"
	insufficientNodes     = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
	insufficientEndpoints = "Insufficient number of endpoints"
	minimumTooHigh        = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold"

	reasonEnabled  = "TopologyAwareHintsEnabled"
	reasonDisabled = "TopologyAwareHintsDisabled"
)

// WantsZones reports whether a Service's endpoints get hints by the zones' shares (utils.go hintsEnabled).
func WantsZones(svc *corev1.Service) bool {
	mode, ok := svc.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	if !ok {
		mode = svc.Annotations[corev1.AnnotationTopologyMode]
	}
	return mode == "Auto" || mode == "auto"
}

// distribution is how a Service's traffic is to be spread, nil if any endpoint will do (reconciler.go validTrafficDistribution).
func distribution(svc *corev1.Service) *string {
	d := svc.Spec.TrafficDistribution
	if d == nil || WantsZones(svc) {
		return nil
	}
	switch *d {
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode:
		return d
	}
	return nil
}

// hint gives the endpoints of a family the hints that they should have: to changes it adds the slices that change by that only.
func (s *slicing) hint(c *changes, family discoveryv1.AddressType, existing []*discoveryv1.EndpointSlice) {
	if WantsZones(s.Service) {
		s.hintZones(c, family, existing)
		return
	}
	d := distribution(s.Service)
	if s.hinted && d == nil {
		s.hintsChanged(corev1.EventTypeWarning, reasonDisabled, hintsDisabled, family)
		s.hinted = false
	}
	// With nothing to prefer, this takes hints away.
	c.create, c.update, _ = trafficdist.ReconcileHints(d, c.create, c.update, c.unchanged(existing))
}

// unchanged are the slices that are neither updated nor deleted, in a list of its own.
func (c *changes) unchanged(existing []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	changed := map[string]bool{}
	for _, slice := range slices.Concat(c.update, c.remove) {
		changed[slice.Name] = true
	}
	return slices.DeleteFunc(slices.Clone(existing), func(slice *discoveryv1.EndpointSlice) bool { return changed[slice.Name] })
}

func (s *slicing) hintsChanged(eventType, reason, message string, family discoveryv1.AddressType) {
	message += ", addressType: " + string(family)
	n := s.about().Normal(reason, message)
	n.Type = eventType
	s.notices = append(s.notices, *n)
}

func hasZoneHints(slice *discoveryv1.EndpointSlice) bool {
	return slices.ContainsFunc(slice.Endpoints, func(e discoveryv1.Endpoint) bool { return e.Hints != nil && len(e.Hints.ForZones) > 0 })
}

func endpointReady(e *discoveryv1.Endpoint) bool {
	return e.Conditions.Ready != nil && *e.Conditions.Ready
}
