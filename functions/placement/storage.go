package placement

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/scheduling"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// storageKinds are the resources about volumes and devices, each with what takes an object off a cluster.
var storageKinds = map[schema.GroupResource]func(c *scheduling.Cluster, namespace, name string){
	plan.Claims.GroupResource():  func(c *scheduling.Cluster, namespace, name string) { c.DeleteClaim(namespace, name) },
	plan.Volumes.GroupResource(): func(c *scheduling.Cluster, _, name string) { c.DeleteVolume(name) },
	storagev1.Resource("storageclasses"): func(c *scheduling.Cluster, _, name string) {
		c.DeleteStorageClass(name)
	},
	storagev1.Resource("csinodes"):   func(c *scheduling.Cluster, _, name string) { c.DeleteCSINode(name) },
	storagev1.Resource("csidrivers"): func(c *scheduling.Cluster, _, name string) { c.DeleteCSIDriver(name) },
	storagev1.Resource("csistoragecapacities"): func(c *scheduling.Cluster, namespace, name string) {
		c.DeleteStorageCapacity(namespace, name)
	},
	storagev1.Resource("volumeattachments"): func(c *scheduling.Cluster, _, name string) { c.DeleteAttachment(name) },
	plan.ResourceClaims.GroupResource(): func(c *scheduling.Cluster, namespace, name string) {
		c.DeleteResourceClaim(namespace, name)
	},
	resourcev1.Resource("resourceslices"): func(c *scheduling.Cluster, _, name string) { c.DeleteResourceSlice(name) },
	resourcev1.Resource("deviceclasses"):  func(c *scheduling.Cluster, _, name string) { c.DeleteDeviceClass(name) },
	resourcev1.Resource("devicetaintrules"): func(c *scheduling.Cluster, _, name string) {
		c.DeleteDeviceTaintRule(name)
	},
}

// setStorage takes an object of a storage kind.
func setStorage(c *scheduling.Cluster, obj any) {
	switch o := obj.(type) {
	case *corev1.PersistentVolumeClaim:
		c.SetClaim(o)
	case *corev1.PersistentVolume:
		c.SetVolume(o)
	case *storagev1.StorageClass:
		c.SetStorageClass(o)
	case *storagev1.CSINode:
		c.SetCSINode(o)
	case *storagev1.CSIDriver:
		c.SetCSIDriver(o)
	case *storagev1.CSIStorageCapacity:
		c.SetStorageCapacity(o)
	case *storagev1.VolumeAttachment:
		c.SetAttachment(o)
	case *resourcev1.ResourceClaim:
		c.SetResourceClaim(o)
	case *resourcev1.ResourceSlice:
		c.SetResourceSlice(o)
	case *resourcev1.DeviceClass:
		c.SetDeviceClass(o)
	case *resourcev1.DeviceTaintRule:
		c.SetDeviceTaintRule(o)
	}
}

// stock takes all that a snapshot has about volumes and devices.
func (w *warm) stock(s *consumer.Snapshot) error {
	for gr := range storageKinds {
		objects, err := consumer.List[metav1.Object](s, gr, "")
		if err != nil {
			return err
		}
		for _, obj := range objects {
			setStorage(w.cluster, obj)
		}
	}
	return nil
}

// restock applies a change of something about volumes or devices.
func (w *warm) restock(s *consumer.Snapshot, ev tablelog.Event) bool {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	if ev.Entry == nil {
		storageKinds[gr](w.cluster, namespace, name)
		return true
	}
	obj, ok, err := consumer.Read[metav1.Object](s, ev.Entry)
	if err != nil || !ok {
		return false
	}
	setStorage(w.cluster, obj)
	return true
}

// concerns reports whether a batch may let a pod be placed. Logs that hold claims and classes hold much else: Services
// count where default constraints that must be kept spread the pods that they select.
func (w *warm) concerns(b *consumer.Batch) bool {
	if b.Resync || len(b.Due) > 0 {
		return true
	}
	for _, ev := range b.Changes {
		gr, _, _ := kubestorage.ParseKey(ev.Key)
		if gr == plan.Pods.GroupResource() || gr == plan.Nodes.GroupResource() || gr == namespaces || storageKinds[gr] != nil {
			return true
		}
		if gr == services && w.spreadsStrictly() {
			return true
		}
	}
	return false
}

// spreadsStrictly reports whether a profile has default constraints that keep pods off nodes. Those of upstream only prefer.
func (w *warm) spreadsStrictly() bool {
	for i := range w.profiles {
		p := &w.profiles[i]
		if !p.SystemDefaults && slices.ContainsFunc(p.DefaultConstraints, func(c corev1.TopologySpreadConstraint) bool {
			return c.WhenUnsatisfiable == corev1.DoNotSchedule
		}) {
			return true
		}
	}
	return false
}
