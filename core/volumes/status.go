package volumes

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
)

// component is who reports about claims and volumes.
const component = "persistentvolume-controller"

// preResizeCapacity is what a volume's file system had before it was made larger, until a node has grown it
// (AnnPreResizeCapacity of pkg/volume/util/resize_util.go).
const preResizeCapacity = "volume.alpha.kubernetes.io/pre-resize-capacity"

// withStatus is the claim in a phase, with what its status says of the volume, nil for none; nil if it is so already.
//
// Upstream: updateClaimStatus of pkg/controller/volume/persistentvolume/pv_controller.go.
func withStatus(claim *corev1.PersistentVolumeClaim, phase corev1.PersistentVolumeClaimPhase, volume *corev1.PersistentVolume) *corev1.PersistentVolumeClaim {
	changed := claim.DeepCopy()
	changed.Status.Phase = phase
	if volume == nil {
		changed.Status.AccessModes, changed.Status.Capacity, changed.Status.CurrentVolumeAttributesClassName = nil, nil, nil
	} else {
		changed.Status.AccessModes = volume.Spec.AccessModes
	}
	// From when it is bound the claim says what the file system holds, which nodes know.
	if volume != nil && claim.Status.Phase != phase {
		if _, known := volume.Spec.Capacity[corev1.ResourceStorage]; !known {
			return nil // the API server lets none in that does not say
		}
		setCapacity(changed, volume)
		if claim.Status.Phase == corev1.ClaimPending && phase == corev1.ClaimBound {
			changed.Status.CurrentVolumeAttributesClassName = volume.Spec.VolumeAttributesClassName
		}
	}
	if reflect.DeepEqual(changed.Status, claim.Status) {
		return nil
	}
	return changed
}

func setCapacity(claim *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume) {
	capacity := volume.Spec.Capacity[corev1.ResourceStorage]
	if before, resized := volume.Annotations[preResizeCapacity]; resized {
		if quantity, err := resource.ParseQuantity(before); err == nil {
			capacity = quantity
		}
		if claim.Status.Capacity == nil {
			claim.Status.Capacity = corev1.ResourceList{}
		}
		claim.Status.Capacity[corev1.ResourceStorage] = capacity
		return
	}
	if said, known := claim.Status.Capacity[corev1.ResourceStorage]; !known || said.Cmp(capacity) != 0 {
		claim.Status.Capacity = volume.Spec.Capacity.DeepCopy()
	}
}

// withPhase is the volume in a phase, nil if it is in it.
//
// Upstream: updateVolumePhase.
func withPhase(volume *corev1.PersistentVolume, phase corev1.PersistentVolumePhase, message string) *corev1.PersistentVolume {
	if volume.Status.Phase == phase {
		return nil
	}
	changed := volume.DeepCopy()
	changed.Status.Phase, changed.Status.Message = phase, message
	return changed
}

// enter is the plan that brings a volume into a phase, empty if it is in it. The notice is given if it was not, nil for none.
//
// Upstream: updateVolumePhaseWithEvent.
func enter(volume *corev1.PersistentVolume, phase corev1.PersistentVolumePhase, message string, notice *plan.Notice) plan.Plan {
	changed := withPhase(volume, phase, message)
	if changed == nil {
		return plan.Plan{}
	}
	w := write(plan.UpdateStatus, changed, "the volume is "+string(phase))
	w.OnSuccess = notice
	return plan.Plan{Writes: []plan.Write{w}}
}

// lose is the plan for a claim whose volume is gone for good. Nothing is said of one that is lost already.
//
// Upstream: updateClaimStatusWithEvent.
func lose(claim *corev1.PersistentVolumeClaim, reason, message string) plan.Plan {
	if claim.Status.Phase == corev1.ClaimLost {
		return plan.Plan{}
	}
	w := write(plan.UpdateStatus, withStatus(claim, corev1.ClaimLost, nil), "the claim has lost its volume")
	w.OnSuccess = aboutClaim(claim).Warning(reason, message)
	return plan.Plan{Writes: []plan.Write{w}, Reads: []plan.Read{readClaim(claim.Namespace, claim.Name)}}
}

// pend is the plan for a claim that is not bound, with a notice, nil for none.
func pend(claim *corev1.PersistentVolumeClaim, notice *plan.Notice) plan.Plan {
	var p plan.Plan
	if notice != nil {
		p.Notices = []plan.Notice{*notice}
	}
	if changed := withStatus(claim, corev1.ClaimPending, nil); changed != nil {
		p.Writes = []plan.Write{write(plan.UpdateStatus, changed, "the claim is not bound")}
	}
	return p
}

func aboutClaim(claim *corev1.PersistentVolumeClaim) podcontrol.Notices {
	return podcontrol.NoticesOf(claim, corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), component)
}

func aboutVolume(volume *corev1.PersistentVolume) podcontrol.Notices {
	return podcontrol.NoticesOf(volume, corev1.SchemeGroupVersion.WithKind("PersistentVolume"), component)
}

// write replaces an object, or its status, at the version that was decided on.
func write(verb plan.Verb, object interface {
	metav1.Object
	runtime.Object
}, reason string) plan.Write {
	w := plan.Write{
		Verb: verb, Resource: plan.Volumes, Namespace: object.GetNamespace(), Name: object.GetName(), Object: object,
		UID: object.GetUID(), ResourceVersion: object.GetResourceVersion(), Reason: reason,
	}
	if _, isClaim := object.(*corev1.PersistentVolumeClaim); isClaim {
		w.Resource = plan.Claims
	}
	return w
}

func readClaim(namespace, name string) plan.Read {
	return plan.Read{Resource: plan.Claims, Namespace: namespace, Name: name}
}

func readVolume(name string) plan.Read { return plan.Read{Resource: plan.Volumes, Name: name} }
