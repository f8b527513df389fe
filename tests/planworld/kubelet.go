package planworld

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podstate"
)

// Bad is the image of containers that never become ready.
const Bad = "bad"

// Kubelet moves every pod one state on and reports whether any moved.
func (w *World) Kubelet() bool {
	moved := false
	for _, pod := range List[*corev1.Pod](w, plan.Pods) {
		moved = w.RunPod(pod.Name) || moved
	}
	return moved
}

// RunPod moves a pod one state on: it gets the node that its affinity names, or any, and then runs; one that is
// being deleted goes. It reports whether it moved.
func (w *World) RunPod(name string) bool {
	pod := Get[*corev1.Pod](w, plan.Pods, name)
	switch {
	case pod.DeletionTimestamp != nil:
		w.Remove(plan.Pods, name)
	case podstate.IsTerminal(pod):
		return false
	case pod.Spec.NodeName == "":
		Edit(w, plan.Pods, name, func(pod *corev1.Pod) { pod.Spec.NodeName = nodeOf(pod) })
	case pod.Spec.Containers[0].Image == Bad && pod.Status.Phase == corev1.PodRunning || podstate.IsReady(pod):
		return false
	default:
		Edit(w, plan.Pods, name, func(pod *corev1.Pod) {
			pod.Status.Phase = corev1.PodRunning
			if pod.Spec.Containers[0].Image != Bad {
				pod.Status.Conditions = []corev1.PodCondition{{
					Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.Now).Rfc3339Copy(),
				}}
			}
		})
	}
	return true
}

// nodeOf is the node that a pod is pinned to, else one that there need not be.
func nodeOf(pod *corev1.Pod) string {
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			for _, field := range term.MatchFields {
				return field.Values[0]
			}
		}
	}
	return "node"
}

// Break has a pod stop being ready, or fail for good.
func (w *World) Break(name string, forGood bool) {
	Edit(w, plan.Pods, name, func(pod *corev1.Pod) {
		pod.Status.Conditions = nil
		if forGood {
			pod.Status.Phase = corev1.PodFailed
		}
	})
}

// CollectGarbage removes claims whose owner is a pod that is gone, and reports whether there were any.
func (w *World) CollectGarbage() bool {
	removed := false
	for _, claim := range List[*corev1.PersistentVolumeClaim](w, plan.Claims) {
		for _, ref := range claim.OwnerReferences {
			if pod := Get[*corev1.Pod](w, plan.Pods, ref.Name); ref.Kind == "Pod" && (pod == nil || pod.UID != ref.UID) {
				w.Remove(plan.Claims, claim.Name)
				removed = true
			}
		}
	}
	return removed
}
