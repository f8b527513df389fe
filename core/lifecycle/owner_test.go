package lifecycle

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

const (
	orphaned    = "its owner is deleted and orphans it"
	noneRefers  = "no dependent refers to it"
	noneBlocks  = "no dependent blocks its deletion"
	noFinalizer = `{"metadata":{"resourceVersion":"7","finalizers":null}}`
)

func TestOwner(t *testing.T) {
	for claim, tc := range map[string]struct {
		owner      Object
		dependents []Node
		want       plan.Plan
	}{
		"an owner that is not being deleted is left alone": {
			owner:      object("o", finalizers(metav1.FinalizerDeleteDependents, metav1.FinalizerOrphanDependents)),
			dependents: []Node{{Object: object("a", ownedBy(blockingOwner("o")))}},
		},
		"an owner that is deleted in the background is left alone": {
			owner:      object("o", deleting, finalizers("example.com/other")),
			dependents: []Node{{Object: object("a", ownedBy(blockingOwner("o")))}},
		},
		"in the foreground the dependents are deleted first": {
			owner: object("o", foreground),
			dependents: []Node{
				{Object: object("a", ownedBy(blockingOwner("o")))},
				{Object: object("b", ownedBy(blockingOwner("o"))), Dependents: []Object{object("c", ownedBy(owner("b")))}},
			},
			want: plan.Plan{
				Writes: []plan.Write{
					deleteWrite("a", metav1.DeletePropagationBackground, noOwnerLeft),
					deleteWrite("b", metav1.DeletePropagationForeground, ownerWaits),
				},
				Reads: reads("o", "a", "b", "c"),
			},
		},
		"in the foreground a dependent with another owner is kept and forgets this one": {
			owner: object("o", foreground),
			dependents: []Node{{
				Object: object("a", ownedBy(blockingOwner("o"), owner("p"))), Owners: owners(map[string]OwnerState{"p": at(object("p"))}),
			}},
			want: plan.Plan{
				Writes: []plan.Write{patchWrite("a", types.StrategicMergePatchType,
					`{"metadata":{"uid":"uid-a","ownerReferences":[{"$patch":"delete","uid":"uid-o"}]}}`, staleOwners)},
				Reads: reads("o", "a", "p"),
			},
		},
		"in the foreground a dependent that is on its way out still blocks": {
			owner:      object("o", foreground),
			dependents: []Node{{Object: object("a", deleting, ownedBy(blockingOwner("o")), finalizers("example.com/slow"))}},
		},
		"in the foreground a dependent that does not block is deleted while the owner goes": {
			owner:      object("o", foreground, finalizers("example.com/other")),
			dependents: []Node{{Object: object("a", ownedBy(owner("o")))}},
			want: plan.Plan{
				Writes: []plan.Write{
					deleteWrite("a", metav1.DeletePropagationBackground, noOwnerLeft),
					patchWrite("o", types.MergePatchType, `{"metadata":{"resourceVersion":"7","finalizers":["example.com/other"]}}`, noneBlocks),
				},
				Reads: reads("o", "a"),
			},
		},
		"in the foreground an owner without dependents goes": {
			owner: object("o", foreground),
			want: plan.Plan{
				Writes: []plan.Write{patchWrite("o", types.MergePatchType, noFinalizer, noneBlocks)},
				Reads:  reads("o"),
			},
		},
		"an object does not block itself": {
			owner:      object("o", foreground, ownedBy(blockingOwner("o"))),
			dependents: []Node{{Object: object("o", foreground, ownedBy(blockingOwner("o")))}},
			want: plan.Plan{
				Writes: []plan.Write{patchWrite("o", types.MergePatchType, noFinalizer, noneBlocks)},
				Reads:  reads("o"),
			},
		},
		"orphaning takes the reference from every dependent and keeps the owner": {
			owner: object("o", orphaning),
			dependents: []Node{
				{Object: object("a", ownedBy(blockingOwner("o")))},
				{Object: object("b", deleting, ownedBy(owner("p"), owner("o")))},
			},
			want: plan.Plan{
				Writes: []plan.Write{
					patchWrite("a", types.StrategicMergePatchType, `{"metadata":{"uid":"uid-a","ownerReferences":[{"$patch":"delete","uid":"uid-o"}]}}`, orphaned),
					patchWrite("b", types.StrategicMergePatchType, `{"metadata":{"uid":"uid-b","ownerReferences":[{"$patch":"delete","uid":"uid-o"}]}}`, orphaned),
				},
				Reads: reads("o", "a", "b"),
			},
		},
		"orphaning ends when no dependent refers to the owner": {
			owner: object("o", orphaning),
			want: plan.Plan{
				Writes: []plan.Write{patchWrite("o", types.MergePatchType, noFinalizer, noneRefers)},
				Reads:  reads("o"),
			},
		},
	} {
		t.Run(claim, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Owner(tc.owner, tc.dependents)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAffects(t *testing.T) {
	for claim, tc := range map[string]struct {
		before, after *Object
		want          Affected
	}{
		"no change calls for nothing":       {},
		"a new object without owners stays": {after: new(object("a"))},
		"a new object with owners is decided": {
			after: new(object("a", ownedBy(owner("o")))),
			want:  Affected{Dependent: true},
		},
		"an object first seen while it waits is decided as an owner": {
			after: new(object("a", orphaning)),
			want:  Affected{Owner: true},
		},
		"a change of something else calls for nothing": {
			before: new(object("a", ownedBy(blockingOwner("o")))),
			after:  new(object("a", ownedBy(blockingOwner("o")), finalizers("example.com/x"))),
		},
		"a new reference has the object decided": {
			before: new(object("a", ownedBy(owner("o")))),
			after:  new(object("a", ownedBy(owner("o"), owner("p")))),
			want:   Affected{Dependent: true},
		},
		"the last reference removed has its owner decided": {
			before: new(object("a", ownedBy(owner("o")))),
			after:  new(object("a")),
			want:   Affected{Owners: []metav1.OwnerReference{owner("o")}},
		},
		"one of several references removed has both decided": {
			before: new(object("a", ownedBy(owner("o"), owner("p")))),
			after:  new(object("a", ownedBy(owner("p")))),
			want:   Affected{Dependent: true, Owners: []metav1.OwnerReference{owner("o")}},
		},
		"a reference that no longer blocks has both decided": {
			before: new(object("a", ownedBy(blockingOwner("o")))),
			after:  new(object("a", ownedBy(owner("o")))),
			want:   Affected{Dependent: true, Owners: []metav1.OwnerReference{blockingOwner("o")}},
		},
		"a foreground deletion that starts has the object decided as an owner": {
			before: new(object("a")),
			after:  new(object("a", foreground)),
			want:   Affected{Owner: true},
		},
		"a foreground deletion that goes on calls for nothing": {
			before: new(object("a", foreground)),
			after:  new(object("a", foreground)),
		},
		"an object that is gone has its dependents and its owners decided": {
			before: new(object("a", ownedBy(owner("o")))),
			want:   Affected{Gone: true, Owners: []metav1.OwnerReference{owner("o")}},
		},
		"an object made anew under the name of another is both": {
			before: new(object("a", ownedBy(owner("o")))),
			after:  new(object("a", ownedBy(owner("p")), func(o *Object) { o.Ref.UID = "newer" })),
			want:   Affected{Dependent: true, Gone: true, Owners: []metav1.OwnerReference{owner("o")}},
		},
	} {
		t.Run(claim, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Affects(tc.before, tc.after)); diff != "" {
				t.Errorf("affected (-want +got):\n%s", diff)
			}
		})
	}
}
