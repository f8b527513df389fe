// Package history keeps the revisions of StatefulSets and DaemonSets: what a ControllerRevision holds,
// how it is named, and which are the same. It follows pkg/controller/history/controller_history.go.
package history

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/zeroplane/zeroplane/core/plan"
)

// HashLabel is the label of a revision with the hash of its data (ControllerRevisionHashLabel).
const HashLabel = "controller.kubernetes.io/hash"

// maxPrefix is the most characters of a controller's name in the name of a revision.
const maxPrefix = 223

// Data is what a revision holds: the strategic merge patch that brings the template back (getPatch of
// statefulset/stateful_set_utils.go and of daemon/update.go).
func Data(template *corev1.PodTemplateSpec) []byte {
	var raw map[string]any
	encoded, err := json.Marshal(template)
	if err == nil {
		err = json.Unmarshal(encoded, &raw)
	}
	var patch []byte
	if err == nil {
		raw["$patch"] = "replace"
		patch, err = json.Marshal(map[string]any{"spec": map[string]any{"template": raw}})
	}
	if err != nil {
		// What the API server has decoded can be encoded.
		panic("history: encoding a template: " + err.Error())
	}
	return patch
}

// Controller is whose history it is.
type Controller struct {
	metav1.Object
	Kind schema.GroupVersionKind
	// Template is what it has now.
	Template *corev1.PodTemplateSpec
}

// New makes a revision of the controller's template: NewControllerRevision. The hash in its name and
// in its label is of the data and, if it is not nil, of the number of collisions.
func New(c Controller, revision int64, collisions *int32) *appsv1.ControllerRevision {
	labels := map[string]string{}
	maps.Copy(labels, c.Template.Labels)
	data := Data(c.Template)
	hash := Hash(data, collisions)
	labels[HashLabel] = hash
	return &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Name: Name(c.GetName(), hash), Namespace: c.GetNamespace(), Labels: labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(c, c.Kind)},
		},
		Data: runtime.RawExtension{Raw: data}, Revision: revision,
	}
}

// Hash is HashControllerRevision, of a revision's data.
func Hash(data []byte, collisions *int32) string {
	hasher := fnv.New32()
	_, _ = hasher.Write(data) // a hash.Hash never fails
	if collisions != nil {
		_, _ = hasher.Write([]byte(strconv.FormatInt(int64(*collisions), 10)))
	}
	return rand.SafeEncodeString(fmt.Sprint(hasher.Sum32()))
}

// Name is ControllerRevisionName: a long prefix is cut.
func Name(prefix, hash string) string {
	return prefix[:min(len(prefix), maxPrefix)] + "-" + hash
}

// Equal reports whether two revisions hold the same: EqualRevision. (Data comes from the API as it
// is, never as an object.)
func Equal(a, b *appsv1.ControllerRevision) bool {
	return bytes.Equal(a.Data.Raw, b.Data.Raw)
}

// LastEqual is the last of the revisions that holds the same as another, nil if none does: the last
// of FindEqualRevisions.
func LastEqual(revisions []*appsv1.ControllerRevision, other *appsv1.ControllerRevision) *appsv1.ControllerRevision {
	for _, r := range slices.Backward(revisions) {
		if Equal(r, other) {
			return r
		}
	}
	return nil
}

// Sorted returns the revisions from the lowest to the highest: SortControllerRevisions.
func Sorted(revisions []*appsv1.ControllerRevision) []*appsv1.ControllerRevision {
	sorted := slices.Clone(revisions)
	slices.SortStableFunc(sorted, func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(
			cmp.Compare(a.Revision, b.Revision),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(a.Name, b.Name),
		)
	})
	return sorted
}

// Create is the write that makes a revision.
func Create(r *appsv1.ControllerRevision) plan.Write {
	return plan.Write{
		Verb: plan.Create, Resource: plan.Revisions, Namespace: r.Namespace, Name: r.Name, Object: r, Reason: "keep the template",
	}
}

// Update is the write that stores a changed revision.
func Update(r *appsv1.ControllerRevision) plan.Write {
	return plan.Write{
		Verb: plan.Update, Resource: plan.Revisions, Namespace: r.Namespace, Name: r.Name, Object: r, Reason: "number the revision",
	}
}

// Delete is the write that removes a revision.
func Delete(r *appsv1.ControllerRevision) plan.Write {
	return plan.Write{
		Verb: plan.Delete, Resource: plan.Revisions, Namespace: r.Namespace, Name: r.Name,
		UID: r.UID, ResourceVersion: r.ResourceVersion, Reason: "keep revisionHistoryLimit",
	}
}
