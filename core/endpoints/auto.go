package endpoints

import (
	"fmt"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/endpointslice/trafficdist"
)

// overload is by how much more than its share any endpoint may get (topologycache/topologycache.go overloadThreshold).
const overload = 0.2

// allocation is how many endpoints serve a zone.
type allocation struct {
	minimum, maximum int
	desired          float64
}

// hintZones gives each zone as many of a family's endpoints as its share is, or none at all any hints.
//
// Upstream: topologycache/topologycache.go AddHints.
func (s *slicing) hintZones(c *changes, family discoveryv1.AddressType, existing []*discoveryv1.EndpointSlice) {
	// 1. How many endpoints should serve each zone?
	unchanged := c.unchanged(existing)
	allocations, why := s.Zones.allocate(countReady(slices.Concat(c.create, c.update, unchanged)))
	if why != "" {
		s.withoutHints(c, family, existing, why)
		return
	}

	// 2. Slices that are not right are done again, the others count.
	byZone, redone := map[string]int{}, map[*discoveryv1.EndpointSlice]*discoveryv1.EndpointSlice{}
	open := slices.Concat(c.create, c.update)
	for _, slice := range unchanged {
		hints := hintsOf(slice, byZone, allocations)
		if hints == nil {
			redone[slice] = slice.DeepCopy()
			open = append(open, redone[slice])
		}
		for zone, n := range hints {
			byZone[zone] += n
		}
	}

	// 3. Each endpoint serves its own zone.
	for _, e := range readyOf(open) {
		if e.Zone == nil || *e.Zone == "" {
			s.withoutHints(c, family, existing, noZoneSpecified)
			return
		}
		byZone[*e.Zone]++
		e.Hints = forZone(*e.Zone)
	}

	// 4. Some serve another, that has too few.
	giving, receiving := imbalance(allocations, byZone)
	for zone, n := range redistribute(open, giving, receiving) {
		byZone[zone] += n
	}
	if len(byZone) == 0 {
		s.withoutHints(c, family, existing, noHintsAllocated)
		return
	}
	for _, slice := range unchanged {
		if done := redone[slice]; done != nil && !apiequality.Semantic.DeepEqual(slice.Endpoints, done.Endpoints) {
			c.update = append(c.update, done)
		}
	}
	if !s.hinted {
		s.hintsChanged(corev1.EventTypeNormal, reasonEnabled, hintsEnabled, family)
	}
	s.hinted = true
}

// withoutHints takes all hints of a family away.
func (s *slicing) withoutHints(c *changes, family discoveryv1.AddressType, existing []*discoveryv1.EndpointSlice, why string) {
	s.hintsChanged(corev1.EventTypeWarning, reasonDisabled, why, family)
	s.hinted = false
	c.create, c.update, _ = trafficdist.ReconcileHints(nil, c.create, c.update, c.unchanged(existing))
}

// allocate spreads endpoints over zones, or says why it cannot.
//
// Upstream: topologycache/topologycache.go getAllocations.
func (z Zones) allocate(endpoints int) (map[string]allocation, string) {
	if len(z.ratios) < 2 {
		return nil, insufficientNodes
	}
	counts := fmt.Sprintf(" (%d endpoints, %d zones)", endpoints, len(z.ratios))
	if len(z.ratios) > endpoints {
		return nil, insufficientEndpoints + counts
	}
	total, out := 0, map[string]allocation{}
	for zone, ratio := range z.ratios {
		desired := ratio * float64(endpoints)
		minimum := int(math.Ceil(desired * (1 / (1 + overload))))
		out[zone] = allocation{minimum: minimum, desired: max(desired, float64(minimum))}
		total += minimum
	}
	if total > endpoints {
		return nil, minimumTooHigh + counts
	}
	for zone, a := range out {
		a.maximum = a.minimum + endpoints - total
		out[zone] = a
	}
	return out, ""
}

// hintsOf counts a slice's hints by zone, beside those that are allocated already. It is nil if they are not right: one is missing, is of a zone
// that does not count, or there are more than a zone can take.
//
// Upstream: topologycache/utils.go getHintsByZone.
func hintsOf(slice *discoveryv1.EndpointSlice, allocated map[string]int, allocations map[string]allocation) map[string]int {
	hints := map[string]int{}
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		if !endpointReady(e) {
			continue
		}
		if e.Hints == nil || len(e.Hints.ForZones) == 0 {
			return nil
		}
		for _, zone := range e.Hints.ForZones {
			if _, ok := allocations[zone.Name]; !ok {
				return nil
			}
			hints[zone.Name]++
		}
	}
	for zone, n := range hints {
		if n+allocated[zone] > allocations[zone].maximum {
			return nil
		}
	}
	return hints
}

// imbalance is how many endpoints zones have too many, and how many too few, such that they can be given from one to
// the other.
//
// Upstream: topologycache/utils.go getGivingAndReceivingZones.
func imbalance(allocations map[string]allocation, allocated map[string]int) (giving, receiving map[string]int) {
	surplus, need := map[string]float64{}, map[string]float64{}
	for zone, a := range allocations {
		switch has := float64(allocated[zone]); {
		case has > a.desired:
			surplus[zone] = has - a.desired
		case has < a.desired:
			need[zone] = a.desired - has
		}
	}
	giving, receiving = map[string]int{}, map[string]int{}
	for {
		from, more := most(surplus)
		to, less := most(need)
		if from == "" || to == "" || more < 1 && less < 1 || more < 0.5 || less < 0.5 {
			return giving, receiving
		}
		giving[from]++
		surplus[from]--
		receiving[to]++
		need[to]--
	}
}

// most is the zone with the greatest number, empty if none is above 0 (topologycache/utils.go getMost).
func most(zones map[string]float64) (zone string, number float64) {
	for _, z := range sortedKeys(zones) {
		if zones[z] > number {
			zone, number = z, zones[z]
		}
	}
	return zone, number
}

// redistribute lets endpoints of zones that give serve those that receive, and returns by how many each zone's number
// changes.
//
// Upstream: topologycache/utils.go redistributeHints.
func redistribute(open []*discoveryv1.EndpointSlice, giving, receiving map[string]int) map[string]int {
	moved := map[string]int{}
	for _, e := range readyOf(open) {
		from := *e.Zone
		if giving[from] == 0 {
			continue
		}
		for _, to := range sortedKeys(receiving) {
			if receiving[to] == 0 {
				continue
			}
			e.Hints = forZone(to)
			giving[from]--
			receiving[to]--
			moved[from]--
			moved[to]++
			break
		}
	}
	return moved
}

func forZone(zone string) *discoveryv1.EndpointHints {
	return &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}}
}

// readyOf are the ready endpoints of slices, which may be altered.
func readyOf(open []*discoveryv1.EndpointSlice) []*discoveryv1.Endpoint {
	var out []*discoveryv1.Endpoint
	for _, slice := range open {
		for i := range slice.Endpoints {
			if e := &slice.Endpoints[i]; endpointReady(e) {
				out = append(out, e)
			}
		}
	}
	return out
}

func countReady(all []*discoveryv1.EndpointSlice) int { return len(readyOf(all)) }
