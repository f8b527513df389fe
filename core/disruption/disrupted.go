package disruption

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// disrupted returns the pods whose eviction was allowed and that are not yet being deleted, and when
// the first of them will be taken for one that stays. The others' notices are added to the plan.
//
// Upstream: buildDisruptedPodMap.
func (in Input) disrupted(p *plan.Plan) (map[string]metav1.Time, time.Time) {
	out := map[string]metav1.Time{}
	var recheck time.Time
	for _, pod := range in.Pods {
		at, listed := in.Budget.Status.DisruptedPods[pod.Name]
		if pod.DeletionTimestamp != nil || !listed {
			continue
		}
		end := at.Add(deletionTimeout)
		if !end.After(in.Now) { // upstream lets this moment pass, and would be called again at once
			p.Notices = append(p.Notices, plan.Notice{
				Regarding: corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
				Type:      corev1.EventTypeWarning, Reason: "NotDeleted", Component: component,
				Message: fmt.Sprintf("Pod was expected by PDB %s/%s to be deleted but it wasn't", in.Budget.Namespace, in.Budget.Name),
			})
			continue
		}
		if recheck.IsZero() || end.Before(recheck) {
			recheck = end
		}
		out[pod.Name] = at
	}
	return out, recheck
}

// healthy counts the pods that are ready and will stay.
//
// Upstream: countHealthyPods.
func (in Input) healthy(disrupted map[string]metav1.Time) int32 {
	var n int32
	for _, pod := range in.Pods {
		at, leaving := disrupted[pod.Name]
		if pod.DeletionTimestamp != nil || leaving && at.Add(deletionTimeout).After(in.Now) {
			continue
		}
		if c := condition(pod, corev1.PodReady); c != nil && c.Status == corev1.ConditionTrue {
			n++
		}
	}
	return n
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}
