package scheduling

import (
	"slices"

	resourceapi "k8s.io/api/resource/v1"
)

const (
	// reasonStateless is what comes of PostFilter for pods that a plugin before DynamicResources has refused before nodes were
	// looked at: that one then finds no state of its own, and nobody after it is asked.
	reasonStateless    = "not found"
	reasonDeallocation = "deallocation of ResourceClaim completed"
	reasonDeletion     = "deletion of ResourceClaim completed"
)

// Release is a claim for devices that a pod cannot use where they are, and that nobody else uses: its devices are given
// back, so that the pod may get others. One that was made for extended resources goes.
type Release struct {
	Claim *resourceapi.ResourceClaim
	Goes  bool
}

func (r *Release) reason() string {
	switch {
	case r == nil:
		return ""
	case r.Goes:
		return reasonDeletion
	}
	return reasonDeallocation
}

// releases is the claim that is given back for a pod that no node can take. Of several upstream takes any, this the first.
//
// Upstream: deallocateOrDeletePodClaims in plugins/dynamicresources/dynamicresources.go.
func (p *prospects) releases(nodes []*nodeState) *Release {
	a := p.devices
	if a == nil || p.isBarred() {
		return nil
	}
	missed := map[int]bool{}
	for at, n := range nodes {
		if found := a.known[n]; found != nil && p.refused[at].plugin == DynamicResources {
			for _, i := range found.missed {
				missed[i] = true
			}
		}
	}
	leftover := a.special != nil && a.special.Name != specialInMemory
	for i, claim := range a.claims {
		if !missed[i] || claim == a.special {
			continue
		}
		others := slices.ContainsFunc(claim.Status.ReservedFor, func(r resourceapi.ResourceClaimConsumerReference) bool { return r.UID != a.needs.pod.UID })
		if others {
			continue
		}
		return &Release{Claim: claim, Goes: servedBy(claim) == a.needs.pod.UID}
	}
	if leftover {
		return &Release{Claim: a.special, Goes: true}
	}
	return nil
}
