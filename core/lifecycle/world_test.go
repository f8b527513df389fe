package lifecycle

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
)

const (
	// slow is a finalizer that someone else removes in the end.
	slow = "example.com/slow"
	// maxSteps is far beyond what 10 objects need; a world that is not quiet then never will be.
	maxSteps = 5000
)

var (
	clusterThings = schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "clusterthings"}
	policies      = []metav1.DeletionPropagation{
		metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan,
	}
)

// world is an API server's view of a few objects, with garbage collection run over it one decision
// at a time, each on a fresh snapshot, in an order that the test draws.
type world struct {
	t       *rapid.T
	objects map[types.UID]Object
	version int
	tasks   []func()
	// checkGone is told of every object that goes, nil for no one.
	checkGone func(Object)
}

// change stores after in place of before (nil: none) and queues what it calls for.
func (w *world) change(before, after *Object) {
	if after != nil {
		w.version++
		after.ResourceVersion = fmt.Sprint(w.version)
		if after.beingDeleted() && len(after.Finalizers) == 0 {
			after = nil
		}
	}
	switch {
	case after != nil:
		w.objects[after.Ref.UID] = *after
	case before != nil:
		delete(w.objects, before.Ref.UID)
		if w.checkGone != nil {
			w.checkGone(*before)
		}
	}
	w.queue(before, after)
}

func (w *world) queue(before, after *Object) {
	affected := Affects(before, after)
	if affected.Dependent {
		w.tasks = append(w.tasks, func() { w.decideDependent(after.Ref.UID) })
	}
	if affected.Owner {
		w.tasks = append(w.tasks, func() { w.decideOwner(after.Ref.UID) })
	}
	if affected.Gone {
		w.tasks = append(w.tasks, func() { w.apply(Gone(*before, w.dependentNodes(before.Ref.UID))) })
	}
	for _, ref := range affected.Owners {
		w.tasks = append(w.tasks, func() { w.decideOwner(ref.UID) })
	}
}

func (w *world) decideDependent(uid types.UID) {
	if obj, ok := w.objects[uid]; ok {
		w.apply(Dependent(w.node(obj)))
	}
}

func (w *world) decideOwner(uid types.UID) {
	if obj, ok := w.objects[uid]; ok {
		w.apply(Owner(obj, w.dependentNodes(uid)))
	}
}

func (w *world) dependents(uid types.UID) []Object {
	var all []Object
	for _, key := range slices.Sorted(maps.Keys(w.objects)) {
		if w.objects[key].refersTo(uid, anyReference) {
			all = append(all, w.objects[key])
		}
	}
	return all
}

func (w *world) dependentNodes(uid types.UID) []Node {
	var nodes []Node
	for _, obj := range w.dependents(uid) {
		nodes = append(nodes, w.node(obj))
	}
	return nodes
}

// node looks each owner up where its reference points, as the server would.
func (w *world) node(obj Object) Node {
	n := Node{Object: obj, Owners: Owners{}, Dependents: w.dependents(obj.Ref.UID)}
	for _, ref := range obj.OwnerReferences {
		state := OwnerState{Resource: plan.ConfigMaps, Scope: NamespaceScoped}
		if ref.Kind == "ClusterThing" {
			state = OwnerState{Resource: clusterThings, Scope: ClusterScoped}
		}
		for _, other := range w.objects {
			if isAt(ref, obj.Ref.Namespace, other) {
				state.Found = &other
			}
		}
		n.Owners[CoordinatesOf(ref)] = state
	}
	return n
}

func (w *world) apply(p plan.Plan) {
	for _, write := range p.Writes {
		uid := types.UID("uid-" + write.Name)
		obj, ok := w.objects[uid]
		if !ok || obj.Ref.Resource != write.Resource || obj.Ref.Namespace != write.Namespace {
			w.t.Fatalf("%s of %s %q, which does not exist", write.Verb, write.Resource.Resource, write.Name)
		}
		switch write.Verb {
		case plan.Delete:
			if write.UID != uid || write.ResourceVersion != obj.ResourceVersion {
				w.t.Fatalf("delete of %q at %q, which is at %q", write.Name, write.ResourceVersion, obj.ResourceVersion)
			}
			w.remove(obj, *write.Propagation)
		case plan.Patch:
			patched := w.patch(obj, write)
			if !reflect.DeepEqual(patched, obj) {
				w.change(&obj, &patched)
			}
		default:
			w.t.Fatalf("garbage collection asked for %s", write.Verb)
		}
	}
}

// remove is the server's DELETE.
func (w *world) remove(obj Object, policy metav1.DeletionPropagation) {
	after := obj
	after.DeletionTimestamp = new(metav1.NewTime(noon))
	after.Finalizers = Remaining{Finalizers: obj.Finalizers}.ownFinalizers()
	switch policy {
	case metav1.DeletePropagationForeground:
		after.Finalizers = append(after.Finalizers, metav1.FinalizerDeleteDependents)
	case metav1.DeletePropagationOrphan:
		after.Finalizers = append(after.Finalizers, metav1.FinalizerOrphanDependents)
	case metav1.DeletePropagationBackground:
	}
	w.change(&obj, &after)
}

