package lifecycle

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// ProtectAttributesClass does for a class what [ProtectClaim] does for a claim. It is in use while a
// claim or a volume names it.
//
// Upstream: processVAC of pkg/controller/volume/vacprotection/vac_protection_controller.go.
func ProtectAttributesClass(class *storagev1.VolumeAttributesClass, claims []*corev1.PersistentVolumeClaim, volumes []*corev1.PersistentVolume) plan.Plan {
	used := slices.ContainsFunc(claims, func(c *corev1.PersistentVolumeClaim) bool {
		return slices.Contains(ClassesOfClaim(c), class.Name)
	}) || slices.ContainsFunc(volumes, func(v *corev1.PersistentVolume) bool {
		return slices.Contains(ClassesOfVolume(v), class.Name)
	})
	return protect(plan.AttributesClasses, class.DeepCopy(), AttributesClassProtection, used)
}

// ClassesOfClaim returns the attributes classes that a claim names.
//
// Upstream: getPVCReferencedVACNames.
func ClassesOfClaim(claim *corev1.PersistentVolumeClaim) []string {
	names := named(claim.Spec.VolumeAttributesClassName, claim.Status.CurrentVolumeAttributesClassName)
	if s := claim.Status.ModifyVolumeStatus; s != nil {
		names = append(names, named(&s.TargetVolumeAttributesClassName)...)
	}
	return names
}

// ClassesOfVolume returns the attributes class that a volume names, if it names one.
//
// Upstream: getPVReferencedVACNames.
func ClassesOfVolume(volume *corev1.PersistentVolume) []string {
	return named(volume.Spec.VolumeAttributesClassName)
}

// named returns those of the names that are set.
func named(names ...*string) []string {
	var out []string
	for _, n := range names {
		if n != nil && *n != "" {
			out = append(out, *n)
		}
	}
	return out
}
