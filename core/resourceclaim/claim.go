package resourceclaim

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podstate"
)

// Claim is a claim, and the pods of its namespace that it names.
type Claim struct {
	Claim *resourceapi.ResourceClaim
	// Pods are those that it is reserved for or owned by, by name: those of them that there are.
	Pods map[string]*corev1.Pod
}

// IsDone reports whether it is certain that no container of a pod runs or ever will.
//
// Upstream: isPodDone.
func IsDone(pod *corev1.Pod) bool {
	return podstate.IsTerminal(pod) || pod.DeletionTimestamp != nil && pod.Spec.NodeName == ""
}

// Sync takes pods off a claim that do not need it any more. When the last one goes the devices are given back, and a claim that
// was made for a pod that is done goes.
//
// Upstream: syncClaim. There a pod is looked for in a cache, in a memory of those that went, and at the API server; here the
// snapshot has those that there are.
func (in Claim) Sync() plan.Plan {
	p := plan.Plan{Reads: []plan.Read{read(in.Claim)}}
	remaining := slices.DeleteFunc(slices.Clone(in.Claim.Status.ReservedFor), in.isOver)
	held := slices.Contains(in.Claim.Finalizers, resourceapi.Finalizer)
	after := in.Claim.DeepCopy()
	switch {
	case len(remaining) < len(in.Claim.Status.ReservedFor):
		after.Status.ReservedFor = remaining
		if len(remaining) == 0 && held {
			after.Status.Allocation = nil
		}
		p.Writes = append(p.Writes, write(plan.UpdateStatus, after, "pods do not use it any more"))
		after.ResourceVersion = "" // that of the write before
		if held && after.Status.Allocation == nil {
			p.Writes = append(p.Writes, letGo(after))
		}
	case held && in.Claim.DeletionTimestamp != nil && len(remaining) == 0:
		if after.Status.Allocation != nil {
			after.Status.Allocation = nil
			p.Writes = append(p.Writes, write(plan.UpdateStatus, after, "it goes, and nobody uses it"))
			after.ResourceVersion = ""
		}
		p.Writes = append(p.Writes, letGo(after))
	}
	if len(remaining) == 0 && in.Claim.DeletionTimestamp == nil && in.isLeft() {
		p.Writes = append(p.Writes, plan.Write{
			Verb: plan.Delete, Resource: plan.ResourceClaims, Namespace: in.Claim.Namespace, Name: in.Claim.Name, UID: in.Claim.UID,
			Reason: "the pod that it was made for is done",
		})
	}
	if len(p.Writes) == 0 {
		return plan.Plan{}
	}
	return p
}

// isOver reports whether a reservation is of a pod that is done, gone, or was replaced. Of what else there may be nothing is known.
func (in Claim) isOver(r resourceapi.ResourceClaimConsumerReference) bool {
	if r.APIGroup != corev1.GroupName || r.Resource != "pods" {
		return false
	}
	pod := in.Pods[r.Name]
	return pod == nil || pod.UID != r.UID || IsDone(pod)
}

// isLeft reports whether the claim was made for a pod that is done. Where the pod is gone the garbage collector sees to it.
func (in Claim) isLeft() bool {
	for _, owner := range in.Claim.OwnerReferences {
		if owner.Controller != nil && *owner.Controller && owner.APIVersion == "v1" && owner.Kind == "Pod" {
			pod := in.Pods[owner.Name]
			return pod != nil && (pod.UID != owner.UID || IsDone(pod))
		}
	}
	return false
}

// letGo takes the finalizer off a claim that has no devices.
func letGo(claim *resourceapi.ResourceClaim) plan.Write {
	claim = claim.DeepCopy()
	claim.Finalizers = slices.DeleteFunc(claim.Finalizers, func(f string) bool { return f == resourceapi.Finalizer })
	return write(plan.Update, claim, "it has no devices")
}
