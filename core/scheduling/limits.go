package scheduling

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/ephemeral"
)

const reasonAttachLimit = "node(s) exceed max volume count"

// attached is what is attached to a node, as far as is known from its pods and from VolumeAttachments.
type attached struct {
	// version is that of the storage.
	version uint64
	// byPods are the volumes of pods, and count all by driver.
	byPods map[string]bool
	count  map[string]int
}

// overLimit refuses nodes to which the pod's volumes cannot be attached: the driver is required and not there, or has as
// many volumes as it can attach.
//
// Upstream: Filter in plugins/nodevolumelimits/csi.go, with the feature gate VolumeLimitScaling, which is on.
func (v *volumes) overLimit(n *nodeState, m *moved) string {
	s := v.storage
	csi := s.csiNodes[n.name]
	wanted := s.attachmentsOf(v.mounts, csi != nil)
	for _, a := range wanted {
		if s.needsDriver(a.driver) && (csi == nil || !csi.drivers[a.driver]) {
			return a.driver + " CSI driver is not installed on the node"
		}
	}
	if len(wanted) == 0 || csi == nil || len(csi.limits) == 0 {
		return ""
	}
	there := s.attachedOn(n, m)
	for i, a := range wanted {
		limit, known := csi.limits[a.driver]
		if known && there.adds(wanted, i) && there.count[a.driver]+there.more(wanted[:i+1], a.driver) > limit {
			return reasonAttachLimit
		}
	}
	return ""
}

// adds reports whether one of the attachments that are wanted is neither there nor wanted before.
func (there *attached) adds(wanted []attachment, i int) bool {
	return !there.byPods[wanted[i].id] && !slices.Contains(wanted[:i], wanted[i])
}

// more is how many attachments of a driver are added.
func (there *attached) more(wanted []attachment, driver string) (n int) {
	for i, a := range wanted {
		if a.driver == driver && there.adds(wanted, i) {
			n++
		}
	}
	return n
}

// needsDriver reports whether a driver says that it must be on the nodes of pods that use it.
//
// Upstream: checkCSIDriverOnNode in plugins/nodevolumelimits/csi.go.
func (s *storage) needsDriver(name string) bool {
	driver := s.drivers[name]
	return driver != nil && driver.Spec.PreventPodSchedulingIfMissing != nil && *driver.Spec.PreventPodSchedulingIfMissing
}

// csiNode is what a CSINode says.
type csiNode struct {
	object  *storagev1.CSINode
	drivers map[string]bool
	// limits are the numbers of volumes that the drivers can attach, without those that do not say.
	limits map[string]int
	// migrated are the in-tree plugins of which the node says that a driver took their place.
	migrated []string
}

// of is the object, nil for none.
func (c *csiNode) of() *storagev1.CSINode {
	if c == nil {
		return nil
	}
	return c.object
}

func newCSINode(object *storagev1.CSINode) *csiNode {
	c := &csiNode{
		object: object, drivers: map[string]bool{}, limits: map[string]int{},
		migrated: strings.Split(object.Annotations[corev1.MigratedPluginsAnnotationKey], ","),
	}
	for i := range object.Spec.Drivers {
		d := &object.Spec.Drivers[i]
		c.drivers[d.Name] = true
		if d.Allocatable != nil && d.Allocatable.Count != nil {
			c.limits[d.Name] = int(*d.Allocatable.Count)
		}
	}
	return c
}

// attachedOn is what is attached to a node once pods on it were moved. It is kept while nothing changes.
func (s *storage) attachedOn(n *nodeState, m *moved) *attached {
	if m.none() && n.attached != nil && n.attached.version == s.version {
		return n.attached
	}
	found := &attached{version: s.version, byPods: map[string]bool{}, count: map[string]int{}}
	for e := range m.mounting(n) {
		for _, a := range s.attachmentsOf(e.mounts, s.csiNodes[n.name] != nil) {
			if !found.byPods[a.id] {
				found.byPods[a.id] = true
				found.count[a.driver]++
			}
		}
	}
	others := map[string]bool{}
	for _, va := range s.attachments[n.name] {
		if id := s.attachmentID(va); id != "" && !found.byPods[id] && !others[id] {
			others[id] = true
			found.count[va.Spec.Attacher]++
		}
	}
	if m.none() {
		n.attached = found
	}
	return found
}

// attachmentID names the volume that a VolumeAttachment is of, empty if that cannot be told.
//
// Upstream: getNodeVolumeAttachmentInfo in plugins/nodevolumelimits/csi.go.
func (s *storage) attachmentID(va *storagev1.VolumeAttachment) string {
	if va.Spec.Attacher == "" || va.Spec.Source.PersistentVolumeName == nil {
		return ""
	}
	v := s.volumes[*va.Spec.Source.PersistentVolumeName]
	if v == nil || v.object.Spec.CSI == nil {
		return ""
	}
	return va.Spec.Attacher + "/" + v.object.Spec.CSI.VolumeHandle
}

// attachmentsOf are the volumes that pods with these mounts need attached to a node that has a CSINode, or none. A claim
// that is missing, or was not made for the pod, is nobody's.
//
// Upstream: filterAttachableVolumes in plugins/nodevolumelimits/csi.go.
func (s *storage) attachmentsOf(m *mounts, onCSINode bool) []attachment {
	if m.attachedAt != s.version {
		m.attachedAt, m.attached = s.version, map[bool][]attachment{}
	}
	found, known := m.attached[onCSINode]
	if known {
		return found
	}
	for _, mounted := range m.claims {
		pvc := mounted.object
		if pvc == nil || mounted.ephemeral && ephemeral.VolumeIsForPod(m.pod, pvc) != nil {
			continue
		}
		if driver, handle := s.driverOf(pvc, onCSINode); driver != "" && handle != "" {
			found = append(found, attachment{driver + "/" + handle, driver})
		}
	}
	if onCSINode {
		found = append(found, m.inline...)
	}
	m.attached[onCSINode] = found
	return found
}

// driverOf is the CSI driver that mounts a claim's volume and the name that it has for it.
//
// Upstream: getCSIDriverInfo in plugins/nodevolumelimits/csi.go.
func (s *storage) driverOf(pvc *corev1.PersistentVolumeClaim, onCSINode bool) (driver, handle string) {
	v := s.volumes[pvc.Spec.VolumeName]
	switch {
	case v == nil:
		return s.provisionerOf(pvc, onCSINode)
	case v.object.Spec.CSI != nil:
		return v.object.Spec.CSI.Driver, v.object.Spec.CSI.VolumeHandle
	case v.translated != nil && onCSINode:
		return v.translated.Spec.CSI.Driver, v.translated.Spec.CSI.VolumeHandle
	}
	return "", ""
}

// provisionerOf is the driver that will mount the volume of a claim that has none yet, and a name that no volume has.
//
// Upstream: getCSIDriverInfoFromSC in plugins/nodevolumelimits/csi.go.
func (s *storage) provisionerOf(pvc *corev1.PersistentVolumeClaim, onCSINode bool) (driver, handle string) {
	class := s.classes[classOfClaim(pvc)]
	if class == nil {
		return "", ""
	}
	driver, handle = class.Provisioner, "\x00"+pvc.Namespace+"/"+pvc.Name
	if !translator.IsMigratableIntreePluginByName(driver) {
		return driver, handle
	}
	if !onCSINode || !isMigrated(driver) {
		return "", ""
	}
	if driver, err := translator.GetCSINameFromInTreeName(driver); err == nil {
		return driver, handle
	}
	return "", ""
}
