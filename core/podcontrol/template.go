package podcontrol

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// New makes a pod from the template of a controller: GetPodFromTemplate.
func New(template *corev1.PodTemplateSpec, controller metav1.Object, kind schema.GroupVersionKind) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       controller.GetNamespace(),
			GenerateName:    prefix(controller.GetName()),
			Labels:          maps.Clone(template.Labels),
			Annotations:     maps.Clone(template.Annotations),
			Finalizers:      slices.Clone(template.Finalizers),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(controller, kind)},
		},
		Spec: *template.Spec.DeepCopy(),
	}
}

// prefix adds a dash if the name still is one that pods may have: getPodsPrefix.
func prefix(controller string) string {
	dashed := controller + "-"
	if len(validation.NameIsDNSSubdomain(dashed, true)) != 0 {
		return controller
	}
	return dashed
}
