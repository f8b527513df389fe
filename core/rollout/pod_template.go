package rollout

import (
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// newPod makes a pod from the template of a ReplicaSet: controller_utils.go GetPodFromTemplate.
func newPod(rs *appsv1.ReplicaSet) *corev1.Pod {
	template := &rs.Spec.Template
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       rs.Namespace,
			GenerateName:    podsPrefix(rs.Name),
			Labels:          maps.Clone(template.Labels),
			Annotations:     maps.Clone(template.Annotations),
			Finalizers:      slices.Clone(template.Finalizers),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(rs, replicaSetKind)},
		},
		Spec: *template.Spec.DeepCopy(),
	}
}

// podsPrefix adds a dash if the name still is one that pods may have: controller_utils.go
// getPodsPrefix.
func podsPrefix(controller string) string {
	prefix := controller + "-"
	if len(validation.NameIsDNSSubdomain(prefix, true)) != 0 {
		return controller
	}
	return prefix
}
