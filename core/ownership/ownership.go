// Package ownership decides which objects a controller takes as its own, and which it lets go:
// pkg/controller/controller_ref_manager.go.
package ownership

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

// verdict is what is to be done about the controller reference of one object.
type verdict int

const (
	ignore verdict = iota
	keep
	adopt
	release
)

// judge is ClaimObject. The controller's deletion is read from the same snapshot as the object, so
// there is nothing to recheck before an adoption.
func judge(controller, object metav1.Object, matches bool) verdict {
	dying := controller.GetDeletionTimestamp() != nil
	if ref := metav1.GetControllerOfNoCopy(object); ref != nil {
		switch {
		case ref.UID != controller.GetUID():
			return ignore
		case matches:
			return keep
		case dying:
			return ignore
		default:
			return release
		}
	}
	if dying || !matches || object.GetDeletionTimestamp() != nil || controller.GetNamespace() != object.GetNamespace() {
		return ignore
	}
	return adopt
}

// Controller is who claims.
type Controller struct {
	metav1.Object
	Kind schema.GroupVersionKind
	// Finalizers are set on what is adopted and taken from what is released.
	Finalizers []string
}

// Claimed are the objects that a controller has.
type Claimed[T metav1.Object] struct {
	// Objects are those that it controls and those that it adopts, in the order in which they were given.
	Objects []T
	// Adopted are those that Writes adopt, by UID.
	Adopted map[types.UID]bool
	// Writes are the patches that adopt and release.
	Writes []plan.Write
}

// Claim finds the objects of a resource that the controller has: ClaimPods, ClaimReplicaSets and
// ClaimControllerRevisions. matches says what it wants.
func Claim[T metav1.Object](c Controller, resource schema.GroupVersionResource, objects []T, matches func(T) bool) Claimed[T] {
	claimed := Claimed[T]{Adopted: map[types.UID]bool{}}
	for _, object := range objects {
		switch judge(c, object, matches(object)) {
		case keep:
			claimed.Objects = append(claimed.Objects, object)
		case adopt:
			claimed.Objects = append(claimed.Objects, object)
			claimed.Adopted[object.GetUID()] = true
			claimed.Writes = append(claimed.Writes, c.adopt(resource, object))
		case release:
			claimed.Writes = append(claimed.Writes, c.release(resource, object))
		case ignore:
		}
	}
	return claimed
}

type ownerPatch struct {
	Metadata ownerPatchMeta `json:"metadata"`
}

type ownerPatchMeta struct {
	OwnerReferences []metav1.OwnerReference `json:"ownerReferences"`
	UID             types.UID               `json:"uid"`
	Finalizers      []string                `json:"finalizers,omitempty"`
}

// adopt is ownerRefControllerPatch. The uid in the patch makes the server refuse it for another
// object of the same name.
func (c Controller) adopt(resource schema.GroupVersionResource, object metav1.Object) plan.Write {
	return patch(resource, object, "adopt", ownerPatch{Metadata: ownerPatchMeta{
		UID:             object.GetUID(),
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(c, c.Kind)},
		Finalizers:      c.Finalizers,
	}})
}

type releasePatch struct {
	Metadata releasePatchMeta `json:"metadata"`
}

type releasePatchMeta struct {
	UID              types.UID           `json:"uid"`
	OwnerReferences  []map[string]string `json:"ownerReferences"`
	DeleteFinalizers []string            `json:"$deleteFromPrimitiveList/finalizers,omitempty"`
}

// release is GenerateDeleteOwnerRefStrategicMergeBytes.
func (c Controller) release(resource schema.GroupVersionResource, object metav1.Object) plan.Write {
	return patch(resource, object, "release", releasePatch{Metadata: releasePatchMeta{
		UID:              object.GetUID(),
		OwnerReferences:  []map[string]string{{"$patch": "delete", "uid": string(c.GetUID())}},
		DeleteFinalizers: c.Finalizers,
	}})
}

func patch(resource schema.GroupVersionResource, object metav1.Object, reason string, patch any) plan.Write {
	body, err := json.Marshal(patch)
	if err != nil {
		// Strings, booleans and lists of them always encode.
		panic("ownership: encoding an owner patch: " + err.Error())
	}
	return plan.Write{
		Verb: plan.Patch, Resource: resource, Namespace: object.GetNamespace(), Name: object.GetName(),
		PatchType: types.StrategicMergePatchType, PatchBody: body, Reason: reason,
	}
}
