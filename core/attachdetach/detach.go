package attachdetach

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// UnmountKind is the kind of the plan.Later at which a volume is detached from a node that is not ready, though the node says
// that it uses it.
const UnmountKind = "unmount"

// maxWaitForUnmount is how long such a volume is waited for (ReconcilerMaxWaitForUnmountDuration in attach_detach_controller.go).
const maxWaitForUnmount = 6 * time.Minute

// mayDetach reports whether a volume that no pod of the node wants may be detached, and what is put off if it may not yet: the
// node uses it, is not ready, and may not come back.
//
// Upstream: the first half of reconcile in reconciler/reconciler.go, and verifyVolumeIsSafeToDetach in
// pkg/volume/util/operationexecutor/operation_generator.go.
func (x *Index) mayDetach(a *attachment, c Change) (bool, *plan.Later) {
	node := x.nodes[a.node]
	known := node
	if known == nil {
		known = c.Gone
	}
	// It is used until the contrary is known.
	uses := known == nil || slices.Contains(known.Status.VolumesInUse, a.volume())
	switch {
	case !uses, node != nil && outOfService(node):
		return true, nil
	case node != nil && ready(node):
		return false, nil
	case c.Expired[a.name]:
		return true, nil
	case c.Waiting[a.name]:
		return false, nil
	}
	return false, &plan.Later{At: c.Now.Add(maxWaitForUnmount), Kind: UnmountKind, Subject: ref(a), Keep: true}
}

func outOfService(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

func ready(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// Matters reports whether a change of a node may change what is attached to it. Either may be nil.
func Matters(before, after *corev1.Node) bool {
	if before == nil || after == nil {
		return before != after
	}
	_, was := before.Annotations[managed]
	_, is := after.Annotations[managed]
	return was != is || ready(before) != ready(after) || outOfService(before) != outOfService(after) ||
		!slices.Equal(before.Status.VolumesInUse, after.Status.VolumesInUse) || !slices.Equal(before.Status.VolumesAttached, after.Status.VolumesAttached)
}
