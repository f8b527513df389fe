package scheduling

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// assumptions are what a run takes for granted once a pod has got its node: its claims get the volumes that were found, or
// have them made for the node. They end with the run.
//
// Upstream: PVAssumeCache and PVCAssumeCache in plugins/volumebinding/assume_cache.go.
type assumptions struct {
	// made counts them, so that a board knows when to look again.
	made    int
	claims  []*claim
	volumes []*volume
}

// claiming is what has to be written for a pod's claims before the pod is bound.
type claiming struct {
	// waits is set if some claim is not bound: the pod is not, either.
	waits   bool
	volumes []*corev1.PersistentVolume
	claims  []*corev1.PersistentVolumeClaim
}

// assume takes a placement of the group on a node for granted.
//
// Upstream: AssumePodVolumes in plugins/volumebinding/binder.go.
func (v *volumes) assume(n *nodeState) claiming {
	if v == nil {
		return claiming{}
	}
	s := v.storage
	if len(v.unbound)+len(v.exclusive.names) > 0 {
		s.assumptions.made++
	}
	if len(v.unbound) == 0 {
		return claiming{}
	}
	does := claiming{waits: true}
	b, _ := v.bind(n)
	for _, static := range b.static {
		pv, changed := boundTo(static.volume.now(), static.claim.now())
		if !changed {
			continue
		}
		static.volume.assumed = pv
		s.assumptions.volumes = append(s.assumptions.volumes, static.volume)
		does.volumes = append(does.volumes, pv)
	}
	for _, dynamic := range b.dynamic {
		pvc := dynamic.claim.now()
		if pvc.Annotations[selectedNode] == n.name {
			continue
		}
		pvc = pvc.DeepCopy()
		metav1.SetMetaDataAnnotation(&pvc.ObjectMeta, selectedNode, n.name)
		dynamic.claim.assumed = pvc
		s.assumptions.claims = append(s.assumptions.claims, dynamic.claim)
		does.claims = append(does.claims, pvc)
	}
	return does
}

// forget ends all assumptions.
func (s *storage) forget() {
	for _, c := range s.assumptions.claims {
		c.assumed = nil
	}
	for _, v := range s.assumptions.volumes {
		v.assumed = nil
	}
	s.assumptions = assumptions{}
}

// boundTo is a volume for a claim, and whether that is news.
//
// Upstream: GetBindVolumeToClaim in k8s.io/component-helpers/storage/volume/pv_helpers.go.
func boundTo(pv *corev1.PersistentVolume, pvc *corev1.PersistentVolumeClaim) (*corev1.PersistentVolume, bool) {
	ref := pv.Spec.ClaimRef
	refers := ref != nil && ref.Name == pvc.Name && ref.Namespace == pvc.Namespace && ref.UID == pvc.UID
	told := names(pv, pvc) || metav1.HasAnnotation(pv.ObjectMeta, boundByController)
	if refers && told {
		return pv, false
	}
	pv = pv.DeepCopy()
	if !refers {
		pv.Spec.ClaimRef = &corev1.ObjectReference{
			Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: pvc.Namespace, Name: pvc.Name,
			UID: pvc.UID, ResourceVersion: pvc.ResourceVersion,
		}
	}
	if !told {
		metav1.SetMetaDataAnnotation(&pv.ObjectMeta, boundByController, "yes")
	}
	return pv, true
}

// promised reports whether a run before this one has given a pod its node, and only the binding of its claims is awaited.
// Upstream keeps room for such a pod by assuming it on the node; here it is served first.
func (s *storage) promised(e *entry) bool {
	node := e.pod.Status.NominatedNodeName
	if e.mounts == nil || node == "" {
		return false
	}
	if _, reason := s.bars(e.class.profile, e.mounts); reason != "" {
		return false
	}
	begun := false
	for _, mounted := range e.mounts.claims {
		pvc := mounted.object
		selected := pvc.Annotations[selectedNode] == node
		if !isBound(pvc) && !selected && !s.given(pvc) {
			return false
		}
		begun = begun || selected || !isBound(pvc)
	}
	return begun
}

// given reports whether some volume is for the claim.
func (s *storage) given(pvc *corev1.PersistentVolumeClaim) bool {
	for _, v := range s.ofClass[classOfClaim(pvc)] {
		if names(v.object, pvc) {
			return true
		}
	}
	return false
}
