package lifecycle

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-helpers/storage/ephemeral"

	"github.com/zeroplane/zeroplane/core/plan"
)

// The finalizers that admission puts on storage, so that it outlives its users (pkg/volume/util/finalizer.go).
const (
	ClaimProtection           = "kubernetes.io/pvc-protection"
	VolumeProtection          = "kubernetes.io/pv-protection"
	AttributesClassProtection = "kubernetes.io/vac-protection"
)

const (
	unprotected = "it must outlive its users"
	unused      = "nobody uses it any more"
)

// ProtectClaim takes the protection from a claim that is being deleted when no pod of its namespace
// uses it, gives a live claim the protection that it lacks, and says on a bound claim whether a pod
// refers to it. A pod that comes to a node after the snapshot was taken does no harm: a kubelet does
// not start a pod whose claim is being deleted.
//
// Upstream: processPVC of pkg/controller/volume/pvcprotection/pvc_protection_controller.go.
func ProtectClaim(claim *corev1.PersistentVolumeClaim, pods []*corev1.Pod, now time.Time) plan.Plan {
	if claim.DeletionTimestamp == nil && claim.Status.Phase == corev1.ClaimBound {
		used := slices.ContainsFunc(pods, func(pod *corev1.Pod) bool { return refersToClaim(pod, claim) })
		if changed := withUse(claim, used, now); changed != nil {
			return rewrite(plan.UpdateStatus, plan.Claims, changed, "whether a pod uses it has changed")
		}
	}
	used := slices.ContainsFunc(pods, func(pod *corev1.Pod) bool { return holdsClaim(pod, claim) })
	return protect(plan.Claims, claim.DeepCopy(), ClaimProtection, used)
}

// ProtectVolume does the same for a volume, which is in use while it is bound.
//
// Upstream: processPV of pkg/controller/volume/pvprotection/pv_protection_controller.go.
func ProtectVolume(volume *corev1.PersistentVolume) plan.Plan {
	return protect(plan.Volumes, volume.DeepCopy(), VolumeProtection, volume.Status.Phase == corev1.VolumeBound)
}

// protected is an object that a finalizer protects.
type protected interface {
	metav1.Object
	runtime.Object
}

// protect adds the finalizer to a live object without it, and takes it from one that is being
// deleted and not used. The object is a copy, which the plan owns.
func protect(resource schema.GroupVersionResource, obj protected, finalizer string, used bool) plan.Plan {
	has := slices.Contains(obj.GetFinalizers(), finalizer)
	switch deleting := obj.GetDeletionTimestamp() != nil; {
	case deleting && has && !used:
		obj.SetFinalizers(slices.DeleteFunc(obj.GetFinalizers(), func(f string) bool { return f == finalizer }))
		return rewrite(plan.Update, resource, obj, unused)
	case !deleting && !has:
		obj.SetFinalizers(append(obj.GetFinalizers(), finalizer))
		return rewrite(plan.Update, resource, obj, unprotected)
	default:
		return plan.Plan{}
	}
}

// rewrite is the plan that replaces one object, or its status, at the version that was decided on.
func rewrite(verb plan.Verb, resource schema.GroupVersionResource, obj protected, reason string) plan.Plan {
	return plan.Plan{
		Writes: []plan.Write{{
			Verb: verb, Resource: resource, Namespace: obj.GetNamespace(), Name: obj.GetName(), Object: obj,
			UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion(), Reason: reason,
		}},
		Reads: []plan.Read{{Resource: resource, Namespace: obj.GetNamespace(), Name: obj.GetName()}},
	}
}

// holdsClaim reports whether a pod keeps a claim from being deleted: from when it has a node, and,
// for the claim of its own ephemeral volume, until the kubelet is done with it.
//
// Upstream: podUsesPVCForDeletion.
func holdsClaim(pod *corev1.Pod, claim *corev1.PersistentVolumeClaim) bool {
	if pod.Spec.NodeName == "" {
		return false
	}
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return namesClaim(v, claim) || !shutDown(pod) && makesClaim(pod, v, claim)
	})
}

