package scheduling

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

const (
	reasonNoVolume     = "node(s) didn't find available persistent volumes to bind"
	reasonVolumeNode   = "node(s) didn't match PersistentVolume's node affinity"
	reasonNoStorage    = "node(s) did not have enough free storage"
	reasonVolumeAbsent = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
)

// unboundClaim is a claim that is bound when its pod gets a node: to a volume that is there, or to one that is made.
type unboundClaim struct {
	claim *claim
	size  resource.Quantity
	// node is the one that was selected before, for which the volume is being made; chosen tells whether there is one.
	node      string
	chosen    bool
	matching  matching
	provision provision
}

func (s *storage) newUnbound(c *claim) *unboundClaim {
	pvc := c.now()
	u := &unboundClaim{claim: c, size: pvc.Spec.Resources.Requests[corev1.ResourceStorage]}
	u.node, u.chosen = pvc.Annotations[selectedNode]
	if !u.chosen {
		u.matching = newMatching(pvc, s.ofClass[classOfClaim(pvc)])
	}
	u.provision = s.newProvision(pvc)
	return u
}

// bindings are what binds the claims of a pod on one node.
type bindings struct {
	static  []staticBinding
	dynamic []dynamicBinding
}

type staticBinding struct {
	claim  *claim
	volume *volume
}

type dynamicBinding struct {
	claim *claim
	// on is what there is to make the volume of, nil if that does not count.
	on *capacity
}

// bind finds what would bind the group's claims on the node, or why they cannot be.
//
// Upstream: FindPodVolumes in plugins/volumebinding/binder.go.
func (v *volumes) bind(n *nodeState) (b bindings, reasons []string) {
	absent, elsewhere := v.checkBound(n)
	b, noVolume, noStorage := v.bindUnbound(n)
	for _, r := range []struct {
		holds  bool
		reason string
	}{{elsewhere, reasonVolumeNode}, {noVolume, reasonNoVolume}, {noStorage, reasonNoStorage}, {absent, reasonVolumeAbsent}} {
		if r.holds {
			reasons = append(reasons, r.reason)
		}
	}
	return b, reasons
}

// checkBound looks at the volumes of bound claims up to the first that does not exist or cannot be used on the node. A
// volume of an in-tree plugin is what it is to the CSI driver, where the node says that the driver took its place.
//
// Upstream: checkBoundClaims in plugins/volumebinding/binder.go.
func (v *volumes) checkBound(n *nodeState) (absent, elsewhere bool) {
	for _, bound := range v.bound {
		if bound == nil {
			return true, false
		}
		affinity := bound.affinity
		if bound.translated != nil && migratedOn(bound.plugin, v.storage.csiNodes[n.name]) {
			affinity = bound.translatedAffinity
		}
		if !reaches(affinity, n) {
			return false, true
		}
	}
	return false, false
}

// bindUnbound gives each unbound claim a volume: the smallest that there is, else one to be made.
func (v *volumes) bindUnbound(n *nodeState) (b bindings, noVolume, noStorage bool) {
	if len(v.unbound) == 0 {
		return b, false, false
	}
	var toMatch, toMake []*unboundClaim
	for _, u := range v.unbound {
		switch {
		case !u.chosen:
			toMatch = append(toMatch, u)
		case u.node != n.name:
			return b, true, false
		default:
			toMake = append(toMake, u)
		}
	}
	slices.SortStableFunc(toMatch, func(a, b *unboundClaim) int { return a.size.Cmp(b.size) })
	taken := map[*volume]bool{}
	for _, u := range toMatch {
		found := u.matching.on(n, taken)
		if found == nil {
			toMake = append(toMake, u)
			continue
		}
		taken[found] = true
		b.static = append(b.static, staticBinding{u.claim, found})
	}
	for _, u := range toMake {
		on, noVolume, noStorage := u.provision.on(n)
		if noVolume || noStorage {
			return b, noVolume, noStorage
		}
		b.dynamic = append(b.dynamic, dynamicBinding{u.claim, on})
	}
	return b, false, false
}

// migratedOn reports whether a node says that a CSI driver took the place of a plugin.
//
// Upstream: isPluginMigratedToCSIOnNode in plugins/volumebinding/binder.go.
func migratedOn(plugin string, csiNode *storagev1.CSINode) bool {
	return csiNode != nil && slices.Contains(strings.Split(csiNode.Annotations[corev1.MigratedPluginsAnnotationKey], ","), plugin)
}
