package nodes

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/core/plan"
)

// inTime is how late a call may be whose moment has come: a lease is renewed as often. A call that comes
// later was not made while nobody was there, who could not hear a sign of life either.
const inTime = 10 * time.Second

// respite is until when a node that has been silent for too long is given time all the same, because
// nobody was there to hear it: nothing was put off for it, as when it is looked at for the first time, or
// what was comes late. The Later is empty if the node has been given that time already. It is not ok if the
// node was heard out, or is known to be lost.
//
// A call that comes late again is given the more time to be so, for hosts that are never in time: as much as
// the node was given before, and twice as much the next time. So a node that is lost is found to be so.
//
// Upstream: tryUpdateNodeHealth, which takes the moment at which it first sees a node for a sign of life, and
// handleDisruption, which does so for all nodes when the first one is heard again.
func respite(in Input) (plan.Later, bool) {
	if kubelet.IsSimulated(in.Node) {
		return plan.Later{}, false
	}
	if ready := condition(in.Node, corev1.NodeReady); ready != nil && ready.Status == corev1.ConditionUnknown {
		return plan.Later{}, false
	}
	put := in.Expiry
	switch {
	case put.At.After(in.Now):
		return plan.Later{}, true
	case !put.At.IsZero() && in.Now.Sub(put.At) <= max(inTime, put.Delay):
		return plan.Later{}, false
	}
	return plan.Later{
		At: in.Now.Add(MonitorGracePeriod), Kind: ExpiryKind, Subject: Expiry(in.Node), Delay: max(MonitorGracePeriod, 2*put.Delay),
	}, true
}

// Expiry is whose grace period it is that ends: the subject of what Check puts off.
func Expiry(node *corev1.Node) plan.Ref {
	return plan.Ref{Resource: plan.Nodes, Name: node.Name, UID: node.UID}
}
