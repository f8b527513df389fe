package resourceclaim

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"github.com/zeroplane/zeroplane/core/naming"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
)

const (
	component = "resource_claim"
	// maxBase leaves room for a hyphen and 5 random characters in a name of 63.
	maxBase = 57
	// failedCreation is the reason of the event about a claim that cannot be made.
	failedCreation = "FailedResourceClaimCreation"
)

// Pod is a pod that uses claims, and what there is for it.
type Pod struct {
	Pod *corev1.Pod
	// Claims are those of the pod's namespace that it names, and those that it owns, by name.
	Claims map[string]*resourceapi.ResourceClaim
	// Templates are those that it names, by name.
	Templates map[string]*resourceapi.ResourceClaimTemplate
	// Taken reports whether a claim has a name.
	Taken func(name string) bool
}

// Sync makes the claims that are missing, and reserves those that have devices for a pod that has a node: one that was given
// its node by somebody else than the scheduler.
//
// Upstream: syncPod.
func (in Pod) Sync() plan.Plan {
	var p plan.Plan
	if in.Pod.DeletionTimestamp != nil {
		return p
	}
	made, notices := map[string]string{}, podcontrol.NoticesOf(in.Pod, corev1.SchemeGroupVersion.WithKind("Pod"), component)
	for i := range in.Pod.Spec.ResourceClaims {
		use := &in.Pod.Spec.ResourceClaims[i]
		claim, err := in.lacking(use)
		if err != nil {
			p.Notices = append(p.Notices, *notices.Warning(failedCreation, fmt.Sprintf("PodResourceClaim %s: %v", use.Name, err)))
			return p // it is told of those that are made when all are, as upstream
		}
		if claim == nil {
			continue
		}
		made[use.Name] = claim.Name
		if claim.UID == "" {
			p.Writes = append(p.Writes, plan.Write{
				Verb: plan.Create, Resource: plan.ResourceClaims, Namespace: in.Pod.Namespace, Name: claim.Name, Object: claim,
				Reason:   fmt.Sprintf("pod %s asks for it by template %s", in.Pod.Name, *use.ResourceClaimTemplateName),
				IfFailed: notices.Warning(failedCreation, fmt.Sprintf("PodResourceClaim %s: create ResourceClaim : %%v", use.Name)),
			})
		}
	}
	if len(made) > 0 {
		p.Writes = append(p.Writes, in.tell(made))
		p.Reads = append(p.Reads, plan.Read{Resource: plan.Pods, Namespace: in.Pod.Namespace, Name: in.Pod.Name})
	}
	p.Merge(in.reserve())
	return p
}

// lacking is a claim that the pod is to be told of: a new one without a UID, or one that was made for it before. It is nil if
// there is nothing to do.
//
// Upstream: handleClaim.
func (in Pod) lacking(use *corev1.PodResourceClaim) (*resourceapi.ResourceClaim, error) {
	name, ofPod, err := resourceclaim.Name(in.Pod, use)
	switch {
	case errors.Is(err, resourceclaim.ErrClaimNotFound):
	case err != nil:
		return nil, fmt.Errorf("checking for claim before creating it: %w", err)
	case name == nil:
		return nil, nil // not needed
	default:
		claim := in.Claims[*name]
		if claim != nil && (!ofPod || resourceclaim.IsForPod(in.Pod, claim, false) == nil) {
			return nil, nil
		}
	}
	if use.ResourceClaimTemplateName == nil {
		return nil, nil // somebody has to make it
	}
	if claim := in.orphan(use); claim != nil {
		return claim, nil
	}
	template := in.Templates[*use.ResourceClaimTemplateName]
	if template == nil {
		return nil, fmt.Errorf("resource claim template %q: resourceclaimtemplate.resource.k8s.io %q not found",
			*use.ResourceClaimTemplateName, *use.ResourceClaimTemplateName)
	}
	return in.fromTemplate(use, template), nil
}

// orphan is a claim that was made for the pod, which was not told.
//
// Upstream: findPodResourceClaim, which takes any of several.
func (in Pod) orphan(use *corev1.PodResourceClaim) *resourceapi.ResourceClaim {
	for _, name := range slices.Sorted(maps.Keys(in.Claims)) {
		claim := in.Claims[name]
		if of, annotated := claim.Annotations[resourceapi.PodResourceClaimAnnotation]; annotated && of == use.Name && metav1.IsControlledBy(claim, in.Pod) {
			return claim
		}
	}
	return nil
}

