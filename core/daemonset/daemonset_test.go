package daemonset

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/zeroplane/zeroplane/core/plan"
)

// settled is a snapshot of a set at rest, with a ready pod on each of two nodes.
func settled(change func(*Snapshot)) Snapshot {
	set := newSet()
	set.Status = appsv1.DaemonSetStatus{
		ObservedGeneration: 1, DesiredNumberScheduled: 2, CurrentNumberScheduled: 2, NumberReady: 2, NumberAvailable: 2, UpdatedNumberScheduled: 2,
	}
	s := Snapshot{
		Set: set, Nodes: []*corev1.Node{newNode("n1"), newNode("n2")}, Now: epoch,
		Pods: []*corev1.Pod{newPodOf(set, "n1", ""), newPodOf(set, "n2", "")}, Revisions: []*appsv1.ControllerRevision{newRevision(set, 1)},
	}
	change(&s)
	return s
}

// outline is what a plan asks for, a line each.
func outline(p plan.Plan) []string {
	var lines []string
	for _, w := range p.Writes {
		name := w.Name
		if pod, ok := w.Object.(*corev1.Pod); ok {
			name, _ = targetNode(pod)
		}
		lines = append(lines, fmt.Sprintf("%s %s %s", w.Verb, w.Resource.Resource, name))
	}
	for _, n := range p.Notices {
		lines = append(lines, fmt.Sprintf("%s %s: %s", n.Type, n.Reason, n.Message))
	}
	for _, l := range p.Later {
		lines = append(lines, fmt.Sprintf("%s in %s, delay %s", l.Kind, l.At.Sub(epoch), l.Delay))
	}
	return lines
}

