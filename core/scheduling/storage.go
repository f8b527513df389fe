package scheduling

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// storage is what the cluster has of volumes, what pods mount of it, and what a run assumes about it.
type storage struct {
	claims  map[types.NamespacedName]*claim
	volumes map[string]*volume
	// ofClass are the volumes by storage class, and sorted the same in order of size, of those classes that were asked for.
	ofClass    map[string]map[string]*volume
	sorted     map[string]*byLabel[*volume]
	classes    map[string]*storageClass
	csiNodes   map[string]*csiNode
	drivers    map[string]*storagev1.CSIDriver
	capacities map[types.NamespacedName]*capacity
	// attachments are by node and name, attachedTo the nodes by name.
	attachments map[string]map[string]*storagev1.VolumeAttachment
	attachedTo  map[string]string
	// mountings are what pods mount, by key.
	mountings map[string]*mounts
	// version moves whenever an object changes.
	version uint64
	// assumptions are those of the present run.
	assumptions assumptions
}

// claim is a PersistentVolumeClaim, or the name of one that pods mount and that is not there.
type claim struct {
	name   types.NamespacedName
	object *corev1.PersistentVolumeClaim
	// assumed is the object as a run has left it, nil if it was left alone.
	assumed *corev1.PersistentVolumeClaim
	// users are the pods on nodes that name it, without those for which it was made.
	users map[*entry]bool
	// refs counts the mounts that name it.
	refs int
}

func (c *claim) now() *corev1.PersistentVolumeClaim {
	if c.assumed != nil {
		return c.assumed
	}
	return c.object
}

// capacity is a CSIStorageCapacity. Its selector is nil if no node has access.
type capacity struct {
	*storagev1.CSIStorageCapacity
	selector labels.Selector
}

// of is the object, nil for none.
func (c *capacity) of() *storagev1.CSIStorageCapacity {
	if c == nil {
		return nil
	}
	return c.CSIStorageCapacity
}

func newStorage() storage {
	return storage{
		claims:      map[types.NamespacedName]*claim{},
		volumes:     map[string]*volume{},
		ofClass:     map[string]map[string]*volume{},
		sorted:      map[string]*byLabel[*volume]{},
		classes:     map[string]*storageClass{},
		csiNodes:    map[string]*csiNode{},
		drivers:     map[string]*storagev1.CSIDriver{},
		capacities:  map[types.NamespacedName]*capacity{},
		attachments: map[string]map[string]*storagev1.VolumeAttachment{},
		attachedTo:  map[string]string{},
		mountings:   map[string]*mounts{},
		// What was never read is of version 0.
		version: 1,
	}
}

// SetClaim adds a PersistentVolumeClaim or replaces the one of its name.
func (c *Cluster) SetClaim(pvc *corev1.PersistentVolumeClaim) {
	c.storage.version++
	found := c.storage.claimNamed(types.NamespacedName{Namespace: pvc.Namespace, Name: pvc.Name})
	old := found.object
	found.object = pvc
	tell(c, claimHint, old, pvc)
}

// DeleteClaim removes a PersistentVolumeClaim.
func (c *Cluster) DeleteClaim(namespace, name string) {
	if found := c.storage.claims[types.NamespacedName{Namespace: namespace, Name: name}]; found != nil && found.object != nil {
		c.storage.version++
		old := found.object
		found.object = nil
		tell(c, claimHint, old, nil)
		c.storage.dropUnused(found)
	}
}

// mounted reports whether pods mount a claim.
func (s *storage) mounted(pvc *corev1.PersistentVolumeClaim) bool {
	found := s.claims[types.NamespacedName{Namespace: pvc.Namespace, Name: pvc.Name}]
	return found != nil && found.refs > 0
}

func (s *storage) claimNamed(name types.NamespacedName) *claim {
	found := s.claims[name]
	if found == nil {
		found = &claim{name: name, users: map[*entry]bool{}}
		s.claims[name] = found
	}
	return found
}

// dropUnused forgets a claim that has no object and that nobody mounts.
func (s *storage) dropUnused(c *claim) {
	if c.object == nil && c.refs == 0 {
		delete(s.claims, c.name)
	}
}

// SetVolume adds a PersistentVolume or replaces the one of its name.
func (c *Cluster) SetVolume(pv *corev1.PersistentVolume) {
	old := c.storage.removeVolume(pv.Name)
	c.storage.version++
	v, class := newVolume(pv), classOfVolume(pv)
	c.storage.volumes[pv.Name] = v
	if c.storage.ofClass[class] == nil {
		c.storage.ofClass[class] = map[string]*volume{}
	}
	c.storage.ofClass[class][pv.Name] = v
	delete(c.storage.sorted, class)
	tell(c, volumeHint, old, pv)
}

