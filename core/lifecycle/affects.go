package lifecycle

import (
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Affected says which decisions a change of one object calls for.
type Affected struct {
	// Dependent: decide the object with [Dependent].
	Dependent bool
	// Owner: decide the object with [Owner].
	Owner bool
	// Gone: decide its dependents with [Gone].
	Gone bool
	// Owners: decide each of these with [Owner]. They are seen from the object's namespace.
	Owners []metav1.OwnerReference
}

// Affects says which decisions the change from before to after calls for; before is nil for a new
// object and after for one that is gone. It follows processGraphChanges of graph_builder.go, and
// asks a little more often: for owners whenever a dependent stops referring to them, and for the
// dependent then too, since the reference that it lost may be the one that could not be resolved.
func Affects(before, after *Object) Affected {
	switch {
	case before == nil && after == nil:
		return Affected{}
	case before == nil:
		return Affected{Dependent: len(after.OwnerReferences) > 0, Owner: startsWaiting(nil, after)}
	case after == nil:
		return Affected{Gone: true, Owners: slices.Clone(before.OwnerReferences)}
	case before.Ref.UID != after.Ref.UID:
		// Deleted and made again under one name between two looks.
		affected := Affects(nil, after)
		affected.Gone = true
		affected.Owners = slices.Clone(before.OwnerReferences)
		return affected
	}
	return Affected{
		Dependent: len(after.OwnerReferences) > 0 && !reflect.DeepEqual(before.OwnerReferences, after.OwnerReferences),
		Owner:     startsWaiting(before, after),
		Owners:    released(*before, *after),
	}
}

// startsWaiting reports whether the change is the one after which the object waits for its dependents.
func startsWaiting(before, after *Object) bool {
	if before == nil {
		before = &Object{}
	}
	return !before.orphansDependents() && after.orphansDependents() ||
		!before.deletesDependents() && after.deletesDependents()
}

// released are the owners that before refers to and after does not, or no longer blocks.
func released(before, after Object) []metav1.OwnerReference {
	var owners []metav1.OwnerReference
	for _, ref := range before.OwnerReferences {
		unblocked := blocks(ref) && !after.refersTo(ref.UID, blocks)
		if unblocked || !after.refersTo(ref.UID, anyReference) {
			owners = append(owners, ref)
		}
	}
	return owners
}
