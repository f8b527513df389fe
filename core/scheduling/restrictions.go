package scheduling

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

const (
	reasonDisk      = "node(s) had no available disk"
	reasonExclusive = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"
)

// exclusive are the claims of a pod that one pod at a time may use, and how many of them some pod on a node uses.
type exclusive struct {
	names []string
	inUse int
}

// newExclusive follows PreFilter in plugins/volumerestrictions/volume_restrictions.go. A pod on a node that is gone uses
// nothing, as upstream's snapshot of the nodes has it.
func newExclusive(m *mounts) exclusive {
	var x exclusive
	for _, mounted := range m.claims {
		if mounted.ephemeral || !slices.Contains(mounted.object.Spec.AccessModes, corev1.ReadWriteOncePod) ||
			slices.Contains(x.names, mounted.name.Name) {
			continue
		}
		x.names = append(x.names, mounted.name.Name)
		for user := range mounted.users {
			if user.on.node != nil {
				x.inUse++
				break
			}
		}
	}
	return x
}

// conflicts reports whether a claim is in use once pods were moved. As upstream does, it looks at the names of the claims that
// they mount, and not at their namespaces.
func (x *exclusive) conflicts(m *moved) bool {
	inUse := x.inUse
	if m != nil {
		inUse += x.usedBy(m.come) - x.usedBy(m.gone)
	}
	return inUse > 0
}

// usedBy counts the claims that pods mount.
func (x *exclusive) usedBy(pods []*entry) (n int) {
	for _, e := range pods {
		if e.mounts == nil {
			continue
		}
		for _, mounted := range e.mounts.claims {
			if !mounted.ephemeral && slices.Contains(x.names, mounted.name.Name) {
				n++
			}
		}
	}
	return n
}

// restricted refuses nodes with a pod that has mounted a disk of this one, and all nodes while another pod has a claim
// that is for one pod.
//
// Upstream: Filter in plugins/volumerestrictions/volume_restrictions.go.
func (v *volumes) restricted(n *nodeState, m *moved) string {
	if len(v.mounts.disks) == 0 && v.exclusive.inUse == 0 { // upstream then never looks at moved pods either
		return ""
	}
	for _, disk := range v.mounts.disks {
		for e := range m.mounting(n) {
			for _, other := range e.mounts.disks {
				if conflict(disk, other) {
					return reasonDisk
				}
			}
		}
	}
	if v.exclusive.conflicts(m) {
		return reasonExclusive
	}
	return ""
}

// conflict reports whether two pods on a node may not mount these two volumes.
//
// Upstream: isVolumeConflict in plugins/volumerestrictions/volume_restrictions.go.
func conflict(a, b *corev1.Volume) bool {
	switch {
	case a.GCEPersistentDisk != nil && b.GCEPersistentDisk != nil:
		a, b := a.GCEPersistentDisk, b.GCEPersistentDisk
		return a.PDName == b.PDName && oneWrites(a.ReadOnly, b.ReadOnly)
	case a.AWSElasticBlockStore != nil && b.AWSElasticBlockStore != nil:
		return a.AWSElasticBlockStore.VolumeID == b.AWSElasticBlockStore.VolumeID
	case a.ISCSI != nil && b.ISCSI != nil:
		return a.ISCSI.IQN == b.ISCSI.IQN && oneWrites(a.ISCSI.ReadOnly, b.ISCSI.ReadOnly)
	case a.RBD != nil && b.RBD != nil:
		a, b := a.RBD, b.RBD
		monitor := func(m string) bool { return slices.Contains(b.CephMonitors, m) }
		return a.RBDPool == b.RBDPool && a.RBDImage == b.RBDImage && oneWrites(a.ReadOnly, b.ReadOnly) &&
			slices.ContainsFunc(a.CephMonitors, monitor)
	}
	return false
}

func oneWrites(readOnly, otherReadOnly bool) bool { return !readOnly || !otherReadOnly }
