package scheduling

import (
	"bytes"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Settled reports whether a run would ask for nothing: no pod waits, or no rule reads anything that has changed since a run
// that asked for nothing. A pod that became ready, or a node that is still well, wakes nobody.
//
// Upstream wakes pods by plugin (queueing hints, KEP 4247) and so leaves messages as they were; here they are those of the
// cluster as it is.
func (c *Cluster) Settled() bool { return len(c.waiting) == 0 || c.settledAt == c.changes }

// settle notes what a run came to.
func (c *Cluster) settle(result *Result) {
	c.settledAt = -1
	if result.Plan.Empty() {
		c.settledAt = c.changes
	}
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
	// What a resize has come to is in the status.
	c.key = appendResources(c.key[:0], a)
	end := len(c.key)
	c.key = appendResources(c.key, b)
	return bytes.Equal(c.key[:end], c.key[end:])
}