// refersToClaim reports whether a pod that is not over uses a claim, or will.
//
// Upstream: podUsesPVCForUnusedSince.
func refersToClaim(pod *corev1.Pod, claim *corev1.PersistentVolumeClaim) bool {
	return !over(pod) && slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return namesClaim(v, claim) || makesClaim(pod, v, claim)
	})
}

func namesClaim(v corev1.Volume, claim *corev1.PersistentVolumeClaim) bool {
	return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim.Name
}

// makesClaim reports whether the claim was made for a generic ephemeral volume of the pod.
func makesClaim(pod *corev1.Pod, v corev1.Volume, claim *corev1.PersistentVolumeClaim) bool {
	return v.Ephemeral != nil && ephemeral.VolumeClaimName(pod, &v) == claim.Name && ephemeral.VolumeIsForPod(pod, claim) == nil
}

// shutDown reports whether the kubelet is done with a pod, or it was deleted by force.
//
// Upstream: podIsShutDown.
func shutDown(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 0
}

// over reports whether nothing of a pod runs or will run.
//
// Upstream: IsPodTerminated of pkg/volume/util/util.go.
func over(pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return true
	}
	idle := func(c corev1.ContainerStatus) bool { return c.State.Terminated != nil || c.State.Waiting != nil }
	running := func(all []corev1.ContainerStatus) bool {
		return slices.ContainsFunc(all, func(c corev1.ContainerStatus) bool { return !idle(c) })
	}
	return pod.DeletionTimestamp != nil && !running(pod.Status.InitContainerStatuses) &&
		!running(pod.Status.ContainerStatuses) && !running(pod.Status.EphemeralContainerStatuses)
}

// withUse returns the claim with a condition that tells whether it is used, nil if it has it.
//
// Upstream: updateUnusedCondition and setUnusedCondition.
func withUse(claim *corev1.PersistentVolumeClaim, used bool, now time.Time) *corev1.PersistentVolumeClaim {
	condition := corev1.PersistentVolumeClaimCondition{
		Type: corev1.PersistentVolumeClaimUnused, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.UTC().Truncate(time.Second)),
		Reason: "NoPodsUsingPVC", Message: "No pods are currently referencing this PVC",
	}
	if used {
		condition.Status, condition.Reason, condition.Message = corev1.ConditionFalse, "PodUsingPVC", "A pod is currently referencing this PVC"
	}
	changed := claim.DeepCopy()
	i := slices.IndexFunc(changed.Status.Conditions, func(c corev1.PersistentVolumeClaimCondition) bool { return c.Type == condition.Type })
	switch {
	case i < 0:
		changed.Status.Conditions = append(changed.Status.Conditions, condition)
	case used && changed.Status.Conditions[i].Status != corev1.ConditionTrue, changed.Status.Conditions[i].Status == condition.Status:
		return nil
	default:
		changed.Status.Conditions[i] = condition
	}
	return changed
}

// ClaimsOf returns the names of the claims that must be decided because a pod changed; before is nil
// for a new pod and after for one that is gone. A pod that only runs on concerns none.
//
// Upstream: podAddedDeletedUpdated and enqueuePVCs.
func ClaimsOf(before, after *corev1.Pod) []string {
	if before != nil && after != nil {
		if before.UID != after.UID {
			return append(ClaimsOf(before, nil), ClaimsOf(nil, after)...)
		}
		if over(before) == over(after) && shutDown(before) == shutDown(after) && (before.Spec.NodeName == "") == (after.Spec.NodeName == "") {
			return nil
		}
	}
	pod := after
	if pod == nil {
		pod = before
	}
	if pod == nil {
		return nil
	}
	var names []string
	for _, v := range pod.Spec.Volumes {
		switch {
		case v.PersistentVolumeClaim != nil:
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			names = append(names, ephemeral.VolumeClaimName(pod, &v))
		}
	}
	return names
}
