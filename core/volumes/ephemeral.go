package volumes

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/ephemeral"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
)

// ephemeralComponent is who reports about claims of ephemeral volumes.
const ephemeralComponent = "ephemeral_volume"

// Ephemeral makes the claims that a pod's generic ephemeral volumes lack. claims are those of the pod's namespace that have
// the names of [EphemeralClaims]. A claim that is not the pod's stops it: the volumes after it get none.
//
// Upstream: syncHandler and handleVolume of pkg/controller/volume/ephemeral/controller.go.
func Ephemeral(pod *corev1.Pod, claims []*corev1.PersistentVolumeClaim) plan.Plan {
	var p plan.Plan
	if pod.DeletionTimestamp != nil {
		return p
	}
	notices := podcontrol.NoticesOf(pod, corev1.SchemeGroupVersion.WithKind("Pod"), ephemeralComponent)
	existing := byName(claims)
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		if volume.Ephemeral == nil {
			continue
		}
		name := ephemeral.VolumeClaimName(pod, volume)
		if claim := existing[name]; claim != nil {
			if err := ephemeral.VolumeIsForPod(pod, claim); err != nil {
				p.Notices = append(p.Notices, *notices.Warning(failedBinding, fmt.Sprintf("ephemeral volume %s: %v", volume.Name, err)))
				return p
			}
			continue
		}
		p.Writes = append(p.Writes, plan.Write{
			Verb: plan.Create, Resource: plan.Claims, Namespace: pod.Namespace, Name: name, Object: claimOf(pod, volume, name),
			Reason:   "the pod has an ephemeral volume",
			IfFailed: notices.Warning(failedBinding, fmt.Sprintf("ephemeral volume %s: create PVC %s: %%v", volume.Name, name)),
		})
	}
	if len(p.Writes) > 0 {
		p.Reads = []plan.Read{{Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name}}
	}
	return p
}

// EphemeralClaims returns the names of the claims that a pod's ephemeral volumes have.
func EphemeralClaims(pod *corev1.Pod) []string {
	var names []string
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Ephemeral != nil {
			names = append(names, ephemeral.VolumeClaimName(pod, &pod.Spec.Volumes[i]))
		}
	}
	return names
}

// claimOf is the claim of an ephemeral volume. The pod owns it, so it goes with the pod.
func claimOf(pod *corev1.Pod, volume *corev1.Volume, name string) *corev1.PersistentVolumeClaim {
	template := volume.Ephemeral.VolumeClaimTemplate.DeepCopy()
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: name, Annotations: template.Annotations, Labels: template.Labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Spec: template.Spec,
	}
}

func byName[T metav1.Object](objects []T) map[string]T {
	named := make(map[string]T, len(objects))
	for _, o := range objects {
		named[o.GetName()] = o
	}
	return named
}
