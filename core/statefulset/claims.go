package statefulset

import (
	"fmt"
	"maps"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// ClaimNames are the names of the claims that a decision about a set looks at, if these are its pods.
func ClaimNames(set *appsv1.StatefulSet, pods []*corev1.Pod) []string {
	ordinals := map[int]bool{}
	var names []string
	add := func(ordinal int) {
		if ordinals[ordinal] {
			return
		}
		ordinals[ordinal] = true
		for i := range set.Spec.VolumeClaimTemplates {
			names = append(names, claimName(set, &set.Spec.VolumeClaimTemplates[i], ordinal))
		}
	}
	for i := range size(set) {
		add(firstOrdinal(set) + i)
	}
	for _, pod := range pods {
		if parent, ordinal := parentAndOrdinal(pod.Name); parent == set.Name && ordinal >= 0 {
			add(ordinal)
		}
	}
	return names
}

// HasClaim reports whether a claim of this name may be one that a decision about a set looks at.
func HasClaim(set *appsv1.StatefulSet, name string) bool {
	parent, ordinal := parentAndOrdinal(name)
	if ordinal < 0 {
		return false
	}
	for i := range set.Spec.VolumeClaimTemplates {
		if parent == set.Spec.VolumeClaimTemplates[i].Name+"-"+set.Name {
			return true
		}
	}
	return false
}

// claimName is stateful_set_utils.go getPersistentVolumeClaimName.
func claimName(set *appsv1.StatefulSet, template *corev1.PersistentVolumeClaim, ordinal int) string {
	return fmt.Sprintf("%s-%s-%d", template.Name, set.Name, ordinal)
}

// claimsFor are the claims that a pod needs, made from the templates: stateful_set_utils.go
// getPersistentVolumeClaims.
func claimsFor(set *appsv1.StatefulSet, pod *corev1.Pod) []*corev1.PersistentVolumeClaim {
	var claims []*corev1.PersistentVolumeClaim
	for i := range set.Spec.VolumeClaimTemplates {
		claim := set.Spec.VolumeClaimTemplates[i].DeepCopy()
		claim.Name, claim.Namespace = claimName(set, claim, ordinalOf(pod)), set.Namespace
		if claim.Labels == nil {
			claim.Labels = map[string]string{}
		}
		maps.Copy(claim.Labels, set.Spec.Selector.MatchLabels)
		claims = append(claims, claim)
	}
	return claims
}

// createClaims makes the claims of a pod that are missing: stateful_pod_control.go
// createPersistentVolumeClaims. It returns what stands in the way, empty if nothing does.
func (r *decision) createClaims(pod *corev1.Pod) string {
	var problems []string
	for _, claim := range claimsFor(r.set, pod) {
		there := r.claims[claim.Name]
		switch {
		case there != nil && there.DeletionTimestamp != nil:
			problems = append(problems, "pvc "+claim.Name+" is being deleted")
		case there == nil && !r.writes.claimed[claim.Name]:
			r.writes.claimed[claim.Name] = true
			r.writes.newClaims = append(r.writes.newClaims, r.createClaim(claim, pod))
		}
	}
	if len(problems) > 1 {
		return "[" + strings.Join(problems, ", ") + "]"
	}
	return strings.Join(problems, "")
}

// createClaim makes a claim, with the events of stateful_pod_control.go recordClaimEvent.
func (r *decision) createClaim(claim *corev1.PersistentVolumeClaim, pod *corev1.Pod) plan.Write {
	return plan.Write{
		Verb: plan.Create, Resource: plan.Claims, Namespace: claim.Namespace, Name: claim.Name, Object: claim,
		Reason: "a pod needs the volume",
		OnSuccess: r.notices.Normal("Successful"+create, fmt.Sprintf("%s Claim %s Pod %s in StatefulSet %s success",
			create, claim.Name, pod.Name, r.set.Name)),
		IfFailed: r.notices.Warning("Failed"+create, fmt.Sprintf("%s Claim %s for Pod %s in StatefulSet %s failed error: %%v",
			create, claim.Name, pod.Name, r.set.Name)),
	}
}
