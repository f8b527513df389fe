package statefulset

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/record"
	"k8s.io/kubernetes/pkg/controller/history"
	upstream "k8s.io/kubernetes/pkg/controller/statefulset"
	"pgregory.net/rapid"

	ourhistory "github.com/zeroplane/zeroplane/core/history"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/tests/planworld"
)

// TestOneStepIsUpstreams gives the same random worlds to a decision and to the StatefulSet control of
// Kubernetes, and compares what they write and the events that they give.
func TestOneStepIsUpstreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t)
		ours := describe(Decide(s))
		theirs := upstreams(t, s)
		if slices.ContainsFunc(ours, func(line string) bool { return strings.HasPrefix(line, "update pod") }) {
			// What is repaired is not taken away in the same plan: leave what an update would remove out of both.
			ours, theirs = withoutDeletions(ours), withoutDeletions(theirs)
		}
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Fatalf("the step differs from upstream's (-upstream +ours):\n%s\nset %s", diff, body(s.Set))
		}
	})
}

func withoutDeletions(lines []string) []string {
	return slices.DeleteFunc(lines, func(line string) bool {
		return strings.HasPrefix(line, "delete pod") || strings.Contains(line, "SuccessfulDelete") || strings.HasPrefix(line, "status")
	})
}

// describe is what a plan asks for, sorted: upstream does much of it at the same time.
func describe(p plan.Plan) []string {
	var lines []string
	event := func(n *plan.Notice) {
		if n != nil {
			lines = append(lines, "event "+n.Type+" "+n.Reason+" "+n.Message)
		}
	}
	for _, w := range p.Writes {
		lines = append(lines, line(w.Verb, w.Object, strings.TrimSuffix(w.Resource.Resource, "s")+" "+w.Name))
		event(w.OnSuccess)
	}
	for i := range p.Notices {
		event(&p.Notices[i])
	}
	slices.Sort(lines)
	return lines
}

func line(verb plan.Verb, object any, name string) string {
	switch o := object.(type) {
	case *corev1.Pod:
		o = planworld.Copy(o)
		// Upstream puts the volumes of claims in any order.
		slices.SortFunc(o.Spec.Volumes, func(a, b corev1.Volume) int { return strings.Compare(a.Name, b.Name) })
		return fmt.Sprintf("%s pod %s", verb, body(o))
	case *corev1.PersistentVolumeClaim:
		return fmt.Sprintf("%s claim %s", verb, body(o))
	case *appsv1.ControllerRevision:
		o = planworld.Copy(o)
		o.Namespace = "" // the request's path says it there
		return fmt.Sprintf("%s revision %s", verb, body(o))
	case *appsv1.StatefulSet:
		status := planworld.Copy(o).Status
		return "status " + body(&status)
	default:
		return fmt.Sprintf("%s %s", verb, name)
	}
}

func body[T any](object *T) string { return planworld.Text(object) }

func drawSet(t *rapid.T) *appsv1.StatefulSet {
	set := newSet(rapid.Int32Range(0, 5).Draw(t, "replicas"))
	set.Spec.Template.Spec.Containers[0].Image = rapid.SampledFrom([]string{"v1", "v2"}).Draw(t, "image")
	if rapid.Bool().Draw(t, "parallel") {
		set.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
	}
	partition := rapid.Int32Range(0, 4).Draw(t, "partition")
	set.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: &partition}
	switch rapid.IntRange(0, 5).Draw(t, "strategy") {
	case 0:
		set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}
	case 1:
		// The API server fills it in. Without it, upstream takes away in parallel what it has just made.
		if set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement {
			set.Spec.UpdateStrategy.RollingUpdate = nil
		}
	case 2:
		n := intstr.FromInt(rapid.IntRange(1, 3).Draw(t, "max unavailable"))
		set.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = &n
	case 3:
		n := intstr.FromString(fmt.Sprintf("%d%%", rapid.IntRange(1, 100).Draw(t, "percent unavailable")))
		set.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = &n
	}
	if rapid.Bool().Draw(t, "ordinals") {
		set.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: rapid.Int32Range(0, 3).Draw(t, "start")}
	}
	set.Spec.MinReadySeconds = rapid.SampledFrom([]int32{0, 0, 10}).Draw(t, "min ready")
	for _, name := range []string{"data", "logs"}[:rapid.IntRange(0, 2).Draw(t, "claims")] {
		template := claimTemplate(name)
		template.Labels = rapid.SampledFrom([]map[string]string{nil, {"a": "b"}}).Draw(t, "labels of claims")
		set.Spec.VolumeClaimTemplates = append(set.Spec.VolumeClaimTemplates, template)
	}
	policies := rapid.SampledFrom([]appsv1.PersistentVolumeClaimRetentionPolicyType{"Retain", "Delete"})
	set.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
		WhenDeleted: policies.Draw(t, "when deleted"), WhenScaled: policies.Draw(t, "when scaled"),
	}
	limit := rapid.Int32Range(0, 2).Draw(t, "history limit")
	set.Spec.RevisionHistoryLimit = &limit
	set.Annotations = rapid.SampledFrom([]map[string]string{nil, {"kubernetes.io/change-cause": "me"}}).Draw(t, "annotations")
	return set
}

