package statefulset

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// settled is a snapshot of a set at rest.
func settled(set *appsv1.StatefulSet, pods ...*corev1.Pod) Snapshot {
	revision := revisionFor(set, 1, new(int32))
	revision.UID, revision.ResourceVersion = "uid-revision", "3"
	n := int32(len(pods))
	set.Status = appsv1.StatefulSetStatus{
		ObservedGeneration: 1, Replicas: n, ReadyReplicas: n, AvailableReplicas: n, CurrentReplicas: n, UpdatedReplicas: n,
		CurrentRevision: revision.Name, UpdateRevision: revision.Name, CollisionCount: new(int32),
	}
	return Snapshot{Set: set, Pods: pods, Revisions: []*appsv1.ControllerRevision{revision}, Default: fill, Now: epoch}
}

// outline is what a plan asks for, a line each.
func outline(p plan.Plan) []string {
	var lines []string
	for _, w := range p.Writes {
		lines = append(lines, fmt.Sprintf("%s %s %s", w.Verb, w.Resource.Resource, w.Name))
	}
	for _, n := range p.Notices {
		lines = append(lines, fmt.Sprintf("%s %s: %s", n.Type, n.Reason, n.Message))
	}
	for _, l := range p.Later {
		lines = append(lines, fmt.Sprintf("%s in %s", l.Kind, l.At.Sub(epoch)))
	}
	return lines
}

