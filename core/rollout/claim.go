package rollout

import (
	"encoding/json"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

// The kinds that control, as their controller references name them.
var (
	deploymentKind = appsv1.SchemeGroupVersion.WithKind("Deployment")
	replicaSetKind = appsv1.SchemeGroupVersion.WithKind("ReplicaSet")
)

// verdict is what is to be done about the controller reference of one object.
type verdict int

const (
	ignore verdict = iota
	keep
	adopt
	release
)

// judge is controller_ref_manager.go ClaimObject. The controller's deletion is read from the same
// snapshot as the object, so there is nothing to recheck before an adoption.
func judge(controller, object metav1.Object, matches bool) verdict {
	dying := controller.GetDeletionTimestamp() != nil
	if ref := metav1.GetControllerOfNoCopy(object); ref != nil {
		switch {
		case ref.UID != controller.GetUID():
			return ignore
		case matches:
			return keep
		case dying:
			return ignore
		default:
			return release
		}
	}
	if dying || !matches || object.GetDeletionTimestamp() != nil || controller.GetNamespace() != object.GetNamespace() {
		return ignore
	}
	return adopt
}

type claimedSets struct {
	sets   []*appsv1.ReplicaSet
	writes []plan.Write
}

// claimReplicaSets finds the sets that the Deployment controls, and the patches that adopt and
// release: controller_ref_manager.go ClaimReplicaSets. It is not ok when the selector is invalid.
func claimReplicaSets(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) (claimedSets, bool) {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return claimedSets{}, false
	}
	var claim claimedSets
	for _, rs := range byCreation(sets) {
		switch judge(d, rs, selector.Matches(labels.Set(rs.Labels))) {
		case keep:
			claim.sets = append(claim.sets, rs)
		case adopt:
			claim.sets = append(claim.sets, rs)
			claim.writes = append(claim.writes, adoptWrite(plan.ReplicaSets, d, deploymentKind, rs))
		case release:
			claim.writes = append(claim.writes, releaseWrite(plan.ReplicaSets, d, rs))
		case ignore:
		}
	}
	return claim, true
}

type claimedPods struct {
	pods    []*corev1.Pod
	adopted map[types.UID]bool
	writes  []plan.Write
}

// claimPods finds the active pods that the ReplicaSet controls, and the patches that adopt and
// release: controller_ref_manager.go ClaimPods.
func claimPods(rs *appsv1.ReplicaSet, selector labels.Selector, pods []*corev1.Pod) claimedPods {
	claim := claimedPods{adopted: map[types.UID]bool{}}
	for _, pod := range pods {
		switch judge(rs, pod, selector.Matches(labels.Set(pod.Labels))) {
		case keep:
			claim.pods = append(claim.pods, pod)
		case adopt:
			claim.pods = append(claim.pods, pod)
			claim.adopted[pod.UID] = true
			claim.writes = append(claim.writes, adoptWrite(plan.Pods, rs, replicaSetKind, pod))
		case release:
			claim.writes = append(claim.writes, releaseWrite(plan.Pods, rs, pod))
		case ignore:
		}
	}
	return claim
}

type ownerPatch struct {
	Metadata ownerPatchMeta `json:"metadata"`
}

type ownerPatchMeta struct {
	OwnerReferences []metav1.OwnerReference `json:"ownerReferences"`
	UID             types.UID               `json:"uid"`
}

// adoptWrite is controller_ref_manager.go ownerRefControllerPatch. The uid in the patch makes the
// server refuse it for another object of the same name.
func adoptWrite(resource schema.GroupVersionResource, controller metav1.Object, kind schema.GroupVersionKind, object metav1.Object) plan.Write {
	return claimWrite(resource, object, "adopt", ownerPatch{Metadata: ownerPatchMeta{
		UID:             object.GetUID(),
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(controller, kind)},
	}})
}

type releasePatch struct {
	Metadata releasePatchMeta `json:"metadata"`
}

type releasePatchMeta struct {
	UID             types.UID           `json:"uid"`
	OwnerReferences []map[string]string `json:"ownerReferences"`
}

// releaseWrite is controller_ref_manager.go GenerateDeleteOwnerRefStrategicMergeBytes.
func releaseWrite(resource schema.GroupVersionResource, controller, object metav1.Object) plan.Write {
	return claimWrite(resource, object, "release", releasePatch{Metadata: releasePatchMeta{
		UID:             object.GetUID(),
		OwnerReferences: []map[string]string{{"$patch": "delete", "uid": string(controller.GetUID())}},
	}})
}

func claimWrite(resource schema.GroupVersionResource, object metav1.Object, reason string, patch any) plan.Write {
	body, err := json.Marshal(patch)
	if err != nil {
		// Strings, booleans and lists of them always encode.
		panic("rollout: encoding an owner patch: " + err.Error())
	}
	return plan.Write{
		Verb: plan.Patch, Resource: resource, Namespace: object.GetNamespace(), Name: object.GetName(),
		PatchType: types.StrategicMergePatchType, PatchBody: body, Reason: reason,
	}
}
