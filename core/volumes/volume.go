package volumes

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Volume is one step of a volume. claim is the one of the namespace and name that the volume is for, nil if there is none:
// of another UID it is another one. Both must be of one state of their log.
//
// Upstream: syncVolume of pkg/controller/volume/persistentvolume/pv_controller.go.
func Volume(volume *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) plan.Plan {
	if migrated := migratedVolume(volume); migrated != nil {
		return plan.Plan{Writes: []plan.Write{write(plan.Update, migrated, "its plugin has moved, or how it is deleted")}}
	}
	ref := volume.Spec.ClaimRef
	if ref == nil || ref.UID == "" {
		return enter(volume, corev1.VolumeAvailable, "", nil)
	}
	p := claimed(volume, claim)
	p.Reads = append(p.Reads, readClaim(ref.Namespace, ref.Name))
	return p
}

// claimed is one step of a volume that names the UID of its claim.
func claimed(volume *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) plan.Plan {
	switch {
	case claim == nil || claim.UID != volume.Spec.ClaimRef.UID:
		return release(volume)
	case claim.Spec.VolumeName == "":
		return dangling(volume, claim)
	case claim.Spec.VolumeName == volume.Name:
		return enter(volume, corev1.VolumeBound, "", nil)
	case metav1.HasAnnotation(volume.ObjectMeta, storagehelpers.AnnDynamicallyProvisioned) && volume.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
		return release(volume) // it was made for the claim, which got another
	default:
		return plan.Plan{Writes: []plan.Write{write(plan.Update, unbound(volume), "the claim is bound to another volume")}}
	}
}

// dangling leaves the binding to the claim's step, and says so if that will not come about.
func dangling(volume *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) plan.Plan {
	if !storagehelpers.CheckVolumeModeMismatches(&claim.Spec, &volume.Spec) {
		return plan.Plan{}
	}
	return plan.Plan{Notices: []plan.Notice{
		*aboutVolume(volume).Warning(volumeMismatch, fmt.Sprintf("Cannot bind PersistentVolume to requested PersistentVolumeClaim %q due to incompatible volumeMode.", claim.Name)),
		*aboutClaim(claim).Warning(volumeMismatch, fmt.Sprintf("Cannot bind PersistentVolume %q to requested PersistentVolumeClaim due to incompatible volumeMode.", volume.Name)),
	}}
}

// release says that nobody claims a volume any more, and then does what is to become of it.
func release(volume *corev1.PersistentVolume) plan.Plan {
	if volume.Status.Phase != corev1.VolumeReleased && volume.Status.Phase != corev1.VolumeFailed {
		return enter(volume, corev1.VolumeReleased, "", nil)
	}
	return reclaim(volume)
}
