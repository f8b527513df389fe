package volumes

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podstate"
)

// The reasons of events about claims and volumes (pkg/controller/volume/events/event.go).
const (
	failedBinding        = "FailedBinding"
	volumeMismatch       = "VolumeMismatch"
	volumeFailedRecycle  = "VolumeFailedRecycle"
	volumeFailedDelete   = "VolumeFailedDelete"
	externalProvisioning = "ExternalProvisioning"
	provisioningFailed   = "ProvisioningFailed"
	waitForFirstConsumer = "WaitForFirstConsumer"
	waitForPodScheduled  = "WaitForPodScheduled"
)

// ClaimSnapshot is what is known of a claim.
type ClaimSnapshot struct {
	Claim *corev1.PersistentVolumeClaim
	// Volumes by name: all there are if the claim may get any, see [MayGetAny], else the one that it names, if there is one.
	Volumes []*corev1.PersistentVolume
	Classes []*storagev1.StorageClass
	// Pods of the namespace, for claims that wait for their first consumer, see [ClaimSnapshot.Waits].
	Pods []*corev1.Pod
}

// Claim is one step of a claim.
//
// Upstream: syncClaim of pkg/controller/volume/persistentvolume/pv_controller.go.
func Claim(s ClaimSnapshot) plan.Plan {
	if migrated := migratedClaim(s.Claim); migrated != nil {
		return plan.Plan{Writes: []plan.Write{write(plan.Update, migrated, "its plugin has moved")}}
	}
	switch {
	case isBound(s.Claim):
		return s.bound()
	case s.Claim.Spec.VolumeName != "":
		return s.asked()
	default:
		return s.free()
	}
}

// MayGetAny reports whether a claim gets whichever volume will do.
func MayGetAny(claim *corev1.PersistentVolumeClaim) bool {
	return !isBound(claim) && claim.Spec.VolumeName == ""
}

// Waits reports whether a claim waits for a pod to come and the scheduler to say where.
func (s ClaimSnapshot) Waits() bool {
	return MayGetAny(s.Claim) && s.delayed() && !storagehelpers.IsDelayBindingProvisioning(s.Claim)
}

// delayed reports whether the scheduler chooses the claim's volume.
//
// Upstream: IsDelayBindingMode in k8s.io/component-helpers/storage/volume/pv_helpers.go.
func (s ClaimSnapshot) delayed() bool {
	class := s.class()
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

// class is the claim's class, nil for none.
func (s ClaimSnapshot) class() *storagev1.StorageClass {
	return byName(s.Classes)[storagehelpers.GetPersistentVolumeClaimClass(s.Claim)]
}

// free finds a volume for a claim that may get any, or somebody who makes one.
//
// Upstream: syncUnboundClaim.
func (s ClaimSnapshot) free() plan.Plan {
	if volume := bestMatch(s.Claim, s.Volumes, s.delayed()); volume != nil {
		return bind(volume, s.Claim)
	}
	if assigned := s.withDefaultClass(); assigned != nil {
		return plan.Plan{Writes: []plan.Write{write(plan.Update, assigned, "it has no class, and there is a default one")}}
	}
	switch {
	case s.Waits():
		return pend(s.Claim, s.consumers())
	case storagehelpers.GetPersistentVolumeClaimClass(s.Claim) != "":
		return s.provision()
	default:
		return pend(s.Claim, aboutClaim(s.Claim).Normal(failedBinding, "no persistent volumes available for this claim and no storage class is set"))
	}
}

// consumers says for whom a claim waits.
//
// Upstream: emitEventForUnboundDelayBindingClaim and findNonScheduledPodsByPVC.
func (s ClaimSnapshot) consumers() *plan.Notice {
	var names []string
	for _, pod := range s.Pods {
		if pod.Spec.NodeName == "" && podstate.IsActive(pod) && uses(pod, s.Claim.Name) {
			names = append(names, pod.Name)
		}
	}
	about := aboutClaim(s.Claim)
	switch len(names) {
	case 0:
		return about.Normal(waitForFirstConsumer, "waiting for first consumer to be created before binding")
	case 1:
		return about.Normal(waitForPodScheduled, fmt.Sprintf("waiting for pod %s to be scheduled", names[0]))
	default:
		return about.Normal(waitForPodScheduled, fmt.Sprintf("waiting for pods %s to be scheduled", strings.Join(names, ",")))
	}
}

// asked binds a claim to the volume that a user asked for.
//
// Upstream: syncUnboundClaim.
func (s ClaimSnapshot) asked() plan.Plan {
	volume := byName(s.Volumes)[s.Claim.Spec.VolumeName]
	about := aboutClaim(s.Claim)
	switch {
	case volume == nil:
		return pend(s.Claim, nil)
	case volume.Spec.ClaimRef == nil:
		if why := mismatch(volume, s.Claim); why != "" {
			return pend(s.Claim, about.Warning(volumeMismatch, fmt.Sprintf("Cannot bind to requested volume %q: %s", volume.Name, why)))
		}
		return bind(volume, s.Claim)
	case storagehelpers.IsVolumeBoundToClaim(volume, s.Claim):
		return bind(volume, s.Claim)
	}
	taken := about.Warning(failedBinding, fmt.Sprintf("volume %q already bound to a different claim.", volume.Name))
	if metav1.HasAnnotation(s.Claim.ObjectMeta, storagehelpers.AnnBoundByController) {
		return plan.Plan{Notices: []plan.Notice{*taken}} // somebody took the other annotation away
	}
	return pend(s.Claim, taken)
}

// bound sees to it that a claim that was bound still is.
//
// Upstream: syncBoundClaim.
func (s ClaimSnapshot) bound() plan.Plan {
	volume := byName(s.Volumes)[s.Claim.Spec.VolumeName]
	switch {
	case s.Claim.Spec.VolumeName == "":
		return lose(s.Claim, "ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
	case volume == nil:
		p := lose(s.Claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
		p.Reads = append(p.Reads, readVolume(s.Claim.Spec.VolumeName))
		return p
	case volume.Spec.ClaimRef == nil, volume.Spec.ClaimRef.UID == s.Claim.UID:
		return bind(volume, s.Claim)
	default:
		p := lose(s.Claim, "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
		p.Reads = append(p.Reads, readVolume(volume.Name))
		return p
	}
}