// drawRevisions draws revisions of some images, some of which others have or took the names of.
func drawRevisions(t *rapid.T, set *appsv1.StatefulSet) []*appsv1.ControllerRevision {
	var all []*appsv1.ControllerRevision
	images := rapid.Permutation([]string{"v1", "v2", "v3", "v4"}).Draw(t, "images")[:rapid.IntRange(0, 4).Draw(t, "revisions")]
	for i, image := range images {
		of := set.DeepCopy()
		of.Spec.Template.Spec.Containers[0].Image = image
		if rapid.IntRange(0, 4).Draw(t, "undefaulted") == 0 {
			of.Spec.Template.Spec.SchedulerName = "" // as of a version that did not fill it in
		}
		r := revisionFor(of, int64(i+1), new(int32))
		r.UID, r.ResourceVersion = types.UID("uid-"+r.Name), "3"
		if rapid.IntRange(0, 5).Draw(t, "taken") == 0 {
			r.OwnerReferences[0].UID = "another"
			r.Data.Raw = []byte(rapid.SampledFrom([]string{`{"spec":{}}`, string(r.Data.Raw)}).Draw(t, "data"))
		}
		all = append(all, planworld.Copy(r))
	}
	return all
}

func drawPods(t *rapid.T, set *appsv1.StatefulSet, revisions []*appsv1.ControllerRevision) []*corev1.Pod {
	var pods []*corev1.Pod
	for ordinal := range 8 {
		if rapid.IntRange(0, 3).Draw(t, "there") == 0 {
			continue
		}
		pod := newPodOf(set, ordinal)
		if len(revisions) > 0 {
			pod.Labels[appsv1.StatefulSetRevisionLabel] = rapid.SampledFrom(revisions).Draw(t, "revision").Name
		}
		switch rapid.IntRange(0, 9).Draw(t, "state") {
		case 0:
			pod.Status = corev1.PodStatus{Phase: corev1.PodPending}
		case 1:
			pod.Status.Phase = rapid.SampledFrom([]corev1.PodPhase{corev1.PodFailed, corev1.PodSucceeded}).Draw(t, "phase")
			pod.Status.Conditions = nil
		case 2:
			pod.Status.Conditions = nil
		case 3:
			pod.Status.Conditions[0].LastTransitionTime = metav1.NewTime(epoch.Add(-5 * time.Second))
		case 4:
			deleted := metav1.NewTime(epoch.Add(-time.Second))
			pod.DeletionTimestamp = &deleted
		case 5:
			delete(pod.Labels, appsv1.StatefulSetPodNameLabel)
		case 6:
			pod.Spec.Volumes = nil
		}
		pods = append(pods, planworld.Copy(pod))
	}
	return pods
}

