package daemonset

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

const (
	// minBackoff and maxBackoff bound for how long failed pods of a node are left alone after one was
	// removed, which doubles (cmd/kube-controller-manager/app/apps.go).
	minBackoff = time.Second
	maxBackoff = 15 * time.Minute
	// forgottenAfter is how long after the last removal the next one starts anew (client-go's
	// util/flowcontrol/backoff.go).
	forgottenAfter = 2 * maxBackoff

	// laterFailed is the Kind of the plan.Later for when a failed pod is not left alone any more.
	laterFailed = "failed-pod"
)

// backoffKind is the Kind of the plan.Later that remembers for how long the failed pods of a node are
// left alone: daemon_controller.go failedPodsBackoffKey. It comes due when that is forgotten.
func backoffKind(set *appsv1.DaemonSet, node string) string {
	return fmt.Sprintf("%s/%d/%s", laterFailed, set.Status.ObservedGeneration, node)
}

// Backoffs are the Kinds of what earlier plans may have put off about failed pods of a set.
func Backoffs(set *appsv1.DaemonSet, pods []*corev1.Pod) []string {
	var kinds []string
	for _, pod := range pods {
		if node, ok := targetNode(pod); ok && pod.Status.Phase == corev1.PodFailed && pod.DeletionTimestamp == nil {
			kinds = append(kinds, backoffKind(set, node))
		}
	}
	return kinds
}

// backsOff reports whether a failed pod of a node is to be left alone for now. If not, it is left alone
// for twice as long the next time: failedPodsBackoff in daemon_controller.go podsShouldBeOnNode.
func (r *decision) backsOff(node string) bool {
	kind, delay := backoffKind(r.set, node), minBackoff
	for _, earlier := range r.snapshot.Backoffs {
		removed := earlier.At.Add(-forgottenAfter)
		if earlier.Kind != kind || r.snapshot.Now.Sub(removed) > forgottenAfter {
			continue
		}
		if until := removed.Add(earlier.Delay); r.snapshot.Now.Before(until) {
			if r.retry.IsZero() || until.Before(r.retry) {
				r.retry = until
			}
			return true
		}
		delay = min(2*earlier.Delay, maxBackoff)
	}
	r.plan.Later = append(r.plan.Later, plan.Later{
		At: r.snapshot.Now.Add(forgottenAfter), Kind: kind, Subject: r.subject(), Delay: delay,
	})
	return false
}
