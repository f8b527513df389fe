package scheduling

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
)

// What changes mean to the plugins that look at volumes.

// mountsClaim reports whether the pods mount a claim; one that is made for its pod counts if ephemeral is set.
func (s *sleeper) mountsClaim(pvc *corev1.PersistentVolumeClaim, ephemeral bool) bool {
	return s.mounts != nil && slices.ContainsFunc(s.mounts.claims, func(m mountedClaim) bool {
		return m.name.Namespace == pvc.Namespace && m.name.Name == pvc.Name && (ephemeral || !m.ephemeral)
	})
}

// freesDisks is a pod that went, and has mounted a disk or claim of the pod. Upstream looks at pods of the same namespace.
//
// Upstream: isSchedulableAfterAssignedPodDeleted in plugins/volumerestrictions/volume_restrictions.go.
func freesDisks(_ *Cluster, s *sleeper, old, now *entry) bool {
	if now != nil || old.mounts == nil || s.mounts == nil {
		return false
	}
	return slices.ContainsFunc(s.mounts.disks, func(disk *corev1.Volume) bool {
		return slices.ContainsFunc(old.mounts.disks, func(other *corev1.Volume) bool { return conflict(disk, other) })
	}) || slices.ContainsFunc(s.mounts.claims, func(m mountedClaim) bool {
		return slices.ContainsFunc(old.mounts.claims, func(other mountedClaim) bool {
			return !m.ephemeral && !other.ephemeral && m.name.Name == other.name.Name
		})
	})
}

// freesUsers is a node that came, or went with pods on it, which use nothing then. Upstream does not look at nodes that go.
//
// Upstream: EventsToRegister in plugins/volumerestrictions/volume_restrictions.go.
func freesUsers(c *Cluster, _ *sleeper, old, now *corev1.Node) bool {
	return old == nil || now == nil && c.hasPods(old.Name)
}

// changesUse is a claim of the pod that came, or that others may use.
//
// Upstream: isSchedulableAfterPersistentVolumeClaimAdded in plugins/volumerestrictions/volume_restrictions.go.
func changesUse(_ *Cluster, s *sleeper, old, now *corev1.PersistentVolumeClaim) bool {
	return now != nil && s.mountsClaim(now, false) && (old == nil || !slices.Equal(old.Spec.AccessModes, now.Spec.AccessModes))
}

// detaches is a pod that went and mounted something, or one that came and has a volume attached that the pod needs.
// Upstream does not look at the latter.
//
// Upstream: isSchedulableAfterAssignedPodDeleted in plugins/nodevolumelimits/csi.go.
func detaches(c *Cluster, s *sleeper, old, now *entry) bool {
	switch {
	case now == nil:
		return old.mounts != nil
	case old != nil || now.mounts == nil || s.mounts == nil:
		return false
	}
	return slices.ContainsFunc([]bool{false, true}, func(onCSINode bool) bool {
		there := c.storage.attachmentsOf(now.mounts, onCSINode)
		return slices.ContainsFunc(c.storage.attachmentsOf(s.mounts, onCSINode), func(a attachment) bool { return slices.Contains(there, a) })
	})
}

// changesAttached is a claim that somebody mounts: which volumes are attached may be others. Upstream looks at those of the
// pod that come.
//
// Upstream: isSchedulableAfterPVCAdded in plugins/nodevolumelimits/csi.go.
func changesAttached(c *Cluster, s *sleeper, old, now *corev1.PersistentVolumeClaim) bool {
	pvc := now
	if pvc == nil {
		pvc = old
	}
	return s.mountsClaim(pvc, true) || c.storage.mounted(pvc)
}

// anyVolume is any PersistentVolume: one that goes may have been for a claim of the pod, which gets no other then. Of those,
// and of all that a claim is attached as, upstream's NodeVolumeLimits knows nothing.
//
// Upstream: EventsToRegister in plugins/volumebinding/volume_binding.go.
func anyVolume(*Cluster, *sleeper, *corev1.PersistentVolume, *corev1.PersistentVolume) bool {
	return true
}

// anyClass is any StorageClass: it tells which driver attaches a claim that has no volume yet. Upstream does not look at it.
func anyClass(*Cluster, *sleeper, *storagev1.StorageClass, *storagev1.StorageClass) bool { return true }

// raisesLimits is a CSINode that came or went, or has a new driver or plugin that migrated, or a higher limit or none where
// it had one. Upstream looks at those that come and at higher limits.
//
// Upstream: isSchedulableAfterCSINodeUpdated in plugins/nodevolumelimits/csi.go.
func raisesLimits(c *Cluster, s *sleeper, old, now *storagev1.CSINode) bool {
	if migrates(c, s, old, now) {
		return true
	}
	was, is := newCSINode(old), newCSINode(now)
	for driver := range is.drivers {
		if !was.drivers[driver] || is.limits[driver] > was.limits[driver] {
			return true
		}
	}
	for driver := range was.limits {
		if _, limited := is.limits[driver]; !limited {
			return true
		}
	}
	return false
}

