package lifecycle

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

const (
	noOwnerLeft = "no owner is left"
	staleOwners = "other owners are gone or wait for their dependents"
	ownerWaits  = "an owner waits for it, and it has dependents"
	inACycle    = "its owners and its dependents may wait for each other"
)

func TestDependent(t *testing.T) {
	for claim, tc := range map[string]struct {
		node Node
		want plan.Plan
	}{
		"an object without owners stays": {
			node: Node{Object: object("a")},
		},
		"an object whose owner exists stays": {
			node: Node{Object: object("a", ownedBy(owner("o"))), Owners: owners(map[string]OwnerState{"o": at(object("o"))})},
		},
		"an owner that is being deleted without waiting still counts": {
			node: Node{Object: object("a", ownedBy(owner("o"))), Owners: owners(map[string]OwnerState{"o": at(object("o", deleting))})},
		},
		"an object that is being deleted is left alone": {
			node: Node{Object: object("a", deleting, ownedBy(owner("o"))), Owners: owners(map[string]OwnerState{"o": absent})},
		},
		"an object whose only owner is gone is deleted in the background": {
			node: Node{Object: object("a", ownedBy(owner("o"))), Owners: owners(map[string]OwnerState{"o": absent})},
			want: plan.Plan{
				Writes: []plan.Write{deleteWrite("a", metav1.DeletePropagationBackground, noOwnerLeft)},
				Reads:  reads("a", "o?"),
			},
		},
		"an owner of the same name but another UID is not the owner": {
			node: Node{
				Object: object("a", ownedBy(owner("o"))),
				Owners: owners(map[string]OwnerState{"o": at(object("o", func(o *Object) { o.Ref.UID = "newer" }))}),
			},
			want: plan.Plan{
				Writes: []plan.Write{deleteWrite("a", metav1.DeletePropagationBackground, noOwnerLeft)},
				Reads:  reads("a", "o"),
			},
		},
		"an orphan finalizer on the object is honoured": {
			node: Node{
				Object: object("a", ownedBy(owner("o")), finalizers(metav1.FinalizerOrphanDependents)),
				Owners: owners(map[string]OwnerState{"o": absent}),
			},
			want: plan.Plan{
				Writes: []plan.Write{deleteWrite("a", metav1.DeletePropagationOrphan, noOwnerLeft)},
				Reads:  reads("a", "o?"),
			},
		},
		"a foreground finalizer on the object is honoured": {
			node: Node{
				Object: object("a", ownedBy(owner("o")), finalizers(metav1.FinalizerDeleteDependents)),
				Owners: owners(map[string]OwnerState{"o": absent}),
			},
			want: plan.Plan{
				Writes: []plan.Write{deleteWrite("a", metav1.DeletePropagationForeground, noOwnerLeft)},
				Reads:  reads("a", "o?"),
			},
		},
		"beside an owner that exists, those that are gone or waiting are forgotten": {
			node: Node{
				Object: object("a", ownedBy(blockingOwner("waits"), owner("lives"), owner("gone"))),
				Owners: owners(map[string]OwnerState{"waits": at(object("waits", foreground)), "lives": at(object("lives")), "gone": absent}),
			},
			want: plan.Plan{
				Writes: []plan.Write{patchWrite("a", types.StrategicMergePatchType,
					`{"metadata":{"uid":"uid-a","ownerReferences":[{"$patch":"delete","uid":"uid-gone"},{"$patch":"delete","uid":"uid-waits"}]}}`, staleOwners)},
				Reads: reads("a", "waits", "lives", "gone?"),
			},
		},
		"an object that a waiting owner blocks on is deleted in the background if it owns nothing": {
			node: Node{
				Object: object("a", ownedBy(blockingOwner("o"))),
				Owners: owners(map[string]OwnerState{"o": at(object("o", foreground))}),
			},
			want: plan.Plan{
				Writes: []plan.Write{deleteWrite("a", metav1.DeletePropagationBackground, noOwnerLeft)},
				Reads:  reads("a", "o"),
			},
		},
		"an object that a waiting owner blocks on is deleted in the foreground if it owns something": {
			node: Node{
				Object:     object("a", ownedBy(blockingOwner("o"))),
				Owners:     owners(map[string]OwnerState{"o": at(object("o", foreground))}),
				Dependents: []Object{object("child", ownedBy(blockingOwner("a")))},
			},
			want: plan.Plan{
				Writes: []plan.Write{deleteWrite("a", metav1.DeletePropagationForeground, ownerWaits)},
				Reads:  reads("a", "o", "child"),
			},
		},
		"in what may be a cycle the object first stops blocking": {
			node: Node{
				Object:     object("a", ownedBy(blockingOwner("o"), owner("p"))),
				Owners:     owners(map[string]OwnerState{"o": at(object("o", foreground)), "p": absent}),
				Dependents: []Object{object("o", foreground, ownedBy(blockingOwner("a")))},
			},
			want: plan.Plan{
				Writes: []plan.Write{patchWrite("a", types.StrategicMergePatchType,
					`{"metadata":{"uid":"uid-a","ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"o","uid":"uid-o","blockOwnerDeletion":false}]}}`, inACycle)},
				Reads: reads("a", "o", "p?"),
			},
		},
		"in what may be a cycle an object that does not block is deleted in the foreground": {
			node: Node{
				Object:     object("a", ownedBy(owner("o"))),
				Owners:     owners(map[string]OwnerState{"o": at(object("o", foreground))}),
				Dependents: []Object{object("o", foreground, ownedBy(blockingOwner("a")))},
			},
			want: plan.Plan{
				Writes: []plan.Write{deleteWrite("a", metav1.DeletePropagationForeground, ownerWaits)},
				Reads:  reads("a", "o"),
			},
		},
		"nothing is decided while the kind of one owner is unknown": {
			node: Node{Object: object("a", ownedBy(owner("gone"), owner("unknown"))), Owners: owners(map[string]OwnerState{"gone": absent})},
		},
		"a cluster-scoped owner is found from any namespace": {
			node: Node{
				Object: object("a", ownedBy(owner("o"), owner("gone"))),
				Owners: owners(map[string]OwnerState{
					"o":    {Resource: plan.Nodes, Scope: ClusterScoped, Found: new(object("o", func(o *Object) { o.Ref.Namespace = "" }))},
					"gone": {Resource: plan.Nodes, Scope: ClusterScoped},
				}),
			},
			want: plan.Plan{
				Writes: []plan.Write{patchWrite("a", types.StrategicMergePatchType,
					`{"metadata":{"uid":"uid-a","ownerReferences":[{"$patch":"delete","uid":"uid-gone"}]}}`, staleOwners)},
				Reads: append(reads("a"), plan.Read{Resource: plan.Nodes, Name: "o"}, plan.Read{Resource: plan.Nodes, Name: "gone", Again: true}),
			},
		},
		"an owner in another namespace is no owner, and people are told": {
			node: Node{
				Object: object("a", ownedBy(owner("o"))),
				Owners: owners(map[string]OwnerState{"o": {Resource: plan.ConfigMaps, Scope: NamespaceScoped, Elsewhere: "other"}}),
			},
			want: plan.Plan{
				Writes: []plan.Write{deleteWrite("a", metav1.DeletePropagationBackground, noOwnerLeft)},
				Notices: []plan.Notice{{
					Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "ConfigMap", Namespace: "ns", Name: "a", UID: "uid-a"},
					Type:      corev1.EventTypeWarning,
					Reason:    "OwnerRefInvalidNamespace",
					Message:   `ownerRef [v1/ConfigMap, namespace: ns, name: o, uid: uid-o] does not exist in namespace "ns"`,
					Component: "garbage-collector-controller",
				}},
				Reads: reads("a", "o?"),
			},
		},
		"of two owners in other namespaces people are told of the first": {
			node: Node{
				Object: object("a", func(o *Object) { o.Ref.Namespace = "" }, ownedBy(owner("gone"), owner("o"), owner("p"))),
				Owners: owners(map[string]OwnerState{
					"gone": absent,
					"o":    {Resource: plan.ConfigMaps, Scope: NamespaceScoped, Elsewhere: "other"},
					"p":    {Resource: plan.ConfigMaps, Scope: NamespaceScoped, Elsewhere: "other"},
				}),
			},
			want: plan.Plan{
				Notices: []plan.Notice{{
					Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "ConfigMap", Name: "a", UID: "uid-a"},
					Type:      corev1.EventTypeWarning,
					Reason:    "OwnerRefInvalidNamespace",
					Message:   `ownerRef [v1/ConfigMap, namespace: , name: o, uid: uid-o] does not exist in namespace ""`,
					Component: "garbage-collector-controller",
				}},
				Reads: []plan.Read{{Resource: plan.ConfigMaps, Name: "a"}},
			},
		},
		"a cluster-scoped object with an owner in a namespace stays": {
			node: Node{
				Object: object("a", func(o *Object) { o.Ref.Namespace = "" }, ownedBy(owner("o"))),
				Owners: owners(map[string]OwnerState{"o": absent}),
			},
		},
	} {
		t.Run(claim, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Dependent(tc.node)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCustomResourcesArePatchedWithJSONMerge(t *testing.T) {
	refs := ownedBy(blockingOwner("o"), owner("p"))
	for claim, tc := range map[string]struct {
		write plan.Write
		want  string
	}{
		"removing one reference keeps the others": {
			write: dropOwners(object("a", custom, refs), []types.UID{"uid-o"}, ""),
			want:  `{"metadata":{"resourceVersion":"7","ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"p","uid":"uid-p"}]}}`,
		},
		"removing the last reference removes the field": {
			write: dropOwners(object("a", custom, refs), []types.UID{"uid-o", "uid-p"}, ""),
			want:  `{"metadata":{"resourceVersion":"7","ownerReferences":null}}`,
		},
		"unblocking names every reference": {
			write: unblockOwners(object("a", custom, refs), ""),
			want: `{"metadata":{"resourceVersion":"7","ownerReferences":[` +
				`{"apiVersion":"v1","kind":"ConfigMap","name":"o","uid":"uid-o","blockOwnerDeletion":false},` +
				`{"apiVersion":"v1","kind":"ConfigMap","name":"p","uid":"uid-p","blockOwnerDeletion":false}]}}`,
		},
	} {
		t.Run(claim, func(t *testing.T) {
			want := plan.Write{
				Verb: plan.Patch, Resource: widgets, Namespace: "ns", Name: "a",
				PatchType: types.MergePatchType, PatchBody: []byte(tc.want),
			}
			if diff := cmp.Diff(want, tc.write); diff != "" {
				t.Errorf("write (-want +got):\n%s", diff)
			}
		})
	}
}

func TestGone(t *testing.T) {
	kindUnknown := Owners{}
	for claim, tc := range map[string]struct {
		dependents []Node
		want       plan.Plan
	}{
		"an owner without dependents leaves nothing to do": {},
		"a dependent goes even when the owner's kind is no longer served": {
			dependents: []Node{{Object: object("a", ownedBy(owner("o"))), Owners: kindUnknown}},
			want: plan.Plan{
				Writes: []plan.Write{deleteWrite("a", metav1.DeletePropagationBackground, noOwnerLeft)},
				Reads:  reads("a", "o?"),
			},
		},
		"a reference at another version of the API means the same owner": {
			dependents: []Node{{
				Object: object("a", ownedBy(metav1.OwnerReference{APIVersion: "v1beta1", Kind: "ConfigMap", Name: "o", UID: "uid-o"})),
			}},
			want: plan.Plan{
				Writes: []plan.Write{deleteWrite("a", metav1.DeletePropagationBackground, noOwnerLeft)},
				Reads:  reads("a", "o?"),
			},
		},
		"a dependent with another owner stays and forgets the one that is gone": {
			dependents: []Node{
				{Object: object("a", ownedBy(owner("o"))), Owners: owners(map[string]OwnerState{"o": absent})},
				{Object: object("b", ownedBy(owner("o"), owner("p"))), Owners: owners(map[string]OwnerState{"p": at(object("p"))})},
			},
			want: plan.Plan{
				Writes: []plan.Write{
					deleteWrite("a", metav1.DeletePropagationBackground, noOwnerLeft),
					patchWrite("b", types.StrategicMergePatchType,
						`{"metadata":{"uid":"uid-b","ownerReferences":[{"$patch":"delete","uid":"uid-o"}]}}`, staleOwners),
				},
				Reads: reads("a", "o?", "b", "p"),
			},
		},
		"a dependent that sees another namespace's kind only by UID is not resolved by it": {
			dependents: []Node{{
				Object: object("a", ownedBy(owner("o")), func(o *Object) { o.Ref.Namespace = "other" }), Owners: kindUnknown,
			}},
		},
	} {
		t.Run(claim, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Gone(object("o"), tc.dependents)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEventsAreNotCollected(t *testing.T) {
	for resource, want := range map[schema.GroupResource]bool{
		{Resource: "events"}:                         true,
		{Group: "events.k8s.io", Resource: "events"}: true,
		{Group: "example.com", Resource: "events"}:   false,
		{Resource: "pods"}:                           false,
	} {
		if got := Ignored(resource); got != want {
			t.Errorf("Ignored(%v) = %v, want %v", resource, got, want)
		}
	}
}
