package nodes

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/kubelet"
)

// Upstream's defaults, from pkg/controller/nodelifecycle/config/v1alpha1/defaults.go.
const (
	// MonitorGracePeriod is how long a node may be silent.
	MonitorGracePeriod = 50 * time.Second
	// StartupGracePeriod is how long a node may take to post its first status.
	StartupGracePeriod = 60 * time.Second
)

// health is what is known of a node's last sign of life.
type health struct {
	// last is the moment of it, and grace how long the node may be silent after it.
	last  time.Time
	grace time.Duration
	// unlimited nodes are alive for as long as nobody says otherwise.
	unlimited bool
}

// healthOf finds the node's last sign of life. A simulated node posts nothing: it lives until its
// annotation says when it stopped. For others it is the newest of the lease's renewal and the heartbeat
// of the Ready condition; a node that never posted a status is given time since its creation.
//
// Upstream: tryUpdateNodeHealth in pkg/controller/nodelifecycle/node_lifecycle_controller.go.
func healthOf(node *corev1.Node, lease *coordinationv1.Lease) health {
	if kubelet.IsSimulated(node) {
		at, stopped := kubelet.Stopped(node)
		return health{last: at, grace: MonitorGracePeriod, unlimited: !stopped}
	}
	h := health{last: node.CreationTimestamp.Time, grace: StartupGracePeriod}
	if ready := condition(node, corev1.NodeReady); ready != nil {
		h = health{last: ready.LastHeartbeatTime.Time, grace: MonitorGracePeriod}
	}
	if lease != nil && lease.Spec.RenewTime != nil && lease.Spec.RenewTime.After(h.last) {
		h.last = lease.Spec.RenewTime.Time
	}
	return h
}

// expired reports whether the node counts as lost.
func (h health) expired(now time.Time) bool {
	return !h.unlimited && !now.Before(h.last.Add(h.grace))
}

// silenced are the conditions that only a kubelet posts. NetworkUnavailable is not among them.
var silenced = []corev1.NodeConditionType{
	corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure,
}

// silence makes the conditions of a lost node Unknown, and reports whether one was not.
func silence(node *corev1.Node, now time.Time) bool {
	changed := false
	for _, kind := range silenced {
		c := condition(node, kind)
		if c == nil {
			node.Status.Conditions = append(node.Status.Conditions, corev1.NodeCondition{
				Type: kind, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated",
				Message:           "Kubelet never posted node status.",
				LastHeartbeatTime: node.CreationTimestamp, LastTransitionTime: metav1.NewTime(now),
			})
			changed = true
			continue
		}
		if c.Status != corev1.ConditionUnknown {
			c.Status, c.Reason = corev1.ConditionUnknown, "NodeStatusUnknown"
			c.Message = "Kubelet stopped posting node status."
			c.LastTransitionTime = metav1.NewTime(now)
			changed = true
		}
	}
	return changed
}

// condition is the node's condition of that type, nil if it has none.
func condition(node *corev1.Node, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == kind {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}
