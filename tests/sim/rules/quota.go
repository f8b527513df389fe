package rules

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// limit is how many pods a quota's status allowed, until a time.
type limit struct {
	pods  int64
	until time.Time
}

// checkQuota looks at each pod that is made in a namespace with quotas: with it there are no more than they allow, or than they
// allowed when it may have been admitted.
func checkQuota(h *History, c *Change) {
	if old, was := c.Old.(*corev1.ResourceQuota); was {
		if hard, counted := old.Status.Hard[corev1.ResourcePods]; counted {
			h.allowed[old.UID] = append(h.allowed[old.UID], limit{hard.Value(), c.At})
		}
	}
	pod, _ := c.created()
	if pod == nil {
		return
	}
	All(h, plan.ResourceQuotas, func(q *corev1.ResourceQuota) {
		hard, counted := q.Status.Hard[corev1.ResourcePods] // what admission goes by
		if q.Namespace != pod.Namespace || !counted {
			return
		}
		h.asked(Quota)
		n := int64(0)
		All(h, plan.Pods, func(p *corev1.Pod) {
			if p.Namespace == pod.Namespace && isCharged(p, c.At) {
				n++
			}
		})
		most := hard.Value()
		for _, l := range h.allowed[q.UID] {
			if c.At.Sub(l.until) < memory {
				most = max(most, l.pods)
			}
		}
		if n > most {
			h.violate(Quota, c.At, "quota %s allows %d pods, and with %s there are %d", id(q), most, pod.Name, n)
		}
	})
}

// isCharged reports whether a pod counts: not when it is over, nor when it should have gone long ago.
//
// Upstream: QuotaV1Pod in pkg/quota/v1/evaluator/core/pods.go.
func isCharged(pod *corev1.Pod, at time.Time) bool {
	if isOver(pod) {
		return false
	}
	if pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil {
		grace := time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second
		return !at.After(pod.DeletionTimestamp.Add(grace))
	}
	return true
}
