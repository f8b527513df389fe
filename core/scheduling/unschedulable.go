package scheduling

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/toleration"
)

const reasonUnschedulable = "node(s) were unschedulable"

var unschedulableTaint = corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}

// acceptsCordon refuses cordoned nodes to pods that do not tolerate the taint of a cordon.
//
// Upstream: plugins/nodeunschedulable/node_unschedulable.go.
func acceptsCordon(c *class, node *corev1.Node) string {
	if node.Spec.Unschedulable && toleration.Matching(c.tolerations, &unschedulableTaint) == nil {
		return reasonUnschedulable
	}
	return ""
}