func TestDecide(t *testing.T) {
	withClaims := func(whenScaled appsv1.PersistentVolumeClaimRetentionPolicyType) *appsv1.StatefulSet {
		set := newSet(1)
		set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{claimTemplate("data")}
		set.Spec.PersistentVolumeClaimRetentionPolicy.WhenScaled = whenScaled
		return set
	}
	claim := func(change func(*corev1.PersistentVolumeClaim)) []*corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data-web-0", Namespace: "default", UID: "uid-claim"}}
		change(c)
		return []*corev1.PersistentVolumeClaim{c}
	}
	with := func(s Snapshot, change func(*Snapshot)) Snapshot {
		change(&s)
		return s
	}
	past := metav1.NewTime(epoch.Add(-time.Second))
	for name, c := range map[string]struct {
		snapshot Snapshot
		want     []string
	}{
		"a set at rest gets an empty plan": {snapshot: settled(newSet(2), newPodOf(newSet(2), 0), newPodOf(newSet(2), 1))},
		"an orphan is adopted before anything else": {
			snapshot: with(settled(newSet(2), newPodOf(newSet(2), 0)), func(s *Snapshot) { s.Pods[0].OwnerReferences = nil }),
			want:     []string{"patch pods web-0"},
		},
		"a pod whose labels do not match is released": {
			snapshot: with(settled(newSet(1), newPodOf(newSet(1), 0)), func(s *Snapshot) { s.Pods[0].Labels = nil }),
			want:     []string{"patch pods web-0"},
		},
		"a pod of another name is released": {
			snapshot: with(settled(newSet(1), newPodOf(newSet(1), 0)), func(s *Snapshot) { s.Pods[0].Name = "other-0" }),
			want:     []string{"patch pods other-0"},
		},
		"a revision without a controller is adopted": {
			snapshot: with(settled(newSet(0)), func(s *Snapshot) { s.Revisions[0].OwnerReferences = nil }),
			want:     []string{"patch controllerrevisions " + settled(newSet(0)).Revisions[0].Name},
		},
		"a set that is being deleted is only reported": {
			snapshot: with(settled(newSet(3), newPodOf(newSet(3), 0)), func(s *Snapshot) {
				s.Set.DeletionTimestamp = &past
				s.Set.Status.Replicas, s.Revisions = 5, nil
			}),
			want: []string{"updateStatus statefulsets web"},
		},
		"a claim that is being deleted stands in the way": {
			snapshot: with(settled(withClaims("Retain")), func(s *Snapshot) {
				s.Claims = claim(func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = &past })
			}),
			want: []string{"Warning FailedCreate: Create Pod web-0 in StatefulSet web failed error: pvc data-web-0 is being deleted"},
		},
		"a claim of a former pod is not for the next one": {
			snapshot: with(settled(withClaims("Delete")), func(s *Snapshot) {
				s.Claims = claim(func(c *corev1.PersistentVolumeClaim) {
					c.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(&metav1.ObjectMeta{Name: "web-0", UID: "former"}, podKind)}
				})
			}),
		},
		"a stranger with the name stands in the way": {
			snapshot: with(settled(newSet(1)), func(s *Snapshot) {
				s.Pods = []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "web-0", Namespace: "default"}}}
			}),
		},
		"the claim goes before the pod": {
			snapshot: settled(withClaims("Retain")),
			want:     []string{"create persistentvolumeclaims data-web-0", "create pods web-0"},
		},
		"a pod that has ended is made again": {
			snapshot: with(settled(newSet(1), newPodOf(newSet(1), 0)), func(s *Snapshot) {
				s.Pods[0].Status = corev1.PodStatus{Phase: corev1.PodSucceeded}
			}),
			want: []string{"delete pods web-0", "updateStatus statefulsets web"},
		},
		"a pod that will be available is looked for": {
			snapshot: with(settled(newSet(1), newPodOf(newSet(1), 0)), func(s *Snapshot) {
				s.Set.Spec.MinReadySeconds = 90
				s.Set.Status.AvailableReplicas = 0
			}),
			want: []string{"available in 30s"},
		},
		"nobody waits any more for what is available": {
			snapshot: with(settled(newSet(1), newPodOf(newSet(1), 0)), func(s *Snapshot) {
				s.Set.Spec.MinReadySeconds = 10
				s.Set.Status.AvailableReplicas = 0
			}),
			want: []string{"updateStatus statefulsets web", "available in " + time.Time{}.Sub(epoch).String()},
		},
		"a strategy behind a gate is refused": {
			snapshot: with(settled(newSet(1)), func(s *Snapshot) {
				s.Set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.RecreateStatefulSetStrategyType}
			}),
			want: []string{"Warning UnknownStrategy: statefulset default/web uses Recreate strategy but feature gate StatefulSetRecreateStrategy is disabled"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, outline(Decide(c.snapshot))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestOnePlanMakesAtMostABatch(t *testing.T) {
	set := newSet(700)
	set.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
	made := 0
	for _, w := range Decide(settled(set)).Writes {
		if w.Verb == plan.Create && w.Resource == plan.Pods {
			made++
		}
	}
	if made != maxPods {
		t.Errorf("%d pods are made, want %d", made, maxPods)
	}
}

func TestARefusedWriteLeavesTheStatusToBeWritten(t *testing.T) {
	s := settled(newSet(1))
	s.Set.Status.Replicas = 3
	s.Set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{claimTemplate("data")}
	got := outline(Failed(s, Decide(s).Writes[0], "exceeded quota"))
	want := []string{
		"updateStatus statefulsets web",
		"Warning FailedCreate: Create Pod web-0 in StatefulSet web failed error: failed to create PVC data-web-0: exceeded quota",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestReadsCoverTheDecision: what another instance does to the pods, revisions and claims of the set makes a plan stale.
func TestReadsCoverTheDecision(t *testing.T) {
	set := newSet(1)
	set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{claimTemplate("data")}
	var got []string
	for _, r := range Decide(settled(set)).Reads {
		what := r.Name + string(r.Owner)
		if r.Selector != nil {
			what = r.Selector.String()
		}
		got = append(got, r.Resource.Resource+" "+what)
	}
	want := []string{
		"statefulsets web", "pods uid-web", "controllerrevisions uid-web", "pods app=web", "controllerrevisions app=web",
		"persistentvolumeclaims data-web-0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNamesAreTakenApart(t *testing.T) {
	for name, want := range map[string]string{
		"web-0": "web 0", "a-b-12": "a-b 12", "web": " -1", "web-": " -1", "web-x1": " -1", "-3": " 3", "web-99999999999": "web -1",
	} {
		parent, ordinal := parentAndOrdinal(name)
		if got := fmt.Sprint(parent, " ", ordinal); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
	set := newSet(1)
	set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{claimTemplate("data")}
	for name, want := range map[string]bool{"data-web-7": true, "data-web": false, "logs-web-7": false, "data-web-x": false} {
		if HasClaim(set, name) != want {
			t.Errorf("%q is a claim of the set: %v", name, !want)
		}
	}
}
