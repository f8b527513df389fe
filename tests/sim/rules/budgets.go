package rules

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/zeroplane/zeroplane/core/plan"
)

// evictedByAPI is the reason that the API server gives a pod that somebody was allowed to evict.
const evictedByAPI = "EvictionByEvictionAPI"

// checkBudgets looks at each budget, which never allows fewer than no disruptions, and at each ready pod that is evicted: each
// budget over it counts on its leaving.
func checkBudgets(h *History, c *Change) {
	if b, is := c.New.(*policyv1.PodDisruptionBudget); is {
		h.asked(Budgets)
		if b.Status.DisruptionsAllowed < 0 {
			h.violate(Budgets, c.At, "budget %s allows %d", id(b), b.Status.DisruptionsAllowed)
		}
		return
	}
	old, was := c.Old.(*corev1.Pod)
	if !was || old.DeletionTimestamp != nil || !isReady(old) || isOver(old) || !isEvicted(old) {
		return
	}
	if pod, is := c.New.(*corev1.Pod); is && pod.DeletionTimestamp == nil {
		return
	}
	All(h, plan.DisruptionBudgets, func(b *policyv1.PodDisruptionBudget) {
		if b.Namespace != old.Namespace || !covers(b, old) || c.At.Sub(b.CreationTimestamp.Time) < memory {
			return
		}
		h.asked(Budgets)
		if _, promised := b.Status.DisruptedPods[old.Name]; !promised {
			h.violate(Budgets, c.At, "pod %s is evicted, and budget %s does not know", id(old), b.Name)
		}
	})
}

func isEvicted(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == evictedByAPI
	})
}

func covers(b *policyv1.PodDisruptionBudget, pod *corev1.Pod) bool {
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	return err == nil && selector.Matches(labels.Set(pod.Labels))
}