func TestDecide(t *testing.T) {
	fail := func(s *Snapshot) { s.Pods[0].Status = corev1.PodStatus{Phase: corev1.PodFailed} }
	removed := func(ago, delay time.Duration) []plan.Later {
		return []plan.Later{{At: epoch.Add(forgottenAfter - ago), Kind: "failed-pod/1/n1", Delay: delay}}
	}
	failed := func(delay string) []string {
		return []string{
			"delete pods agent-n1", "updateStatus daemonsets agent",
			"Warning FailedDaemonPod: Found failed daemon pod default/agent-n1 on node n1, will try to kill it",
			"failed-pod/1/n1 in 30m0s, delay " + delay,
		}
	}
	report := "updateStatus daemonsets agent"
	for name, c := range map[string]struct {
		change func(*Snapshot)
		want   []string
	}{
		"a set at rest gets an empty plan": {change: func(*Snapshot) {}},
		"a new node gets a pod": {
			change: func(s *Snapshot) { s.Nodes = append(s.Nodes, newNode("n3")) }, want: []string{"create pods n3", report},
		},
		"a set that is being deleted is left alone": {change: func(s *Snapshot) { s.Set.DeletionTimestamp, s.Pods = &metav1.Time{Time: epoch}, nil }},
		"a set that selects all pods is refused": {
			change: func(s *Snapshot) { s.Set.Spec.Selector = &metav1.LabelSelector{} },
			want:   []string{"Warning SelectingAll: This daemon set is selecting all pods. A non-empty selector is required."},
		},
		"an orphan is adopted before anything else": {
			change: func(s *Snapshot) { s.Pods[0].OwnerReferences, s.Pods = nil, s.Pods[:1] }, want: []string{"patch pods agent-n1"},
		},
		"a pod that waits for a node that is gone is removed": {
			change: func(s *Snapshot) {
				s.Pods[1].Spec.NodeName, s.Nodes = "", s.Nodes[:1]
				s.Pods[1].Status = corev1.PodStatus{Phase: corev1.PodPending}
			},
			want: []string{"delete pods agent-n2", report},
		},
		"a failed pod is removed, and it is noted how long the next one is left alone": {change: fail, want: failed("1s")},
		"the next one is left alone for as long": {
			change: func(s *Snapshot) { fail(s); s.Backoffs = removed(time.Second, 4*time.Second) },
			want:   []string{report, "failed-pod in 3s, delay 0s"},
		},
		"after that it is removed, and the one after it left alone for twice as long": {
			change: func(s *Snapshot) { fail(s); s.Backoffs = removed(4*time.Second, 4*time.Second) }, want: failed("8s"),
		},
		"for no longer than 15 minutes": {
			change: func(s *Snapshot) { fail(s); s.Backoffs = removed(10*time.Minute, 10*time.Minute) }, want: failed("15m0s"),
		},
		"what was long ago is forgotten": {
			change: func(s *Snapshot) { fail(s); s.Backoffs = removed(forgottenAfter+time.Second, 10*time.Minute) }, want: failed("1s"),
		},
		"a pod that succeeded is made again": {
			change: func(s *Snapshot) { s.Pods[0].Status = corev1.PodStatus{Phase: corev1.PodSucceeded} },
			want: []string{
				"delete pods agent-n1", report, "Normal SucceededDaemonPod: Found succeeded daemon pod default/agent-n1 on node n1, will try to delete it",
			},
		},
		"an update waits for the pods that are missing": {
			change: func(s *Snapshot) {
				s.Set.Annotations, s.Pods = nil, s.Pods[:1]
				s.Pods[0].Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = "old"
			},
			want: []string{"create pods n2", report},
		},
		"a surge makes a pod beside the old one": {
			change: func(s *Snapshot) {
				one, none := intstr.FromInt(1), intstr.FromInt(0)
				s.Set.Annotations, s.Set.Spec.UpdateStrategy.RollingUpdate = nil, &appsv1.RollingUpdateDaemonSet{MaxSurge: &one, MaxUnavailable: &none}
				for _, pod := range s.Pods {
					pod.Labels = map[string]string{"app": "agent", appsv1.DefaultDaemonSetUniqueLabelKey: "old"}
				}
			},
			want: []string{"create pods n1", report},
		},
		"a pod that will be available is looked for": {
			change: func(s *Snapshot) { s.Set.Spec.MinReadySeconds = 90 }, want: []string{report, "available in 30s, delay 0s"},
		},
		"a name that is taken is counted first": {
			change: func(s *Snapshot) {
				s.Revisions[0].OwnerReferences[0].UID, s.Revisions[0].Data.Raw = "another", []byte(`{}`)
			},
			want: []string{report},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, outline(Decide(settled(c.change)))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestARevisionThatIsThereTwiceIsThereOnce(t *testing.T) {
	s := settled(func(s *Snapshot) {
		twin := s.Revisions[0].DeepCopy()
		twin.Name, twin.Revision = "twin", 2
		twin.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = "twin"
		s.Revisions = append(s.Revisions, twin)
	})
	want := []string{"patch pods agent-n1", "patch pods agent-n2", "delete controllerrevisions " + s.Revisions[0].Name}
	if diff := cmp.Diff(want, outline(Decide(s))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOldRevisionsAboveTheLimitGoButForThoseThatPodsHave(t *testing.T) {
	s := settled(func(s *Snapshot) {
		for i, image := range []string{"a", "b", "c"} {
			old := newSet()
			old.Spec.Template.Spec.Containers[0].Image = image
			s.Revisions = append(s.Revisions, newRevision(old, int64(i-3)))
		}
		limit := int32(1)
		s.Set.Spec.RevisionHistoryLimit = &limit
		s.Pods[0].Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = s.Revisions[1].Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
	})
	want := []string{"delete controllerrevisions " + s.Revisions[2].Name, "delete controllerrevisions " + s.Revisions[3].Name}
	if diff := cmp.Diff(want, outline(Decide(s))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestARefusedWriteLeavesTheStatusToBeWritten(t *testing.T) {
	s := settled(func(s *Snapshot) { s.Nodes = append(s.Nodes, newNode("n3")) })
	if diff := cmp.Diff([]string{"updateStatus daemonsets agent"}, outline(Failed(s))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOnlySomeChangesOfNodesConcernASet(t *testing.T) {
	tainted, relabelled := newNode("n1"), newNode("n1")
	tainted.Spec.Taints = []corev1.Taint{{Key: "own", Effect: corev1.TaintEffectNoSchedule}}
	relabelled.Labels = map[string]string{"zone": "b"}
	for name, c := range map[string]struct {
		before, after *corev1.Node
		want          bool
	}{
		"it comes":                  {after: newNode("n1"), want: true},
		"it goes":                   {before: newNode("n1"), want: true},
		"it is tainted":             {before: newNode("n1"), after: tainted, want: true},
		"a label that nobody wants": {before: newNode("n1"), after: relabelled},
		"it goes, and was tainted":  {before: tainted, want: true},
		"nothing":                   {before: tainted, after: tainted},
	} {
		if Concerns(newSet(), c.before, c.after) != c.want {
			t.Errorf("%s: concerns the set: %v", name, !c.want)
		}
	}
}