func drawClaims(t *rapid.T, set *appsv1.StatefulSet, pods []*corev1.Pod) []*corev1.PersistentVolumeClaim {
	var claims []*corev1.PersistentVolumeClaim
	for _, name := range ClaimNames(set, pods) {
		if rapid.IntRange(0, 3).Draw(t, "claim is there") == 0 {
			continue
		}
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: set.Namespace, UID: types.UID("uid-" + name), ResourceVersion: "5"}}
		_, ordinal := parentAndOrdinal(name)
		yes := true
		for range rapid.IntRange(0, 2).Draw(t, "owners") {
			switch rapid.IntRange(0, 5).Draw(t, "owner") {
			case 0:
				claim.OwnerReferences = append(claim.OwnerReferences, *metav1.NewControllerRef(set, kind))
			case 1:
				pod := &metav1.ObjectMeta{Name: podName(set, ordinal), UID: types.UID("uid-" + podName(set, ordinal))}
				claim.OwnerReferences = append(claim.OwnerReferences, *metav1.NewControllerRef(pod, podKind))
			case 2:
				pod := &metav1.ObjectMeta{Name: podName(set, ordinal), UID: "former"}
				claim.OwnerReferences = append(claim.OwnerReferences, *metav1.NewControllerRef(pod, podKind))
			case 3:
				claim.OwnerReferences = append(claim.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "Other", Name: "x", UID: "x", Controller: &yes})
			case 4:
				claim.OwnerReferences = append(claim.OwnerReferences, metav1.OwnerReference{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "web", UID: set.UID})
			}
		}
		claims = append(claims, planworld.Copy(claim))
	}
	return claims
}

func drawSnapshot(t *rapid.T) Snapshot {
	set := drawSet(t)
	s := Snapshot{Default: fill, Now: epoch}
	s.Revisions = drawRevisions(t, set)
	s.Pods = drawPods(t, set, s.Revisions)
	s.Claims = drawClaims(t, set, s.Pods)
	if len(s.Revisions) > 0 {
		set.Status.CurrentRevision = rapid.SampledFrom(s.Revisions).Draw(t, "current").Name
	}
	set.Status.CurrentReplicas = rapid.Int32Range(0, 5).Draw(t, "current replicas")
	if rapid.IntRange(0, 9).Draw(t, "observed") == 0 {
		set.Status.ObservedGeneration = 1
	}
	s.Set = planworld.Copy(set)
	return s
}

// fake is what upstream's control reads and writes.
type fake struct {
	mu    sync.Mutex
	s     Snapshot
	lines []string
}

func (f *fake) note(verb plan.Verb, object any, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, line(verb, object, name))
}

func notFound(name string) error { return apierrors.NewNotFound(schema.GroupResource{}, name) }

func (f *fake) CreatePod(_ context.Context, pod *corev1.Pod, _ *appsv1.StatefulSet) error {
	f.note(plan.Create, pod, pod.Name)
	return nil
}

func (f *fake) GetPod(_, name string) (*corev1.Pod, error) { return nil, notFound(name) }

func (f *fake) UpdatePod(pod *corev1.Pod, _ *appsv1.StatefulSet) error {
	for _, before := range f.s.Pods {
		if before.Name == pod.Name && body(before) == body(pod) {
			return nil // upstream also writes the pod when only its claims changed
		}
	}
	f.note(plan.Update, pod, pod.Name)
	return nil
}

func (f *fake) DeletePod(pod *corev1.Pod) error {
	f.note(plan.Delete, nil, "pod "+pod.Name)
	return nil
}

func (f *fake) CreateClaim(claim *corev1.PersistentVolumeClaim, _ *appsv1.StatefulSet) error {
	f.note(plan.Create, claim, claim.Name)
	return nil
}

func (f *fake) GetClaim(_, name string) (*corev1.PersistentVolumeClaim, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, claim := range f.s.Claims {
		if claim.Name == name {
			return claim, nil
		}
	}
	return nil, notFound(name)
}

func (f *fake) UpdateClaim(claim *corev1.PersistentVolumeClaim, _ *appsv1.StatefulSet) error {
	f.note(plan.Update, claim, claim.Name)
	f.mu.Lock()
	defer f.mu.Unlock()
	// A server that is quick: what is read next is what was written.
	at := slices.IndexFunc(f.s.Claims, func(c *corev1.PersistentVolumeClaim) bool { return c.Name == claim.Name })
	f.s.Claims[at] = claim.DeepCopy()
	return nil
}

func (f *fake) UpdateStatefulSetStatus(_ context.Context, set *appsv1.StatefulSet, status *appsv1.StatefulSetStatus) error {
	set = set.DeepCopy()
	set.Status = *status
	f.note(plan.UpdateStatus, set, set.Name)
	return nil
}

