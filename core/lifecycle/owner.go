package lifecycle

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Owner decides an object whose deletion waits for its dependents, and is empty for any other:
//
//   - with the foregroundDeletion finalizer, every dependent is decided again with its owner
//     waiting, which deletes those that have no other owner; the finalizer goes once no dependent
//     has a blocking reference (processDeletingDependentsItem, garbagecollector.go);
//   - with the orphan finalizer, the dependents lose their references to the object; the finalizer
//     goes once none has one (orphanDependents and attemptToOrphanWorker, garbagecollector.go).
//
// dependents are all objects that refer to the object's UID. The finalizer is never removed in the
// decision that still patches or waits: a refused patch must not let the owner go, since then the
// dependents would be collected. So the object is decided again whenever [Affects] names it. A
// dependent that is made after the last look is decided by itself, with its owner gone, as upstream.
//
// An object's reference to itself neither blocks nor is removed; upstream waits for ever.
func Owner(obj Object, dependents []Node) plan.Plan {
	others := slices.DeleteFunc(slices.Clone(dependents), func(n Node) bool {
		return n.Ref.UID == obj.Ref.UID
	})
	switch {
	case obj.orphansDependents():
		return orphan(obj, others)
	case obj.deletesDependents():
		return deleteDependents(obj, others)
	default:
		return plan.Plan{}
	}
}

func orphan(obj Object, dependents []Node) plan.Plan {
	var p plan.Plan
	reads := []plan.Read{readOf(obj.Ref)}
	for _, n := range dependents {
		reads = append(reads, readOf(n.Ref))
		if n.refersTo(obj.Ref.UID, anyReference) {
			p.Writes = append(p.Writes, dropOwners(n.Object, []types.UID{obj.Ref.UID}, "its owner is deleted and orphans it"))
		}
	}
	if len(p.Writes) == 0 {
		p.Writes = []plan.Write{dropFinalizer(obj, metav1.FinalizerOrphanDependents, "no dependent refers to it")}
	}
	return decided(p, reads...)
}

func deleteDependents(obj Object, dependents []Node) plan.Plan {
	var p plan.Plan
	reads := []plan.Read{readOf(obj.Ref)}
	blocked := false
	for _, n := range dependents {
		reads = append(reads, readOf(n.Ref))
		p.Merge(Dependent(withOwner(n, obj, &obj)))
		blocked = blocked || n.refersTo(obj.Ref.UID, blocks)
	}
	if !blocked {
		p.Writes = append(p.Writes, dropFinalizer(obj, metav1.FinalizerDeleteDependents, "no dependent blocks its deletion"))
	}
	return decided(p, reads...)
}