// patch is the server's PATCH, with its preconditions.
func (w *world) patch(obj Object, write plan.Write) Object {
	body := write.PatchBody
	current, err := json.Marshal(metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		UID: obj.Ref.UID, OwnerReferences: obj.OwnerReferences, Finalizers: obj.Finalizers, ResourceVersion: obj.ResourceVersion,
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	var merged metav1.PartialObjectMetadata
	switch {
	case write.PatchType == types.MergePatchType:
		// The lists that these patches carry replace those of the object.
		if err := json.Unmarshal(current, &merged); err != nil {
			w.t.Fatal(err)
		}
	case obj.Custom:
		w.t.Fatalf("strategic merge of the custom resource %q", write.Name)
	default:
		if body, err = strategicpatch.StrategicMergePatch(current, body, merged); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := json.Unmarshal(body, &merged); err != nil {
		w.t.Fatal(err)
	}
	if merged.UID != obj.Ref.UID || merged.ResourceVersion != obj.ResourceVersion {
		w.t.Fatalf("patch of %q conflicts: %s", write.Name, write.PatchBody)
	}
	obj.OwnerReferences, obj.Finalizers = merged.OwnerReferences, merged.Finalizers
	return obj
}

// run carries out up to n queued decisions in any order.
func (w *world) run(n int) {
	for range n {
		if len(w.tasks) == 0 {
			return
		}
		i := 0
		if len(w.tasks) > 1 {
			i = rapid.IntRange(0, len(w.tasks)-1).Draw(w.t, "next")
		}
		task := w.tasks[i]
		w.tasks = slices.Delete(w.tasks, i, i+1)
		task()
	}
}

// settle runs until nothing is left to decide.
func (w *world) settle() {
	w.run(maxSteps)
	if len(w.tasks) > 0 {
		w.t.Fatalf("not quiet after %d decisions: %v", maxSteps, w.objects)
	}
}

// release removes the finalizers that do not belong to garbage collection.
func (w *world) release() {
	for _, uid := range slices.Sorted(maps.Keys(w.objects)) {
		obj := w.objects[uid]
		if !obj.hasFinalizer(slow) {
			continue
		}
		after := obj
		after.Finalizers = slices.DeleteFunc(slices.Clone(obj.Finalizers), func(name string) bool { return name == slow })
		w.change(&obj, &after)
	}
}

// drawObject makes object number i, which refers to some of the objects numbered below limit.
func drawObject(t *rapid.T, shapes []Object, i, limit int) Object {
	obj := shapes[i]
	if limit > 0 {
		for _, to := range rapid.SliceOfNDistinct(rapid.IntRange(0, limit-1), 0, 3, rapid.ID[int]).Draw(t, "owners") {
			obj.OwnerReferences = append(obj.OwnerReferences, metav1.OwnerReference{
				APIVersion: shapes[to].APIVersion, Kind: shapes[to].Kind, Name: shapes[to].Ref.Name, UID: shapes[to].Ref.UID,
				BlockOwnerDeletion: new(rapid.Bool().Draw(t, "blocks")),
			})
		}
	}
	if rapid.IntRange(0, 4).Draw(t, "slow") == 0 {
		obj.Finalizers = []string{slow}
	}
	return obj
}

// drawShapes makes n objects without references, cluster-scoped ones and ones in two namespaces.
func drawShapes(t *rapid.T, n int, namespaces []string) []Object {
	shapes := make([]Object, n)
	for i := range shapes {
		shapes[i] = object(fmt.Sprint(i))
		shapes[i].Ref.Namespace = rapid.SampledFrom(namespaces).Draw(t, "namespace")
		if shapes[i].Ref.Namespace == "" {
			shapes[i].Ref.Resource, shapes[i].APIVersion, shapes[i].Kind, shapes[i].Custom = clusterThings, "example.com/v1", "ClusterThing", true
		}
	}
	return shapes
}

// resolvable reports whether no reference of the object is one that upstream cannot decide.
func resolvable(obj Object) bool {
	return obj.Ref.Namespace != "" || !slices.ContainsFunc(obj.OwnerReferences, func(ref metav1.OwnerReference) bool {
		return ref.Kind != "ClusterThing"
	})
}

// ownerless reports whether the object has owners and none of them exists.
func (w *world) ownerless(obj Object) bool {
	refs, known := classify(w.node(obj))
	return known && len(obj.OwnerReferences) > 0 && len(refs.solid) == 0 && len(refs.waiting) == 0
}

// blockers are the other objects that block the deletion of obj.
func (w *world) blockers(obj Object) []Object {
	return slices.DeleteFunc(w.dependents(obj.Ref.UID), func(other Object) bool {
		return other.Ref.UID == obj.Ref.UID || !other.refersTo(obj.Ref.UID, blocks)
	})
}

// play makes the objects, deletes some in any policy while decisions are made, and waits for quiet.
// It returns the world and the objects that people deleted.
func play(t *rapid.T, shapes []Object, limit func(i int) int) (*world, map[types.UID]bool) {
	w := &world{t: t, objects: map[types.UID]Object{}}
	w.checkGone = func(gone Object) {
		if gone.deletesDependents() && len(w.blockers(gone)) > 0 {
			t.Fatalf("%q went before its dependents %v", gone.Ref.Name, w.blockers(gone))
		}
		if gone.orphansDependents() && len(w.dependents(gone.Ref.UID)) > 0 {
			t.Fatalf("%q went while %v still refer to it", gone.Ref.Name, w.dependents(gone.Ref.UID))
		}
	}
	for i := range shapes {
		obj := drawObject(t, shapes, i, limit(i))
		w.change(nil, &obj)
	}
	w.tasks = nil
	for _, uid := range slices.Sorted(maps.Keys(w.objects)) {
		w.tasks = append(w.tasks, func() { w.decideDependent(uid) })
	}
	w.settle()
	deleted := map[types.UID]bool{}
	var spared []types.UID
	for range rapid.IntRange(1, 6).Draw(t, "deletes") {
		uid := rapid.SampledFrom(shapes).Draw(t, "victim").Ref.UID
		obj, ok := w.objects[uid]
		if !ok || obj.beingDeleted() {
			continue
		}
		policy := rapid.SampledFrom(policies).Draw(t, "policy")
		if policy == metav1.DeletePropagationOrphan {
			spared = append(spared, w.onlyOwnedBy(obj)...)
		}
		deleted[uid] = true
		w.remove(obj, policy)
		w.run(rapid.IntRange(0, 5).Draw(t, "decisions"))
	}
	w.settle()
	w.release()
	w.settle()
	for _, uid := range spared {
		if _, ok := w.objects[uid]; !ok && !deleted[uid] {
			t.Fatalf("%s was to be orphaned, and is gone", uid)
		}
	}
	return w, deleted
}

// onlyOwnedBy are the objects that are not being deleted and whose one owner is obj.
func (w *world) onlyOwnedBy(obj Object) []types.UID {
	var uids []types.UID
	for _, dependent := range w.dependents(obj.Ref.UID) {
		if !dependent.beingDeleted() && len(dependent.OwnerReferences) == 1 && dependent.Ref.UID != obj.Ref.UID &&
			isAt(dependent.OwnerReferences[0], dependent.Ref.Namespace, obj) {
			uids = append(uids, dependent.Ref.UID)
		}
	}
	return uids
}

func TestInATreeOfOwnersEverythingDeletedGoesAndNothingOwnerlessStays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shapes := drawShapes(t, rapid.IntRange(2, 10).Draw(t, "objects"), []string{"ns"})
		w, deleted := play(t, shapes, func(i int) int { return i })
		for _, obj := range w.objects {
			if obj.beingDeleted() || deleted[obj.Ref.UID] {
				t.Errorf("%q never goes: %+v", obj.Ref.Name, obj)
			}
			for _, ref := range obj.OwnerReferences {
				if _, ok := w.objects[ref.UID]; !ok {
					t.Errorf("%q still refers to %q, which is gone", obj.Ref.Name, ref.Name)
				}
			}
		}
	})
}