// revisions is upstream's history over the snapshot.
type revisions struct {
	history.Interface
	*fake
}

func (r revisions) ListControllerRevisions(parent metav1.Object, _ schema.GroupVersionKind, selector labels.Selector) ([]*appsv1.ControllerRevision, error) {
	var owned []*appsv1.ControllerRevision
	for _, revision := range r.s.Revisions {
		if ref := metav1.GetControllerOf(revision); selector.Matches(labels.Set(revision.Labels)) && (ref == nil || ref.UID == parent.GetUID()) {
			owned = append(owned, revision)
		}
	}
	return owned, nil
}

func (r revisions) CreateControllerRevision(parent metav1.Object, revision *appsv1.ControllerRevision, collisions *int32) (*appsv1.ControllerRevision, error) {
	made := revision.DeepCopy()
	for {
		made.Name = history.ControllerRevisionName(parent.GetName(), history.HashControllerRevision(revision, collisions))
		at := slices.IndexFunc(r.s.Revisions, func(c *appsv1.ControllerRevision) bool { return c.Name == made.Name })
		switch {
		case at < 0:
			r.note(plan.Create, made, made.Name)
			return made, nil
		case string(r.s.Revisions[at].Data.Raw) == string(made.Data.Raw):
			return r.s.Revisions[at], nil
		}
		*collisions++
	}
}

func (r revisions) UpdateControllerRevision(revision *appsv1.ControllerRevision, number int64) (*appsv1.ControllerRevision, error) {
	updated := revision.DeepCopy()
	if updated.Revision == number {
		return updated, nil
	}
	updated.Revision = number
	r.note(plan.Update, updated, updated.Name)
	return updated, nil
}

func (r revisions) DeleteControllerRevision(revision *appsv1.ControllerRevision) error {
	r.note(plan.Delete, nil, "controllerrevision "+revision.Name)
	return nil
}

// upstreams is what upstream does with a snapshot, as describe says it.
func upstreams(t *rapid.T, s Snapshot) []string {
	f := &fake{s: s}
	f.s.Claims = slices.Clone(s.Claims)
	recorder := record.NewFakeRecorder(1000)
	control := upstream.NewDefaultStatefulSetControl(upstream.NewStatefulPodControlFromManager(f, recorder), f, revisions{fake: f})
	var owned []*corev1.Pod
	for _, pod := range s.Pods {
		owned = append(owned, pod.DeepCopy())
	}
	if _, err := control.UpdateStatefulSet(context.Background(), s.Set.DeepCopy(), owned, s.Now); err != nil {
		t.Fatal(err)
	}
	close(recorder.Events)
	for event := range recorder.Events {
		f.lines = append(f.lines, "event "+event)
	}
	slices.Sort(f.lines)
	// In parallel, upstream removes an old pod that has ended twice.
	return slices.Compact(f.lines)
}

// TestRevisionsAreUpstreams compares the parts of core/history with upstream's.
func TestRevisionsAreUpstreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := drawSet(t)
		set.Spec.Template.Labels["x"] = rapid.String().Draw(t, "label")
		set.Name = rapid.SampledFrom([]string{"web", strings.Repeat("a", 240)}).Draw(t, "name")
		count := rapid.Int32Range(0, 100).Draw(t, "collisions")
		ours := revisionFor(set, 4, &count)
		theirs, err := history.NewControllerRevision(set, kind, set.Spec.Template.Labels, ours.Data, 4, &count)
		if err != nil {
			t.Fatal(err)
		}
		theirs.Namespace, theirs.Annotations = set.Namespace, set.Annotations
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Fatalf("revision differs (-upstream +ours):\n%s", diff)
		}
		applied, err := upstream.ApplyRevision(set, theirs)
		if err != nil {
			t.Fatal(err)
		}
		back, err := apply(set, ours)
		if err != nil || body(back) != body(applied) {
			t.Fatalf("applied differs: %v\n%s", err, cmp.Diff(applied, back))
		}
		all := drawRevisions(t, set)
		sorted := slices.Clone(all)
		history.SortControllerRevisions(sorted)
		if diff := cmp.Diff(sorted, ourhistory.Sorted(all)); diff != "" {
			t.Fatalf("order differs (-upstream +ours):\n%s", diff)
		}
	})
}
