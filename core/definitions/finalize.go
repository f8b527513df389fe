package definitions

import (
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/core/plan"
)

// maxDeletes is how many objects one plan deletes. The next is decided when they have gone.
const maxDeletes = 500

// overlapping are resources whose objects are stored where those of a definition would be, and stay
// (OverlappingBuiltInResources).
var overlapping = []schema.GroupResource{
	plan.APIServices.GroupResource(),
	plan.Definitions.GroupResource(),
}

// finalize deletes the objects of a definition that is being deleted, and lets go of it when none is left (sync and deleteInstances).
// Upstream asks again and again what is left; here the definition is decided again whenever one of its objects goes.
func (d draft) finalize(instances []Instance) []plan.Write {
	const finalizer = apiextensionsv1.CustomResourceCleanupFinalizer
	if d.DeletionTimestamp.IsZero() || !slices.Contains(d.Finalizers, finalizer) {
		return nil
	}
	over := condition{Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionFalse}
	switch {
	case slices.Contains(overlapping, schema.GroupResource{Group: d.Spec.Group, Resource: d.Spec.Names.Plural}):
		over.Reason, over.Message = "OverlappingBuiltInResource", "instances overlap with built-in resources in storage"
	case !d.holds(apiextensionsv1.Established):
		over.Reason, over.Message = "NeverEstablished", "resource was never established"
	case len(instances) > 0:
		d.set(condition{
			Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionTrue, Reason: "InstanceDeletionInProgress",
			Message: "CustomResource deletion is in progress",
		})
		return d.deletes(instances)
	default:
		over.Reason, over.Message = "InstanceDeletionCompleted", "removed all instances"
	}
	d.set(over)
	d.Finalizers = slices.DeleteFunc(d.Finalizers, func(f string) bool { return f == finalizer })
	return nil
}

func (d draft) deletes(instances []Instance) []plan.Write {
	var out []plan.Write
	for _, i := range instances {
		if i.Deleted || len(out) == maxDeletes {
			continue
		}
		out = append(out, plan.Write{
			Verb: plan.Delete, Resource: d.resource(), Namespace: i.Namespace, Name: i.Name, UID: i.UID, Reason: "its definition is deleted",
		})
	}
	return out
}

// resource is where the objects are asked for: at the version that is stored, or else at one that is served.
func (d draft) resource() schema.GroupVersionResource {
	gvr := schema.GroupVersionResource{Group: d.Spec.Group, Resource: d.Status.AcceptedNames.Plural}
	for _, v := range d.Spec.Versions {
		if v.Served && (gvr.Version == "" || v.Storage) {
			gvr.Version = v.Name
		}
	}
	return gvr
}
