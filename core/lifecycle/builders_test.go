package lifecycle

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

var (
	noon    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	widgets = schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"}
)

// option alters an object under construction.
type option func(*Object)

// object is a ConfigMap in namespace "ns" whose UID is "uid-" and its name, at version "7".
func object(name string, options ...option) Object {
	obj := Object{
		Ref:             plan.Ref{Resource: plan.ConfigMaps, Namespace: "ns", Name: name, UID: uidOf(name)},
		APIVersion:      "v1",
		Kind:            "ConfigMap",
		ResourceVersion: "7",
	}
	for _, apply := range options {
		apply(&obj)
	}
	return obj
}

func uidOf(name string) types.UID { return types.UID("uid-" + name) }

func owner(name string) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: name, UID: uidOf(name)}
}

func blockingOwner(name string) metav1.OwnerReference {
	ref := owner(name)
	ref.BlockOwnerDeletion = new(true)
	return ref
}

func ownedBy(refs ...metav1.OwnerReference) option {
	return func(obj *Object) { obj.OwnerReferences = append(obj.OwnerReferences, refs...) }
}

func finalizers(names ...string) option {
	return func(obj *Object) { obj.Finalizers = append(obj.Finalizers, names...) }
}

func deleting(obj *Object) { obj.DeletionTimestamp = new(metav1.NewTime(noon)) }

func foreground(obj *Object) {
	deleting(obj)
	finalizers(metav1.FinalizerDeleteDependents)(obj)
}

func orphaning(obj *Object) {
	deleting(obj)
	finalizers(metav1.FinalizerOrphanDependents)(obj)
}

func custom(obj *Object) {
	obj.Ref.Resource, obj.APIVersion, obj.Kind, obj.Custom = widgets, "example.com/v1", "Widget", true
}

// at is the state of the owner that a reference points at.
func at(found Object) OwnerState {
	return OwnerState{Resource: plan.ConfigMaps, Scope: NamespaceScoped, Found: &found}
}

var absent = OwnerState{Resource: plan.ConfigMaps, Scope: NamespaceScoped}

// owners maps the named ConfigMaps to their states.
func owners(states map[string]OwnerState) Owners {
	byCoordinates := Owners{}
	for name, state := range states {
		byCoordinates[CoordinatesOf(owner(name))] = state
	}
	return byCoordinates
}

// reads are those of objects of these names, and once more before anything is done of those with a question mark.
func reads(names ...string) []plan.Read {
	var all []plan.Read
	for _, name := range names {
		name, again := strings.CutSuffix(name, "?")
		all = append(all, plan.Read{Resource: plan.ConfigMaps, Namespace: "ns", Name: name, Again: again})
	}
	return all
}

func deleteWrite(name string, policy metav1.DeletionPropagation, reason string) plan.Write {
	return plan.Write{
		Verb: plan.Delete, Resource: plan.ConfigMaps, Namespace: "ns", Name: name,
		UID: uidOf(name), ResourceVersion: "7", Propagation: &policy, Reason: reason,
	}
}

func patchWrite(name string, patchType types.PatchType, body, reason string) plan.Write {
	return plan.Write{
		Verb: plan.Patch, Resource: plan.ConfigMaps, Namespace: "ns", Name: name,
		PatchType: patchType, PatchBody: []byte(body), Reason: reason,
	}
}

func namespace(options ...func(*corev1.Namespace)) *corev1.Namespace {
	ns := &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "ns", UID: "uid-ns", ResourceVersion: "7"},
		Spec:       corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}},
		Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
	}
	for _, apply := range options {
		apply(ns)
	}
	return ns
}

func terminating(ns *corev1.Namespace) {
	ns.DeletionTimestamp = new(metav1.NewTime(noon))
	ns.Status.Phase = corev1.NamespaceTerminating
}
