package scheduling

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
)

// needs is what a pod asks for of devices: by claims, or by extended resources that a DeviceClass may back. Nearly all pods
// ask for none, and have nil.
type needs struct {
	pod      *corev1.Pod
	extended []corev1.ResourceName
	// early is set if nobody looks at the pod before its claims are there.
	early bool
}

func needsOf(cl *class, pod *corev1.Pod) *needs {
	if !cl.profile.Filters[DynamicResources] {
		return nil
	}
	var extended []corev1.ResourceName
	for name, value := range cl.request.amounts.scalars {
		if value != 0 && mayBeBacked(name) {
			extended = append(extended, name)
		}
	}
	if len(pod.Spec.ResourceClaims)+len(extended) == 0 {
		return nil
	}
	slices.Sort(extended)
	return &needs{pod, extended, cl.profile.PreEnqueues[DynamicResources]}
}

// mayBeBacked reports whether a DeviceClass can back a resource.
//
// Upstream: IsDRAExtendedResourceName in pkg/scheduler/util/utils.go.
func mayBeBacked(name corev1.ResourceName) bool {
	return isExtended(name) || strings.HasPrefix(string(name), resourceapi.ResourceDeviceClassPrefix)
}

// concern reports whether devices have a say in where a pod goes.
func (d *devices) concern(n *needs) bool {
	return n != nil && (len(n.pod.Spec.ResourceClaims) > 0 || d.backs(n))
}

// backs reports whether a class backs an extended resource that a pod asks for.
func (d *devices) backs(n *needs) bool {
	return slices.ContainsFunc(n.extended, func(name corev1.ResourceName) bool { return d.backing[name] != nil })
}

// isLeft reports whether something that is asked for is left to devices on a node that offers none of it itself.
//
// Upstream: shouldDelegateResourceToDRA in plugins/noderesources/fit.go.
func (d *devices) isLeft(r *request, offered *amounts) bool {
	for name, value := range r.amounts.scalars {
		if value != 0 && d.backing[name] != nil && offered.scalars[name] == 0 {
			return true
		}
	}
	return false
}

// mark notes in a class which of the resources it asks for are had by devices where a node does not offer them, and whether
// such are scored.
func (d *devices) mark(cl *class) {
	cl.drawn = nil
	if !cl.profile.plain && d.scoresDrawn(cl) {
		cl.drawn = d
	}
	for i := range cl.request.scalars {
		s := &cl.request.scalars[i]
		s.backed = d.backing[s.name] != nil
	}
}

// claimsOf are the claims that a pod names, or why it cannot have them yet. Some names stand for no claim.
//
// Upstream: foreachPodResourceClaim in plugins/dynamicresources/dynamicresources.go.
func (d *devices) claimsOf(pod *corev1.Pod) (claims []*resourceapi.ResourceClaim, reason string) {
	for i := range pod.Spec.ResourceClaims {
		name, ofPod, err := resourceclaim.Name(pod, &pod.Spec.ResourceClaims[i])
		if err != nil {
			return nil, err.Error()
		}
		if name == nil {
			continue
		}
		claim := d.claimNamed(types.NamespacedName{Namespace: pod.Namespace, Name: *name})
		if claim == nil {
			return nil, fmt.Sprintf("could not find ResourceClaim %q", pod.Namespace+"/"+*name)
		}
		if claim.DeletionTimestamp != nil {
			return nil, fmt.Sprintf("resourceclaim %q is being deleted", claim.Name)
		}
		if ofPod {
			if err := resourceclaim.IsForPod(pod, claim, false); err != nil {
				return nil, err.Error()
			}
		}
		claims = append(claims, claim)
	}
	return claims, ""
}

// holds reports whether a pod does not wait for a node yet, since its claims are not there. Nothing is said about it.
//
// Upstream: PreEnqueue in plugins/dynamicresources/dynamicresources.go.
func (d *devices) holds(n *needs) bool {
	if n == nil || !n.early {
		return false
	}
	_, reason := d.claimsOf(n.pod)
	return reason != ""
}

// promised reports whether a run before this one has given a pod its node, and only what it waits for is awaited.
func (c *Cluster) promised(e *entry) bool { return c.storage.promised(e) || c.devices.promised(e) }

// promised reports whether a run before this one has given a pod its node and its devices, and only their drivers are awaited.
func (d *devices) promised(e *entry) bool {
	if e.needs == nil || e.pod.Status.NominatedNodeName == "" {
		return false
	}
	claims, reason := d.claimsOf(e.pod)
	if special := d.special[e.pod.UID]; special != nil && awaits(e.pod, special) {
		claims = append(claims, special)
	}
	return reason == "" && len(claims) > 0 && !slices.ContainsFunc(claims, func(claim *resourceapi.ResourceClaim) bool {
		return claim.Status.Allocation == nil || !resourceclaim.IsReservedForPod(e.pod, claim, false)
	})
}
