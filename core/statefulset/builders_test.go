package statefulset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/tests/planworld"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// newSet is a StatefulSet as the API serves it.
func newSet(replicas int32) *appsv1.StatefulSet {
	labels := map[string]string{"app": "web"}
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "uid-web", ResourceVersion: "7", Generation: 1, Labels: labels},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, ServiceName: "web", Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "v1"}}},
			},
		},
	}
	fill(set)
	return planworld.Copy(set)
}

// fill is what the API server fills in.
func fill(set *appsv1.StatefulSet) { legacyscheme.Scheme.Default(set) }

func claimTemplate(name string) corev1.PersistentVolumeClaim {
	return corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// newPodOf is a running and ready pod of a set, of its template now.
func newPodOf(set *appsv1.StatefulSet, ordinal int) *corev1.Pod {
	pod := newPod(set, ordinal, revisionFor(set, 1, new(int32)).Name)
	pod.UID = types.UID("uid-" + pod.Name)
	pod.Spec.NodeName = "node"
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(epoch.Add(-time.Minute)),
	}}
	return pod
}

// snapshot is what a decision about the set of a world is made on.
func snapshot(w *planworld.World) Snapshot {
	s := Snapshot{
		Set: planworld.Get[*appsv1.StatefulSet](w, plan.StatefulSets, "web"), Default: fill, Now: w.Now,
		Pods:      planworld.List[*corev1.Pod](w, plan.Pods),
		Revisions: planworld.List[*appsv1.ControllerRevision](w, plan.Revisions),
		Claims:    planworld.List[*corev1.PersistentVolumeClaim](w, plan.Claims),
	}
	return s
}
