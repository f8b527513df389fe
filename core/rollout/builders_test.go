package rollout

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/podcontrol"
)

// newReplicaSet is a ReplicaSet as the API serves it, not yet observed.
func newReplicaSet(name string, size int32) *appsv1.ReplicaSet {
	labels := map[string]string{"app": name}
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "default", UID: types.UID("uid-" + name), ResourceVersion: "7", Generation: 1,
			Labels: labels, CreationTimestamp: metav1.NewTime(epoch.Add(-time.Hour)),
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &size, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "v1"}}},
			},
		},
	}
}

// observed is the ReplicaSet with a status that needs no write.
func observed(rs *appsv1.ReplicaSet, replicas, ready, available int32) *appsv1.ReplicaSet {
	rs.Status = appsv1.ReplicaSetStatus{
		Replicas: replicas, FullyLabeledReplicas: replicas, ReadyReplicas: ready, AvailableReplicas: available,
		TerminatingReplicas: new(int32), ObservedGeneration: rs.Generation,
	}
	return rs
}

// newPod is what is made from the template of a ReplicaSet.
func newPod(rs *appsv1.ReplicaSet) *corev1.Pod {
	return podcontrol.New(&rs.Spec.Template, rs, replicaSetKind)
}

// newPodOf is a running pod of a ReplicaSet.
func newPodOf(rs *appsv1.ReplicaSet, suffix string) *corev1.Pod {
	pod := newPod(rs)
	pod.Name, pod.GenerateName = pod.GenerateName+suffix, ""
	pod.UID = types.UID("uid-" + pod.Name)
	pod.Spec.NodeName = "node"
	pod.Status.Phase = corev1.PodRunning
	pod.CreationTimestamp = metav1.NewTime(epoch.Add(-time.Minute))
	return pod
}

// readySince marks a pod ready.
func readySince(pod *corev1.Pod, ago time.Duration) *corev1.Pod {
	pod.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(epoch.Add(-ago)),
	}}
	return pod
}
