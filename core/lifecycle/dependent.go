package lifecycle

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

// garbageCollector is the component that upstream's events of garbage collection name.
const garbageCollector = "garbage-collector-controller"

// Dependent decides an object by its owners, as attemptToDeleteItem of
// garbagecollector/garbagecollector.go:
//
//   - while one owner exists and does not wait for its dependents, the object stays, and loses the
//     references to owners that are gone or waiting;
//   - otherwise it is deleted: in the foreground if an owner waits for it and it has dependents of
//     its own, and else by the policy that its finalizers name, background without any.
//
// An object that is being deleted already is left to [Owner]. A reference to a kind that the server
// does not know, or from a cluster-scoped object to a kind that lives in namespaces, decides
// nothing; the pipeline asks again when the kind appears.
//
// Where upstream tries a delete again without the resourceVersion when only other fields have
// changed, here the object is loaded and decided again. Where upstream unblocks an object in a cycle
// and deletes it in one go, here the delete is decided once the unblocked object is seen, since each
// write names the version it was decided on.
func Dependent(n Node) plan.Plan {
	if n.beingDeleted() || len(n.OwnerReferences) == 0 {
		return plan.Plan{}
	}
	p := plan.Plan{Notices: invalidNamespace(n)}
	refs, known := classify(n)
	reads := []plan.Read{readOf(n.Ref)}
	if known {
		p.Writes = collect(n, refs)
		reads = append(reads, ownerReads(n)...)
	}
	if known && len(refs.solid) == 0 && len(refs.waiting) > 0 {
		for _, dependent := range n.Dependents {
			reads = append(reads, readOf(dependent.Ref))
		}
	}
	return decided(p, reads...)
}

// Gone decides the dependents of an owner that no longer exists. The owner's own state is known from
// its deletion, so that the dependents of a custom resource go even when its definition went with it.
func Gone(owner Object, dependents []Node) plan.Plan {
	var p plan.Plan
	for _, n := range dependents {
		p.Merge(Dependent(withOwner(n, owner, nil)))
	}
	return decided(p)
}

// references are the UIDs of an object's owners by what becomes of them (classifyReferences).
type references struct {
	solid, dangling, waiting []types.UID
}

// classify sorts the references of n; known is false when one of them cannot be resolved.
func classify(n Node) (refs references, known bool) {
	for _, ref := range n.OwnerReferences {
		state := n.Owners[CoordinatesOf(ref)]
		switch {
		case state.Scope == UnknownKind:
			return references{}, false
		case state.Scope == NamespaceScoped && n.Ref.Namespace == "":
			return references{}, false
		case state.Found == nil || state.Found.Ref.UID != ref.UID:
			refs.dangling = append(refs.dangling, ref.UID)
		case state.Found.deletesDependents():
			refs.waiting = append(refs.waiting, ref.UID)
		default:
			refs.solid = append(refs.solid, ref.UID)
		}
	}
	return refs, true
}

// collect decides the write for an object whose owners are known, at most one.
func collect(n Node, refs references) []plan.Write {
	switch {
	case len(refs.solid) > 0:
		stale := slices.Concat(refs.dangling, refs.waiting)
		if len(stale) == 0 {
			return nil
		}
		return []plan.Write{dropOwners(n.Object, stale, "other owners are gone or wait for their dependents")}
	case len(refs.waiting) > 0 && len(n.Dependents) > 0:
		// A dependent that waits for its own dependents may be waiting, over some way, for this one.
		if slices.ContainsFunc(n.Dependents, Object.deletesDependents) && slices.ContainsFunc(n.OwnerReferences, blocks) {
			return []plan.Write{unblockOwners(n.Object, "its owners and its dependents may wait for each other")}
		}
		return []plan.Write{deleteOf(n.Object, metav1.DeletePropagationForeground, "an owner waits for it, and it has dependents")}
	default:
		return []plan.Write{deleteOf(n.Object, policyOf(n.Object), "no owner is left")}
	}
}

// policyOf honours the finalizer that an earlier delete or the object's author has set.
func policyOf(obj Object) metav1.DeletionPropagation {
	switch {
	case obj.hasFinalizer(metav1.FinalizerOrphanDependents):
		return metav1.DeletePropagationOrphan
	case obj.hasFinalizer(metav1.FinalizerDeleteDependents):
		return metav1.DeletePropagationForeground
	default:
		return metav1.DeletePropagationBackground
	}
}

// invalidNamespace is the notice for a reference to an owner that lives in another namespace, the first if there are more
// (graph_builder.go, addDependentToOwners and reportInvalidNamespaceOwnerRef).
func invalidNamespace(n Node) []plan.Notice {
	at := slices.IndexFunc(n.OwnerReferences, func(ref metav1.OwnerReference) bool {
		elsewhere := n.Owners[CoordinatesOf(ref)].Elsewhere
		return elsewhere != "" && elsewhere != n.Ref.Namespace
	})
	if at < 0 {
		return nil
	}
	ref := n.OwnerReferences[at]
	return []plan.Notice{{
		Regarding: corev1.ObjectReference{
			APIVersion: n.APIVersion, Kind: n.Kind, Namespace: n.Ref.Namespace, Name: n.Ref.Name, UID: n.Ref.UID,
		},
		Type:   corev1.EventTypeWarning,
		Reason: "OwnerRefInvalidNamespace",
		Message: fmt.Sprintf("ownerRef [%s/%s, namespace: %s, name: %s, uid: %s] does not exist in namespace %q",
			ref.APIVersion, ref.Kind, n.Ref.Namespace, ref.Name, ref.UID, n.Ref.Namespace),
		Component: garbageCollector,
	}}
}

// ownerReads are the reads of what the references point at, there or not. What is not there is looked for once more before
// anything goes for that, as upstream asks the API server, not its cache.
func ownerReads(n Node) []plan.Read {
	var reads []plan.Read
	for _, ref := range n.OwnerReferences {
		state := n.Owners[CoordinatesOf(ref)]
		read := plan.Read{Resource: state.Resource, Name: ref.Name, Again: state.Found == nil}
		if state.Scope == NamespaceScoped {
			read.Namespace = n.Ref.Namespace
		}
		reads = append(reads, read)
	}
	return reads
}

// withOwner is n with the references that mean owner resolved to found.
func withOwner(n Node, owner Object, found *Object) Node {
	state := OwnerState{Resource: owner.Ref.Resource, Scope: ClusterScoped, Found: found}
	if owner.Ref.Namespace != "" {
		state.Scope = NamespaceScoped
	}
	resolved := make(Owners, len(n.Owners)+1)
	maps.Copy(resolved, n.Owners)
	for _, ref := range n.OwnerReferences {
		if isAt(ref, n.Ref.Namespace, owner) {
			resolved[CoordinatesOf(ref)] = state
		}
	}
	n.Owners = resolved
	return n
}
