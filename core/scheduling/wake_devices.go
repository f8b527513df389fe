package scheduling

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
)

// What changes mean to the plugin that looks at devices, and to the one for resources, which leaves some to it.

// names reports whether a pod uses a claim by its name.
func (n *needs) names(claim *resourceapi.ResourceClaim) bool {
	return n.pod.Namespace == claim.Namespace && slices.ContainsFunc(n.pod.Spec.ResourceClaims, func(use corev1.PodResourceClaim) bool {
		name, _, err := resourceclaim.Name(n.pod, &use)
		return err == nil && name != nil && *name == claim.Name
	})
}

// isServed reports whether a claim is for a pod's extended resources.
func (n *needs) isServed(by *resourceapi.ResourceClaim) bool {
	return by != nil && servedBy(by) == n.pod.UID
}

// changesDevices is a claim that gives devices back, or one of the pod's that changed. Upstream does not look at claims that get
// other devices than they had, at what was left over for the pod's extended resources, nor at anything while claims of the pod
// are missing.
//
// Upstream: isSchedulableAfterClaimChange in plugins/dynamicresources/dynamicresources.go.
func changesDevices(_ *Cluster, s *sleeper, old, now *resourceapi.ResourceClaim) bool {
	if old != nil && old.Status.Allocation != nil &&
		(now == nil || !equality.Semantic.DeepEqual(old.Status.Allocation, now.Status.Allocation)) {
		return true
	}
	if s.needs == nil {
		return false
	}
	return s.needs.isServed(old) || s.needs.isServed(now) || now != nil && s.needs.names(now)
}

// cameOrOffers is a node that came, or has other labels, by which devices are chosen, or other resources, which take the place
// of devices.
//
// Upstream: EventsToRegister in plugins/dynamicresources/dynamicresources.go.
func cameOrOffers(_ *Cluster, _ *sleeper, old, now *corev1.Node) bool {
	return now != nil && (old == nil || !maps.Equal(old.Labels, now.Labels) ||
		!equality.Semantic.DeepEqual(old.Status.Allocatable, now.Status.Allocatable))
}

// anySlice is any ResourceSlice: when one goes a pool may be whole that was not. Upstream does not look at those that go.
//
// Upstream: EventsToRegister in plugins/dynamicresources/dynamicresources.go.
func anySlice(*Cluster, *sleeper, *resourceapi.ResourceSlice, *resourceapi.ResourceSlice) bool {
	return true
}

// anyTaintRule is any DeviceTaintRule. Upstream hears of the slices that it taints.
//
// Upstream: k8s.io/dynamic-resource-allocation/resourceslice/tracker/tracker.go.
func anyTaintRule(*Cluster, *sleeper, *resourceapi.DeviceTaintRule, *resourceapi.DeviceTaintRule) bool {
	return true
}

// anyDeviceClass is any DeviceClass: when one goes another may back an extended resource. Upstream does not look at those that go.
//
// Upstream: EventsToRegister in plugins/dynamicresources/dynamicresources.go.
func anyDeviceClass(*Cluster, *sleeper, *resourceapi.DeviceClass, *resourceapi.DeviceClass) bool {
	return true
}

// backsAsked is a class that came or has another name for its devices, by which the pod asks for them.
//
// Upstream: isSchedulableAfterDeviceClassEvent in plugins/noderesources/fit.go.
func backsAsked(_ *Cluster, s *sleeper, old, now *resourceapi.DeviceClass) bool {
	if now == nil {
		return false
	}
	asks := func(name corev1.ResourceName) bool {
		_, asked := s.class.request.amounts.scalars[name]
		return asked
	}
	if old == nil && asks(corev1.ResourceName(resourceapi.ResourceDeviceClassPrefix+now.Name)) {
		return true
	}
	if now.Spec.ExtendedResourceName == nil || !asks(corev1.ResourceName(*now.Spec.ExtendedResourceName)) {
		return false
	}
	return old == nil || old.Spec.ExtendedResourceName == nil || *old.Spec.ExtendedResourceName != *now.Spec.ExtendedResourceName
}

func deviceClaimHint(h *wakeHint) func(*Cluster, *sleeper, *resourceapi.ResourceClaim, *resourceapi.ResourceClaim) bool {
	return h.deviceClaim
}
func sliceHint(h *wakeHint) func(*Cluster, *sleeper, *resourceapi.ResourceSlice, *resourceapi.ResourceSlice) bool {
	return h.slice
}
func deviceClassHint(h *wakeHint) func(*Cluster, *sleeper, *resourceapi.DeviceClass, *resourceapi.DeviceClass) bool {
	return h.deviceClass
}
func taintRuleHint(h *wakeHint) func(*Cluster, *sleeper, *resourceapi.DeviceTaintRule, *resourceapi.DeviceTaintRule) bool {
	return h.taintRule
}
