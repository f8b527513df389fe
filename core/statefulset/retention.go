package statefulset

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Whom a claim belongs to, so that the garbage collector removes it with the set or with the pod:
// persistentVolumeClaimRetentionPolicy, from stateful_set_utils.go. A claim of a set that keeps its
// claims has no owner; with whenDeleted=Delete it is the set's; with whenScaled=Delete it is the
// pod's once the pod is scaled down.

var podKind = corev1.SchemeGroupVersion.WithKind("Pod")

// retention is a claim's owners as they are and as the policy wants them.
type retention struct {
	set   *appsv1.StatefulSet
	pod   *corev1.Pod
	claim *corev1.PersistentVolumeClaim
}

// deletes tells when the policy removes claims: getPersistentVolumeClaimRetentionPolicy. What it does
// not know it takes for Retain.
func deletes(set *appsv1.StatefulSet) (whenDeleted, whenScaled bool) {
	p := set.Spec.PersistentVolumeClaimRetentionPolicy
	const yes = appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	const no = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	known := func(t appsv1.PersistentVolumeClaimRetentionPolicyType) bool { return t == yes || t == no }
	if p == nil || !known(p.WhenDeleted) || !known(p.WhenScaled) {
		return false, false
	}
	return p.WhenDeleted == yes, p.WhenScaled == yes
}

// wanted tells whose the claim is to be.
func (t retention) wanted() (ofSet, ofPod bool) {
	whenDeleted, whenScaled := deletes(t.set)
	scaledDown := whenScaled && !inRange(t.set, t.pod)
	return whenDeleted && !scaledDown, scaledDown
}

// names is matchesRef: whether a reference is to an object by kind and name.
func names(ref metav1.OwnerReference, object metav1.Object, kind schema.GroupVersionKind) bool {
	return kind.GroupVersion().String() == ref.APIVersion && kind.Kind == ref.Kind && ref.Name == object.GetName()
}

// owns is hasOwnerRef.
func (t retention) owns(owner metav1.Object) bool {
	return slices.ContainsFunc(t.claim.OwnerReferences, func(ref metav1.OwnerReference) bool { return ref.UID == owner.GetUID() })
}

// isStale is hasStaleOwnerRef: whether the claim is owned by a former object of the owner's name.
func (t retention) isStale(owner metav1.Object, kind schema.GroupVersionKind) bool {
	for _, ref := range t.claim.OwnerReferences {
		if names(ref, owner, kind) {
			return ref.UID != owner.GetUID()
		}
	}
	return false
}

// hasOther is hasUnexpectedController: whether somebody else is the claim's controller. Where claims are
// kept, it may be.
func (t retention) hasOther() bool {
	if whenDeleted, whenScaled := deletes(t.set); !whenDeleted && !whenScaled {
		return false
	}
	return slices.ContainsFunc(t.claim.OwnerReferences, func(ref metav1.OwnerReference) bool {
		switch {
		case names(ref, t.set, kind):
			return ref.UID != t.set.UID
		case names(ref, t.pod, podKind):
			return ref.UID != t.pod.UID
		default:
			return ref.Controller != nil && *ref.Controller
		}
	})
}

// ownedWithoutControl is hasNonControllerOwner.
func (t retention) ownedWithoutControl() bool {
	return slices.ContainsFunc(t.claim.OwnerReferences, func(ref metav1.OwnerReference) bool {
		return (ref.UID == t.set.UID || ref.UID == t.pod.UID) && (ref.Controller == nil || !*ref.Controller)
	})
}

// isUpToDate is isClaimOwnerUpToDate. A claim of a former set or pod is not touched.
func (t retention) isUpToDate() bool {
	ofSet, ofPod := t.wanted()
	switch {
	case t.isStale(t.set, kind) || t.isStale(t.pod, podKind):
		return true
	case t.hasOther():
		return !t.owns(t.set) && !t.owns(t.pod)
	case t.ownedWithoutControl():
		return false
	default:
		return t.owns(t.set) == ofSet && t.owns(t.pod) == ofPod
	}
}

// updated is the claim with the owners that it is to have: updateClaimOwnerRefForSetAndPod.
func (t retention) updated() *corev1.PersistentVolumeClaim {
	claim := t.claim.DeepCopy()
	claim.OwnerReferences = slices.DeleteFunc(claim.OwnerReferences, func(ref metav1.OwnerReference) bool {
		return names(ref, t.set, kind) || names(ref, t.pod, podKind)
	})
	ofSet, ofPod := t.wanted()
	if t.hasOther() {
		return claim
	}
	if ofPod {
		claim.OwnerReferences = addController(claim.OwnerReferences, t.pod, podKind)
	}
	if ofSet {
		claim.OwnerReferences = addController(claim.OwnerReferences, t.set, kind)
	}
	return claim
}

// addController is addControllerRef.
func addController(refs []metav1.OwnerReference, owner metav1.Object, kind schema.GroupVersionKind) []metav1.OwnerReference {
	if slices.ContainsFunc(refs, func(ref metav1.OwnerReference) bool { return ref.UID == owner.GetUID() }) {
		return refs
	}
	return append(refs, *metav1.NewControllerRef(owner, kind))
}

// retentions are those of the claims of a pod that there are.
func (r *decision) retentions(pod *corev1.Pod) []retention {
	var all []retention
	for i := range r.set.Spec.VolumeClaimTemplates {
		if claim := r.claims[claimName(r.set, &r.set.Spec.VolumeClaimTemplates[i], ordinalOf(pod))]; claim != nil {
			all = append(all, retention{set: r.set, pod: pod, claim: claim})
		}
	}
	return all
}

// claimsMatch is stateful_pod_control.go ClaimsMatchRetentionPolicy.
func (r *decision) claimsMatch(pod *corev1.Pod) bool {
	return !slices.ContainsFunc(r.retentions(pod), func(t retention) bool { return !t.isUpToDate() })
}

// ownClaims is stateful_pod_control.go UpdatePodClaimForRetentionPolicy.
func (r *decision) ownClaims(pod *corev1.Pod) {
	for _, t := range r.retentions(pod) {
		if t.hasOther() {
			r.plan.Notices = append(r.plan.Notices, *r.notices.Warning("ConflictingController", fmt.Sprintf("PersistentVolumeClaim %s has a "+
				"conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim", t.claim.Name)))
		}
		if t.isUpToDate() {
			continue
		}
		claim := t.updated()
		r.claims[claim.Name] = claim
		r.writes.claims = append(r.writes.claims, plan.Write{
			Verb: plan.Update, Resource: plan.Claims, Namespace: claim.Namespace, Name: claim.Name, Object: claim,
			Reason:   "persistentVolumeClaimRetentionPolicy",
			IfFailed: r.failed(update, pod.Name, "could not update claim "+claim.Name+" for delete policy ownerRefs: %v"),
		})
	}
}

// claimsAreStale is stateful_pod_control.go PodClaimIsStale: a claim that goes with the pod before is
// not for the next one.
func (r *decision) claimsAreStale(pod *corev1.Pod) bool {
	_, whenScaled := deletes(r.set)
	return whenScaled && slices.ContainsFunc(r.retentions(pod), func(t retention) bool { return t.isStale(pod, podKind) })
}