// DeleteVolume removes a PersistentVolume.
func (c *Cluster) DeleteVolume(name string) {
	if old := c.storage.removeVolume(name); old != nil {
		tell(c, volumeHint, old, nil)
	}
}

// removeVolume takes out the volume of a name and returns it, nil if there is none.
func (s *storage) removeVolume(name string) *corev1.PersistentVolume {
	v := s.volumes[name]
	if v == nil {
		return nil
	}
	s.version++
	delete(s.volumes, name)
	class := classOfVolume(v.object)
	delete(s.sorted, class)
	if delete(s.ofClass[class], name); len(s.ofClass[class]) == 0 {
		delete(s.ofClass, class)
	}
	return v.object
}

// SetStorageClass adds a StorageClass or replaces the one of its name.
func (c *Cluster) SetStorageClass(class *storagev1.StorageClass) {
	c.storage.version++
	old := c.storage.classes[class.Name].of()
	c.storage.classes[class.Name] = newStorageClass(class)
	tell(c, classHint, old, class)
}

// DeleteStorageClass removes a StorageClass.
func (c *Cluster) DeleteStorageClass(name string) {
	c.storage.version++
	old := c.storage.classes[name].of()
	delete(c.storage.classes, name)
	if old != nil {
		tell(c, classHint, old, nil)
	}
}

// SetCSINode adds a CSINode or replaces the one of its name.
func (c *Cluster) SetCSINode(node *storagev1.CSINode) {
	c.storage.version++
	old := c.storage.csiNodes[node.Name].of()
	c.storage.csiNodes[node.Name] = newCSINode(node)
	tell(c, csiNodeHint, old, node)
}

// DeleteCSINode removes a CSINode.
func (c *Cluster) DeleteCSINode(name string) {
	c.storage.version++
	old := c.storage.csiNodes[name].of()
	delete(c.storage.csiNodes, name)
	if old != nil {
		tell(c, csiNodeHint, old, nil)
	}
}

// SetCSIDriver adds a CSIDriver or replaces the one of its name.
func (c *Cluster) SetCSIDriver(driver *storagev1.CSIDriver) {
	old := c.storage.drivers[driver.Name]
	c.storage.drivers[driver.Name] = driver
	tell(c, driverHint, old, driver)
}

// DeleteCSIDriver removes a CSIDriver.
func (c *Cluster) DeleteCSIDriver(name string) {
	old := c.storage.drivers[name]
	delete(c.storage.drivers, name)
	if old != nil {
		tell(c, driverHint, old, nil)
	}
}

// SetStorageCapacity adds a CSIStorageCapacity or replaces the one of its name.
func (c *Cluster) SetStorageCapacity(object *storagev1.CSIStorageCapacity) {
	found := &capacity{CSIStorageCapacity: object}
	if object.NodeTopology != nil {
		// The API server validates selectors: one that it let through in an older version selects nothing.
		found.selector, _ = metav1.LabelSelectorAsSelector(object.NodeTopology)
	}
	name := types.NamespacedName{Namespace: object.Namespace, Name: object.Name}
	old := c.storage.capacities[name].of()
	c.storage.capacities[name] = found
	tell(c, capacityHint, old, object)
}

// DeleteStorageCapacity removes a CSIStorageCapacity.
func (c *Cluster) DeleteStorageCapacity(namespace, name string) {
	of := types.NamespacedName{Namespace: namespace, Name: name}
	old := c.storage.capacities[of].of()
	delete(c.storage.capacities, of)
	if old != nil {
		tell(c, capacityHint, old, nil)
	}
}

// SetAttachment adds a VolumeAttachment or replaces the one of its name.
func (c *Cluster) SetAttachment(va *storagev1.VolumeAttachment) {
	old := c.storage.removeAttachment(va.Name)
	c.storage.version++
	node := va.Spec.NodeName
	if c.storage.attachments[node] == nil {
		c.storage.attachments[node] = map[string]*storagev1.VolumeAttachment{}
	}
	c.storage.attachments[node][va.Name] = va
	c.storage.attachedTo[va.Name] = node
	tell(c, attachmentHint, old, va)
}

// DeleteAttachment removes a VolumeAttachment.
func (c *Cluster) DeleteAttachment(name string) {
	if old := c.storage.removeAttachment(name); old != nil {
		tell(c, attachmentHint, old, nil)
	}
}

// removeAttachment takes out the VolumeAttachment of a name and returns it, nil if there is none.
func (s *storage) removeAttachment(name string) *storagev1.VolumeAttachment {
	node, known := s.attachedTo[name]
	if !known {
		return nil
	}
	s.version++
	old := s.attachments[node][name]
	delete(s.attachedTo, name)
	if delete(s.attachments[node], name); len(s.attachments[node]) == 0 {
		delete(s.attachments, node)
	}
	return old
}
