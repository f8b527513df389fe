package volumes

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"

	"github.com/zeroplane/zeroplane/core/plan"
)

const binding = "the volume is bound to the claim"

// bind brings volume and claim one step closer to being bound to each other: what is wrong with their specs first.
//
// Upstream: bind of pkg/controller/volume/persistentvolume/pv_controller.go.
func bind(volume *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) plan.Plan {
	p := plan.Plan{Reads: []plan.Read{readVolume(volume.Name), readClaim(claim.Namespace, claim.Name)}}
	// An error says that the scheme has no claims.
	if bound, changed, err := storagehelpers.GetBindVolumeToClaim(volume, claim); err == nil && changed {
		p.Writes = append(p.Writes, write(plan.Update, bound, binding))
	} else if changed := withPhase(volume, corev1.VolumeBound, ""); changed != nil {
		p.Writes = append(p.Writes, write(plan.UpdateStatus, changed, binding))
	}
	if bound := boundTo(claim, volume); bound != nil {
		p.Writes = append(p.Writes, write(plan.Update, bound, binding))
	} else if changed := withStatus(claim, corev1.ClaimBound, volume); changed != nil {
		p.Writes = append(p.Writes, write(plan.UpdateStatus, changed, binding))
	}
	return p
}

// boundTo is the claim as it names a volume, nil if it does.
//
// Upstream: bindClaimToVolume.
func boundTo(claim *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume) *corev1.PersistentVolumeClaim {
	if claim.Spec.VolumeName == volume.Name && isBound(claim) {
		return nil
	}
	bound := claim.DeepCopy()
	if claim.Spec.VolumeName != volume.Name {
		bound.Spec.VolumeName = volume.Name
		annotateOnce(&bound.ObjectMeta, storagehelpers.AnnBoundByController)
	}
	annotateOnce(&bound.ObjectMeta, storagehelpers.AnnBindCompleted)
	return bound
}

// annotateOnce leaves the value as it is if there is one.
func annotateOnce(meta *metav1.ObjectMeta, annotation string) {
	if !metav1.HasAnnotation(*meta, annotation) {
		metav1.SetMetaDataAnnotation(meta, annotation, "yes")
	}
}

// isBound reports whether a claim was bound once. Its phase may not say so yet.
func isBound(claim *corev1.PersistentVolumeClaim) bool {
	return metav1.HasAnnotation(claim.ObjectMeta, storagehelpers.AnnBindCompleted)
}

// unbound is the volume without its claim. One that a user reserved for the claim stays so.
//
// Upstream: unbindVolume.
func unbound(volume *corev1.PersistentVolume) *corev1.PersistentVolume {
	free := volume.DeepCopy()
	if !metav1.HasAnnotation(volume.ObjectMeta, storagehelpers.AnnBoundByController) {
		free.Spec.ClaimRef.UID = ""
		return free
	}
	free.Spec.ClaimRef = nil
	delete(free.Annotations, storagehelpers.AnnBoundByController)
	if len(free.Annotations) == 0 {
		free.Annotations = nil
	}
	return free
}
