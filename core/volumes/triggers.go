package volumes

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/ephemeral"
	storagehelpers "k8s.io/component-helpers/storage/volume"
)

// ClaimsOf returns the names of the claims that a pod's volumes use.
//
// Upstream: PodPVCIndexFunc of pkg/controller/volume/common/common.go.
func ClaimsOf(pod *corev1.Pod) []string {
	var names []string
	for i := range pod.Spec.Volumes {
		switch v := &pod.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			names = append(names, ephemeral.VolumeClaimName(pod, v))
		}
	}
	return names
}

func uses(pod *corev1.Pod, claim string) bool { return slices.Contains(ClaimsOf(pod), claim) }

// MayGet reports whether a claim that may get any volume may get this one.
func MayGet(claim *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume, classes []*storagev1.StorageClass) bool {
	if !MayGetAny(claim) {
		return false
	}
	s := ClaimSnapshot{Claim: claim, Classes: classes}
	return bestMatch(claim, []*corev1.PersistentVolume{volume}, s.delayed()) != nil
}

// IsFor reports whether a volume is for a claim, or for one that had its name.
func IsFor(volume *corev1.PersistentVolume, namespace, name string) bool {
	ref := volume.Spec.ClaimRef
	return ref != nil && ref.Namespace == namespace && ref.Name == name
}

// MattersTo reports whether it matters to a claim that a class has changed.
func MattersTo(class *storagev1.StorageClass, claim *corev1.PersistentVolumeClaim) bool {
	if !MayGetAny(claim) {
		return false
	}
	if !storagehelpers.PersistentVolumeClaimHasClass(claim) {
		return isDefault(class)
	}
	return storagehelpers.GetPersistentVolumeClaimClass(claim) == class.Name
}