func TestInAnyGraphCollectionEndsAndNothingOwnerlessStays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shapes := drawShapes(t, rapid.IntRange(1, 8).Draw(t, "objects"), []string{"", "ns", "other"})
		w, _ := play(t, shapes, func(int) int { return len(shapes) })
		for _, obj := range w.objects {
			switch {
			case obj.orphansDependents():
				t.Errorf("%q still orphans", obj.Ref.Name)
			case obj.deletesDependents() && len(w.blockers(obj)) == 0:
				t.Errorf("%q waits for nothing", obj.Ref.Name)
			case obj.beingDeleted() && !obj.deletesDependents():
				t.Errorf("%q never goes: %+v", obj.Ref.Name, obj)
			case !obj.beingDeleted() && resolvable(obj) && w.ownerless(obj):
				t.Errorf("%q has no owner left and stays", obj.Ref.Name)
			}
		}
	})
}

func TestDeletingOneOfACycleInTheForegroundRemovesItAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, objects: map[types.UID]Object{}}
		n := rapid.IntRange(2, 6).Draw(t, "length")
		for i := range n {
			obj := object(fmt.Sprint(i), ownedBy(blockingOwner(fmt.Sprint((i+1)%n))))
			w.objects[obj.Ref.UID] = obj
		}
		w.remove(w.objects[uidOf("0")], metav1.DeletePropagationForeground)
		w.settle()
		if len(w.objects) > 0 {
			t.Errorf("left of the cycle: %v", w.objects)
		}
	})
}
