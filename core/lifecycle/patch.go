package lifecycle

import (
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

// The bodies are those of upstream (garbagecollector/patch.go, garbagecollector/operations.go and
// GenerateDeleteOwnerRefStrategicMergeBytes of controller_ref_manager.go). A strategic merge names
// the object's UID, which the server takes as a precondition; a JSON merge replaces the list and so
// names the resourceVersion.

// dropOwners is the patch that takes the references to the given UIDs from obj.
func dropOwners(obj Object, uids []types.UID, reason string) plan.Write {
	if obj.Custom {
		kept := slices.DeleteFunc(slices.Clone(obj.OwnerReferences), func(ref metav1.OwnerReference) bool {
			return slices.Contains(uids, ref.UID)
		})
		return replaceOwners(obj, kept, reason)
	}
	type deletion struct {
		Patch string    `json:"$patch"`
		UID   types.UID `json:"uid"`
	}
	var body struct {
		Metadata struct {
			UID             types.UID  `json:"uid"`
			OwnerReferences []deletion `json:"ownerReferences"`
		} `json:"metadata"`
	}
	body.Metadata.UID = obj.Ref.UID
	for _, uid := range uids {
		body.Metadata.OwnerReferences = append(body.Metadata.OwnerReferences, deletion{Patch: "delete", UID: uid})
	}
	return patchOf(obj, types.StrategicMergePatchType, body, reason)
}

// unblockOwners is the patch after which no reference of obj keeps a foreground deletion waiting.
func unblockOwners(obj Object, reason string) plan.Write {
	var all, blocking []metav1.OwnerReference
	for _, ref := range obj.OwnerReferences {
		unblocked := ref
		unblocked.BlockOwnerDeletion = new(bool)
		all = append(all, unblocked)
		if blocks(ref) {
			blocking = append(blocking, unblocked)
		}
	}
	if obj.Custom {
		return replaceOwners(obj, all, reason)
	}
	body := metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{UID: obj.Ref.UID, OwnerReferences: blocking}}
	return patchOf(obj, types.StrategicMergePatchType, body, reason)
}

// replaceOwners is the JSON merge patch that gives obj the owner references refs.
func replaceOwners(obj Object, refs []metav1.OwnerReference, reason string) plan.Write {
	var body struct {
		Metadata struct {
			ResourceVersion string                  `json:"resourceVersion"`
			OwnerReferences []metav1.OwnerReference `json:"ownerReferences"`
		} `json:"metadata"`
	}
	body.Metadata.ResourceVersion = obj.ResourceVersion
	if len(refs) > 0 {
		body.Metadata.OwnerReferences = refs
	}
	return patchOf(obj, types.MergePatchType, body, reason)
}

// dropFinalizer is the JSON merge patch that takes one finalizer from obj.
func dropFinalizer(obj Object, finalizer, reason string) plan.Write {
	var body struct {
		Metadata struct {
			ResourceVersion string   `json:"resourceVersion"`
			Finalizers      []string `json:"finalizers"`
		} `json:"metadata"`
	}
	body.Metadata.ResourceVersion = obj.ResourceVersion
	for _, name := range obj.Finalizers {
		if name != finalizer {
			body.Metadata.Finalizers = append(body.Metadata.Finalizers, name)
		}
	}
	return patchOf(obj, types.MergePatchType, body, reason)
}

func patchOf(obj Object, patchType types.PatchType, body any, reason string) plan.Write {
	encoded, err := json.Marshal(body)
	if err != nil {
		// Strings, booleans and lists of them: only a changed type of this file can get here.
		panic(fmt.Sprintf("encoding a patch of %s %q: %v", obj.Ref.Resource.Resource, obj.Ref.Name, err))
	}
	return plan.Write{
		Verb:      plan.Patch,
		Resource:  obj.Ref.Resource,
		Namespace: obj.Ref.Namespace,
		Name:      obj.Ref.Name,
		PatchType: patchType,
		PatchBody: encoded,
		Reason:    reason,
	}
}

// deleteOf is the delete of obj as decided on, at its UID and resourceVersion.
func deleteOf(obj Object, policy metav1.DeletionPropagation, reason string) plan.Write {
	return plan.Write{
		Verb:            plan.Delete,
		Resource:        obj.Ref.Resource,
		Namespace:       obj.Ref.Namespace,
		Name:            obj.Ref.Name,
		UID:             obj.Ref.UID,
		ResourceVersion: obj.ResourceVersion,
		Propagation:     &policy,
		Reason:          reason,
	}
}
