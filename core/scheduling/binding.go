package scheduling

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
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
		u.matching = s.newMatching(pvc)
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
	*unboundClaim
	volume *volume
}

type dynamicBinding struct {
	*unboundClaim
	// on is what there is to make the volume of, nil if that does not count.
	on *capacity
}

// binding is what binds the claims on a node, or why nothing does.
type binding struct {
	node     *nodeState
	bindings bindings
	reasons  []string
}

// bind finds what would bind the group's claims on the node, or why they cannot be.
//
// Upstream: FindPodVolumes in plugins/volumebinding/binder.go.
func (v *volumes) bind(n *nodeState) (b bindings, reasons []string) {
	if v.last.node == n {
		return v.last.bindings, v.last.reasons
	}
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
	v.last = binding{n, b, reasons}
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
		if bound.translated != nil && v.storage.csiNodes[n.name].hasMigrated(bound.plugin) {
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
	for _, u := range v.unbound {
		if u.chosen && u.node != n.name {
			return b, true, false
		}
	}
	for _, u := range v.unbound {
		if u.chosen {
			continue
		}
		if found := u.matching.on(n, b.static); found != nil {
			b.static = append(b.static, staticBinding{u, found})
		}
	}
	for _, u := range v.unbound {
		if slices.ContainsFunc(b.static, func(s staticBinding) bool { return s.unboundClaim == u }) {
			continue
		}
		on, noVolume, noStorage := u.provision.on(n)
		if noVolume || noStorage {
			return b, noVolume, noStorage
		}
		b.dynamic = append(b.dynamic, dynamicBinding{u, on})
	}
	return b, false, false
}

// inBindingOrder puts first the claims whose volumes are being made for a node, and then the smallest, so that large volumes
// are left for large claims.
func inBindingOrder(unbound []*unboundClaim) {
	slices.SortStableFunc(unbound, func(a, b *unboundClaim) int {
		switch {
		case a.chosen && b.chosen:
			return 0
		case a.chosen:
			return -1
		case b.chosen:
			return 1
		}
		return a.size.Cmp(b.size)
	})
}

// hasMigrated reports whether the node says that a CSI driver took the place of a plugin.
//
// Upstream: isPluginMigratedToCSIOnNode in plugins/volumebinding/binder.go.
func (c *csiNode) hasMigrated(plugin string) bool {
	return c != nil && slices.Contains(c.migrated, plugin)
}
