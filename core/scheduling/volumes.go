package scheduling

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/ephemeral"
)

// Annotations of claims and volumes by which the scheduler and the controllers of volumes tell each other things.
//
// Upstream: k8s.io/component-helpers/storage/volume/pv_helpers.go.
const (
	bindCompleted     = "pv.kubernetes.io/bind-completed"
	boundByController = "pv.kubernetes.io/bound-by-controller"
	selectedNode      = "volume.kubernetes.io/selected-node"
)

// volumes is how what a group mounts decides about nodes, at one moment of a run. It is nil for those that mount nothing.
type volumes struct {
	profile *profile
	storage *storage
	mounts  *mounts
	// barred is why no node at all can take the group.
	barred    verdict
	exclusive exclusive
	// bound are the volumes of bound claims, nil for one that does not exist, and unbound the claims that get a volume
	// with the node.
	bound   []*volume
	unbound []*unboundClaim
	zones   []zone
	// last is the last answer of bind, since a node is asked for several times in a row.
	last binding
	// assumed is how many assumptions of the run it has in it.
	assumed int
}

func (c *Cluster) newVolumes(p *profile, m *mounts) *volumes {
	if m == nil || !p.Filters[VolumeBinding] { // profiles have the others only with it
		return nil
	}
	s := &c.storage
	v := &volumes{profile: p, storage: s, mounts: m, assumed: s.assumptions.made}
	if plugin, reason := s.bars(p, m); reason != "" {
		v.barred = verdict{plugin: plugin, reasons: []string{reason}}
		return v
	}
	v.exclusive = newExclusive(m)
	for _, mounted := range m.claims {
		pvc := mounted.now()
		if !isBound(pvc) {
			v.unbound = append(v.unbound, s.newUnbound(mounted.claim))
			continue
		}
		found := s.volumes[pvc.Spec.VolumeName]
		v.bound = append(v.bound, found)
		if !mounted.ephemeral && found != nil {
			v.zones = append(v.zones, zonesOf(found.object)...)
		}
	}
	inBindingOrder(v.unbound)
	return v
}

// bars is why no node can take pods with these mounts, in the order of upstream's PreFilter plugins: VolumeRestrictions,
// VolumeBinding, VolumeZone. What VolumeZone says of claims that are not bound, VolumeBinding has said before.
//
// Upstream: PreFilter in plugins/volumerestrictions/volume_restrictions.go, plugins/volumebinding/volume_binding.go and
// plugins/volumezone/volume_zone.go.
func (s *storage) bars(p *profile, m *mounts) (plugin, reason string) {
	if plugin, reason := m.missing(p); reason != "" {
		return plugin, reason
	}
	for _, mounted := range m.claims {
		if reason := m.unusable(mounted); reason != "" {
			return VolumeBinding, reason
		}
	}
	for _, mounted := range m.claims {
		if pvc := mounted.now(); !isBound(pvc) && (pvc.Spec.VolumeName != "" || !s.waitsForConsumer(pvc)) {
			return VolumeBinding, "pod has unbound immediate PersistentVolumeClaims"
		}
	}
	for _, mounted := range m.claims {
		name := mounted.object.Spec.VolumeName
		if p.PreFilters[VolumeZone] && !mounted.ephemeral && name != "" && s.volumes[name] == nil {
			return VolumeZone, fmt.Sprintf("persistentvolume %q not found", name)
		}
	}
	return "", ""
}

// missing is what is said of a claim that does not exist, by the first plugin that looks.
func (m *mounts) missing(p *profile) (plugin, reason string) {
	for _, mounted := range m.claims {
		if mounted.ephemeral || mounted.object != nil {
			continue
		}
		plugin = VolumeBinding
		if p.PreFilters[VolumeRestrictions] {
			plugin = VolumeRestrictions
		}
		return plugin, fmt.Sprintf("persistentvolumeclaim %q not found", mounted.name.Name)
	}
	return "", ""
}

// unusable is why a claim cannot be mounted, whatever node.
//
// Upstream: podHasPVCs in plugins/volumebinding/volume_binding.go.
func (m *mounts) unusable(mounted mountedClaim) string {
	pvc := mounted.object
	switch {
	case pvc == nil:
		return fmt.Sprintf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", mounted.name.Name)
	case pvc.Status.Phase == corev1.ClaimLost:
		return fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", pvc.Name, pvc.Spec.VolumeName)
	case pvc.DeletionTimestamp != nil:
		return fmt.Sprintf("persistentvolumeclaim %q is being deleted", pvc.Name)
	case !mounted.ephemeral:
		return ""
	}
	if err := ephemeral.VolumeIsForPod(m.pod, pvc); err != nil {
		return err.Error()
	}
	return ""
}

// isBound reports whether a claim has its volume, and the controller of volumes has said so.
//
// Upstream: isPVCFullyBound in plugins/volumebinding/binder.go.
func isBound(pvc *corev1.PersistentVolumeClaim) bool {
	return pvc.Spec.VolumeName != "" && metav1.HasAnnotation(pvc.ObjectMeta, bindCompleted)
}

// waitsForConsumer reports whether a claim is bound only when a pod needs it.
//
// Upstream: IsDelayBindingMode in k8s.io/component-helpers/storage/volume/pv_helpers.go. The API server gives every class
// a mode.
func (s *storage) waitsForConsumer(pvc *corev1.PersistentVolumeClaim) bool {
	class := s.classes[classOfClaim(pvc)]
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

// refusal is why a node cannot take the group once pods on it were moved, in the order of upstream's plugins.
func (v *volumes) refusal(n *nodeState, m *moved) verdict {
	switch {
	case v == nil:
		return verdict{}
	case len(v.barred.reasons) > 0:
		return v.barred
	}
	if reason := v.restricted(n, m); reason != "" && v.profile.Filters[VolumeRestrictions] {
		return verdict{VolumeRestrictions, []string{reason}, true}
	}
	if reason := v.overLimit(n, m); reason != "" && v.profile.Filters[NodeVolumeLimits] {
		return verdict{NodeVolumeLimits, []string{reason}, true}
	}
	if _, reasons := v.bind(n); len(reasons) > 0 {
		return verdict{plugin: VolumeBinding, reasons: reasons}
	}
	if reason := v.outOfZone(n.node); reason != "" && v.profile.Filters[VolumeZone] {
		return verdict{plugin: VolumeZone, reasons: []string{reason}}
	}
	return verdict{}
}

// stale reports whether what was assumed since may have changed the answers for nodes that got no pod.
func (v *volumes) stale() bool {
	return v != nil && v.assumed != v.storage.assumptions.made && len(v.unbound)+len(v.exclusive.names) > 0
}

// demands reports whether it matters which pods are on other nodes.
func (v *volumes) demands() bool { return v != nil && len(v.exclusive.names) > 0 }

// scored reports whether nodes are told apart by what is left of storage: only claims that are yet to be bound do that.
func (v *volumes) scored() bool { return v != nil && len(v.unbound) > 0 }
