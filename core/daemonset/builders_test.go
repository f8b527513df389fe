package daemonset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
	"github.com/zeroplane/zeroplane/tests/planworld"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// newSet is a DaemonSet as the API serves it.
func newSet() *appsv1.DaemonSet {
	one, none, limit := intstr.FromInt(1), intstr.FromInt(0), int32(10)
	labels := map[string]string{"app": "agent"}
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: "agent", Namespace: "default", UID: "uid-agent", ResourceVersion: "7", Generation: 1, Labels: labels,
			Annotations: map[string]string{appsv1.DeprecatedTemplateGeneration: "1"},
		},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels}, RevisionHistoryLimit: &limit,
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
				Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &one, MaxSurge: &none},
			},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "v1"}}},
			},
		},
	}
}

func newNode(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"zone": "a"}}}
}

// hashOf is what the pods of a template are labelled with.
func hashOf(set *appsv1.DaemonSet) string { return podcontrol.ComputeHash(&set.Spec.Template, nil) }

// newPodOf is a running and ready pod of a set on a node, of its template now.
func newPodOf(set *appsv1.DaemonSet, node, suffix string) *corev1.Pod {
	pod := newPod(set, node, hashOf(set))
	pod.Name, pod.GenerateName = pod.GenerateName+node+suffix, ""
	pod.UID = types.UID("uid-" + pod.Name)
	pod.Spec.NodeName = node
	pod.CreationTimestamp = metav1.NewTime(epoch.Add(-time.Hour))
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{
		Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(epoch.Add(-time.Minute)),
	}}}
	return pod
}

// newRevision is the revision of a set's template.
func newRevision(set *appsv1.DaemonSet, number int64) *appsv1.ControllerRevision {
	r := &decision{set: set}
	r.findCurrent()
	revision := r.current.DeepCopy()
	revision.Revision, revision.UID, revision.ResourceVersion = number, types.UID("uid-"+revision.Name), "3"
	return revision
}

// snapshot is what a decision about the set of a world is made on.
func snapshot(w *planworld.World) Snapshot {
	s := Snapshot{
		Set: planworld.Get[*appsv1.DaemonSet](w, plan.DaemonSets, "agent"), Now: w.Now,
		Pods:      planworld.List[*corev1.Pod](w, plan.Pods),
		Revisions: planworld.List[*appsv1.ControllerRevision](w, plan.Revisions),
		Nodes:     planworld.List[*corev1.Node](w, plan.Nodes),
	}
	for _, kind := range Backoffs(s.Set, s.Pods) {
		if l, ok := w.Later[kind]; ok {
			s.Backoffs = append(s.Backoffs, l)
		}
	}
	return s
}