// fromTemplate is a new claim, which the pod owns.
func (in Pod) fromTemplate(use *corev1.PodResourceClaim, template *resourceapi.ResourceClaimTemplate) *resourceapi.ResourceClaim {
	claim := &resourceapi.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: in.Pod.Namespace, GenerateName: generateName(in.Pod.Name, use.Name),
			Labels: maps.Clone(template.Spec.Labels), Annotations: maps.Clone(template.Spec.Annotations),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: in.Pod.Name, UID: in.Pod.UID, Controller: new(true)}},
		},
		Spec: *template.Spec.Spec.DeepCopy(),
	}
	metav1.SetMetaDataAnnotation(&claim.ObjectMeta, resourceapi.PodResourceClaimAnnotation, use.Name)
	seed := fnv.New64a()
	_, _ = seed.Write([]byte(string(in.Pod.UID) + "/" + use.Name))
	claim.Name = naming.Generate(claim.GenerateName, seed.Sum64(), in.Taken)
	return claim
}

// generateName has something of both names, however long they are.
func generateName(pod, use string) string {
	name := pod + "-" + use + "-"
	if length := len(name); length > maxBase {
		name = pod[:len(pod)*maxBase/length] + "-" + use[:len(use)*maxBase/length]
	}
	return name
}

// tell notes on the pod which claims were made for it.
//
// Upstream: the end of syncPod, which applies this as the manager ResourceClaimController.
func (in Pod) tell(made map[string]string) plan.Write {
	pod := in.Pod.DeepCopy()
	for _, use := range slices.Sorted(maps.Keys(made)) {
		status := corev1.PodResourceClaimStatus{Name: use, ResourceClaimName: new(made[use])}
		at := slices.IndexFunc(pod.Status.ResourceClaimStatuses, func(s corev1.PodResourceClaimStatus) bool { return s.Name == use })
		if at >= 0 {
			pod.Status.ResourceClaimStatuses[at] = status
		} else {
			pod.Status.ResourceClaimStatuses = append(pod.Status.ResourceClaimStatuses, status)
		}
	}
	return plan.Write{
		Verb: plan.UpdateStatus, Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name, Object: pod, UID: pod.UID,
		ResourceVersion: pod.ResourceVersion, Reason: "its claims are made",
	}
}

// reserve notes on claims with devices that the pod uses them, if it has a node.
//
// Upstream: the end of syncPod, and reserveFor.
func (in Pod) reserve() plan.Plan {
	var p plan.Plan
	if in.Pod.Spec.NodeName == "" {
		return p // the scheduler will
	}
	for i := range in.Pod.Spec.ResourceClaims {
		name, ofPod, err := resourceclaim.Name(in.Pod, &in.Pod.Spec.ResourceClaims[i])
		if err != nil {
			return p
		}
		if name == nil {
			continue
		}
		claim := in.Claims[*name]
		if claim == nil || ofPod && resourceclaim.IsForPod(in.Pod, claim, false) != nil {
			return p
		}
		if claim.Status.Allocation == nil || resourceclaim.IsReservedForPod(in.Pod, claim, false) || !resourceclaim.CanBeReserved(claim) {
			continue
		}
		claim = claim.DeepCopy()
		claim.Status.ReservedFor = append(claim.Status.ReservedFor, resourceapi.ResourceClaimConsumerReference{
			Resource: "pods", Name: in.Pod.Name, UID: in.Pod.UID,
		})
		p.Writes = append(p.Writes, write(plan.UpdateStatus, claim, fmt.Sprintf("pod %s uses it", in.Pod.Name)))
		p.Reads = append(p.Reads, read(claim), plan.Read{Resource: plan.Pods, Namespace: in.Pod.Namespace, Name: in.Pod.Name})
	}
	return p
}

// write keeps a copy of the claim.
func write(verb plan.Verb, claim *resourceapi.ResourceClaim, reason string) plan.Write {
	return plan.Write{
		Verb: verb, Resource: plan.ResourceClaims, Namespace: claim.Namespace, Name: claim.Name, Object: claim.DeepCopy(), UID: claim.UID,
		ResourceVersion: claim.ResourceVersion, Reason: reason,
	}
}

func read(claim *resourceapi.ResourceClaim) plan.Read {
	return plan.Read{Resource: plan.ResourceClaims, Namespace: claim.Namespace, Name: claim.Name}
}
