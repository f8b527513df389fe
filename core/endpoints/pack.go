package endpoints

import (
	"cmp"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// pack spreads the endpoints of a group over its slices, with as few changes as it can.
//
// Upstream: reconciler.go reconcileByPortMapping.
func (s *slicing) pack(g *group, family discoveryv1.AddressType) changes {
	var c changes

	// 1. Endpoints stay where they are; those that are not desired any more go.
	var unchanged []*discoveryv1.EndpointSlice
	for _, slice := range g.existing {
		kept, updated := keep(slice, g.desired)
		labels, relabelled := labelsOf(slice, s.Service)
		switch changed := updated || len(kept) != len(slice.Endpoints); {
		case changed && len(kept) == 0:
			c.remove = append(c.remove, slice)
		case changed:
			slice = slice.DeepCopy()
			slice.Endpoints, slice.Labels = kept, labels
			c.update = append(c.update, slice)
		case relabelled:
			slice = slice.DeepCopy()
			slice.Labels = labels
			c.update = append(c.update, slice)
		default:
			unchanged = append(unchanged, slice)
		}
	}

	// 2. New ones go to slices that change anyway, the fullest first.
	slices.SortStableFunc(c.update, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(len(b.Endpoints), len(a.Endpoints)) })
	for _, slice := range c.update {
		g.desired.fill(slice, maxPerSlice)
	}

	// 3. The rest goes to the one slice that it fits into best, or to new ones.
	for g.desired.len() > 0 {
		if i := bestFit(unchanged, g.desired.len()); i >= 0 {
			slice := unchanged[i].DeepCopy()
			unchanged = slices.Delete(unchanged, i, i+1)
			g.desired.fill(slice, maxPerSlice)
			c.update = append(c.update, slice)
			continue
		}
		slice := s.newSlice(family, slices.Clone(g.ports))
		g.desired.fill(slice, maxPerSlice)
		c.create = append(c.create, slice)
	}
	return c
}

// bestFit is the place of the slice that has the least room left with n endpoints more, -1 if none has room for them or if they fill a
// slice of their own (utils.go getSliceToFill).
func bestFit(among []*discoveryv1.EndpointSlice, n int) int {
	best, least := -1, maxPerSlice
	if n >= maxPerSlice {
		return best
	}
	for i, slice := range among {
		if left := maxPerSlice - n - len(slice.Endpoints); left >= 0 && left < least {
			best, least = i, left
		}
	}
	return best
}

// keep returns what a slice's endpoints are to be, without those that are not desired, and whether one of them changed. It takes them from
// the desired ones.
func keep(slice *discoveryv1.EndpointSlice, desired *endpointSet) (kept []discoveryv1.Endpoint, updated bool) {
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		want := desired.get(e)
		if want == nil {
			continue
		}
		kept = append(kept, *want)
		updated = updated || !same(want, e)
		desired.remove(e)
	}
	return kept, updated
}