// dropsDriver is a driver that need not be on nodes any more. Upstream does not look at it.
func dropsDriver(_ *Cluster, _ *sleeper, old, now *storagev1.CSIDriver) bool {
	return old != nil && isSet(old.Spec.PreventPodSchedulingIfMissing) && (now == nil || !isSet(now.Spec.PreventPodSchedulingIfMissing))
}

func isSet(b *bool) bool { return b != nil && *b }

// detached is a VolumeAttachment that went, or became one of something else.
//
// Upstream: isSchedulableAfterVolumeAttachmentDeleted in plugins/nodevolumelimits/csi.go.
func detached(_ *Cluster, _ *sleeper, old, now *storagev1.VolumeAttachment) bool {
	return old != nil && (now == nil || !equality.Semantic.DeepEqual(old.Spec, now.Spec))
}

// mountedClaimChanged is a claim of the pod that came or changed.
//
// Upstream: isSchedulableAfterPersistentVolumeClaimChange in plugins/volumebinding/volume_binding.go.
func mountedClaimChanged(_ *Cluster, s *sleeper, _, now *corev1.PersistentVolumeClaim) bool {
	return now != nil && s.mountsClaim(now, true)
}

// namedClaimChanged is the same for claims that were not made for the pod.
//
// Upstream: isSchedulableAfterPersistentVolumeClaimChange in plugins/volumezone/volume_zone.go.
func namedClaimChanged(_ *Cluster, s *sleeper, _, now *corev1.PersistentVolumeClaim) bool {
	return now != nil && s.mountsClaim(now, false)
}

// changesClass is a class that came, or makes volumes elsewhere, otherwise or at another time. All but where is fixed for
// the life of a class.
//
// Upstream: isSchedulableAfterStorageClassChange in plugins/volumebinding/volume_binding.go.
func changesClass(_ *Cluster, _ *sleeper, old, now *storagev1.StorageClass) bool {
	return now != nil && (old == nil || old.Provisioner != now.Provisioner ||
		!equality.Semantic.DeepEqual(old.VolumeBindingMode, now.VolumeBindingMode) ||
		!equality.Semantic.DeepEqual(old.AllowedTopologies, now.AllowedTopologies))
}

// migrates is a CSINode that came or went, or says that a driver took the place of another plugin. Upstream does not look at
// those that go.
//
// Upstream: isSchedulableAfterCSINodeChange in plugins/volumebinding/volume_binding.go.
func migrates(_ *Cluster, _ *sleeper, old, now *storagev1.CSINode) bool {
	return old == nil || now == nil ||
		old.Annotations[corev1.MigratedPluginsAnnotationKey] != now.Annotations[corev1.MigratedPluginsAnnotationKey]
}

// stopsCounting is a driver that does not tell how much it has any more. Upstream looks at drivers of volumes inside the pod,
// of which nothing is made.
//
// Upstream: isSchedulableAfterCSIDriverChange in plugins/volumebinding/volume_binding.go.
func stopsCounting(_ *Cluster, _ *sleeper, old, now *storagev1.CSIDriver) bool {
	return old != nil && isSet(old.Spec.StorageCapacity) && (now == nil || !isSet(now.Spec.StorageCapacity))
}

// moreCapacity is a CSIStorageCapacity that came, has more, or is of other nodes or of another class, which is fixed for its
// life.
//
// Upstream: isSchedulableAfterCSIStorageCapacityChange in plugins/volumebinding/volume_binding.go.
func moreCapacity(_ *Cluster, _ *sleeper, old, now *storagev1.CSIStorageCapacity) bool {
	if old == nil || now == nil {
		return now != nil
	}
	had, has := volumeLimit(old), volumeLimit(now)
	return has != nil && (had == nil || has.Value() > had.Value()) || old.StorageClassName != now.StorageClassName ||
		!equality.Semantic.DeepEqual(old.NodeTopology, now.NodeTopology)
}

// volumeLimit is the size of the largest volume that can be made of it, nil if it does not tell.
func volumeLimit(c *storagev1.CSIStorageCapacity) *resource.Quantity {
	if c.MaximumVolumeSize != nil {
		return c.MaximumVolumeSize
	}
	return c.Capacity
}

// changesZones is a volume that came, or is of other zones.
//
// Upstream: isSchedulableAfterPersistentVolumeChange in plugins/volumezone/volume_zone.go.
func changesZones(_ *Cluster, _ *sleeper, old, now *corev1.PersistentVolume) bool {
	return now != nil && (old == nil || !slices.EqualFunc(zonesOf(old), zonesOf(now), func(a, b zone) bool {
		return a.label == b.label && slices.Equal(a.values, b.values)
	}))
}

// cameDelayed is a class that came, and whose claims wait for their pod.
//
// Upstream: isSchedulableAfterStorageClassAdded in plugins/volumezone/volume_zone.go.
func cameDelayed(_ *Cluster, _ *sleeper, old, now *storagev1.StorageClass) bool {
	return old == nil && now.VolumeBindingMode != nil && *now.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}
