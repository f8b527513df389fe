package scheduling

import (
	"bytes"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
)

// Settled reports whether PlaceWoken would ask for nothing: no pod is awake, or no rule reads anything that has changed since
// a run that asked for nothing, and no drivers are to be given up. A pod that became ready, or a node that is still well, wakes nobody.
func (c *Cluster) Settled(now time.Time) bool {
	late := !c.settledUntil.IsZero() && now.After(c.settledUntil)
	if len(c.waiting) == 0 || c.settledAt == c.changes && !late {
		return true
	}
	c.rouse()
	for e := range c.dormitory.awake {
		if !c.isLeftAlone(e, now) && !c.devices.holds(e.needs) {
			return false
		}
	}
	return true
}

// settle notes what a run came to. One that left pods alone has not looked at all.
func (c *Cluster) settle(result *Result, partial bool) {
	c.settledAt, c.settledUntil = -1, time.Time{}
	for i := range result.Placements {
		if until := result.Placements[i].Until; c.settledUntil.IsZero() || !until.IsZero() && until.Before(c.settledUntil) {
			c.settledUntil = until
		}
	}
	if p := &result.Plan; len(p.Writes)+len(p.Notices) == 0 && !partial {
		c.settledAt = c.changes
	}
}

// hear takes a version of a waiting pod that no rule tells from the last: what is said of it may be what it was told, or
// news.
func (c *Cluster) hear(e *entry) {
	d := &c.dormitory
	if e.asleep != nil && known(e.pod, e.message) {
		delete(d.untold, e)
		return
	}
	c.tellNothing()
	d.stir(e)
}

// sameNode reports whether no rule tells two versions of a node apart.
func sameNode(a, b *corev1.Node) bool {
	return a != nil && a.Spec.Unschedulable == b.Spec.Unschedulable && maps.Equal(a.Labels, b.Labels) &&
		equality.Semantic.DeepEqual(a.Spec.Taints, b.Spec.Taints) &&
		equality.Semantic.DeepEqual(a.Status.Allocatable, b.Status.Allocatable) &&
		equality.Semantic.DeepEqual(a.Status.Images, b.Status.Images) &&
		slices.Equal(a.Status.DeclaredFeatures, b.Status.DeclaredFeatures)
}

// samePod reports whether no rule tells two versions of a pod apart. The API server counts generations of the spec.
func (c *Cluster) samePod(a, b *corev1.Pod) bool {
	if a.UID != b.UID || a.Generation != b.Generation || a.Generation == 0 || a.Spec.NodeName != b.Spec.NodeName {
		return false
	}
	if finished(a) != finished(b) || (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil) || goesForPreemption(a) != goesForPreemption(b) {
		return false
	}
	if a.Status.NominatedNodeName != b.Status.NominatedNodeName || !a.Status.StartTime.Equal(b.Status.StartTime) || !maps.Equal(a.Labels, b.Labels) {
		return false
	}
	if !equality.Semantic.DeepEqual(metav1.GetControllerOfNoCopy(a), metav1.GetControllerOfNoCopy(b)) {
		return false
	}
	if !resourceclaim.PodStatusEqual(a.Status.ResourceClaimStatuses, b.Status.ResourceClaimStatuses) ||
		!resourceclaim.PodExtendedStatusEqual(a.Status.ExtendedResourceClaimStatus, b.Status.ExtendedResourceClaimStatus) {
		return false
	}
	// What a resize has come to is in the status.
	c.key = appendResources(c.key[:0], a)
	end := len(c.key)
	c.key = appendResources(c.key, b)
	return bytes.Equal(c.key[:end], c.key[end:])
}
