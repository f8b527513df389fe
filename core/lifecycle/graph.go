package lifecycle

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Object is what garbage collection knows of an object of any kind: where it is, and the part of
// its metadata that owners and deletion are written in.
type Object struct {
	Ref               plan.Ref
	APIVersion, Kind  string
	ResourceVersion   string
	OwnerReferences   []metav1.OwnerReference
	Finalizers        []string
	DeletionTimestamp *metav1.Time
	// Custom says that the kind is a custom resource, which knows no strategic merge patch.
	Custom bool
}

// Scope says where the objects of a kind live.
type Scope int

// The scopes. The zero value is a kind that the server does not know, or does not know yet.
const (
	UnknownKind Scope = iota
	ClusterScoped
	NamespaceScoped
)

// Coordinates are the fields of an owner reference that say which object is meant.
type Coordinates struct {
	APIVersion, Kind, Name string
	UID                    types.UID
}

// CoordinatesOf returns the coordinates of a reference.
func CoordinatesOf(ref metav1.OwnerReference) Coordinates {
	return Coordinates{APIVersion: ref.APIVersion, Kind: ref.Kind, Name: ref.Name, UID: ref.UID}
}

// OwnerState is what the snapshot holds where an owner reference points.
type OwnerState struct {
	// Resource and Scope are what the server makes of the reference's apiVersion and kind.
	Resource schema.GroupVersionResource
	Scope    Scope
	// Found is the object of that resource and of the reference's name, in the namespace of the
	// dependent unless the kind is cluster-scoped; nil if there is none. Its UID need not be the
	// reference's.
	Found *Object
	// Elsewhere is the namespace of the live object that has the reference's UID, if the snapshot
	// can tell and it is not the dependent's.
	Elsewhere string
}

// Owners holds the state of every owner that a dependent refers to. A reference without an entry
// counts as one of a kind that is not known: nothing is decided until it is.
type Owners map[Coordinates]OwnerState

// Node is an object with its neighbours in the graph.
type Node struct {
	Object
	Owners Owners
	// Dependents are the objects that have an owner reference with the UID of this one.
	Dependents []Object
}

// Ignored reports whether garbage collection leaves objects of the resource alone
// (graph_builder.go, ignoredResources).
func Ignored(resource schema.GroupResource) bool {
	return resource.Resource == "events" && (resource.Group == "" || resource.Group == "events.k8s.io")
}

func (o Object) beingDeleted() bool { return o.DeletionTimestamp != nil }

func (o Object) hasFinalizer(name string) bool { return slices.Contains(o.Finalizers, name) }

// deletesDependents reports whether the object is on its way out and waits for its dependents to go
// first.
func (o Object) deletesDependents() bool {
	return o.beingDeleted() && o.hasFinalizer(metav1.FinalizerDeleteDependents)
}

// orphansDependents reports whether the object is on its way out and waits for its dependents to
// forget it.
func (o Object) orphansDependents() bool {
	return o.beingDeleted() && o.hasFinalizer(metav1.FinalizerOrphanDependents)
}

// refersTo reports whether the object has an owner reference to uid for which ok holds.
func (o Object) refersTo(uid types.UID, ok func(metav1.OwnerReference) bool) bool {
	return slices.ContainsFunc(o.OwnerReferences, func(ref metav1.OwnerReference) bool {
		return ref.UID == uid && ok(ref)
	})
}

// anyReference is the condition of refersTo that every reference meets.
func anyReference(metav1.OwnerReference) bool { return true }

// blocks reports whether the reference keeps a foreground deletion of its owner waiting.
func blocks(ref metav1.OwnerReference) bool {
	return ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
}

// isAt reports whether the reference, seen from a dependent in namespace, means owner: the UID, the
// name and the kind are its own, and it can be seen from there. The version of the API does not
// matter, since one object is served at several.
func isAt(ref metav1.OwnerReference, namespace string, owner Object) bool {
	want := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupKind()
	have := schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind).GroupKind()
	return ref.UID == owner.Ref.UID && ref.Name == owner.Ref.Name && want == have &&
		(owner.Ref.Namespace == "" || owner.Ref.Namespace == namespace)
}
