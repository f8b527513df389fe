package scheduling

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/toleration"
)

const reasonTaints = "node(s) had untolerated taint(s)"

// toleratesTaints refuses nodes with a NoSchedule or NoExecute taint that the pod does not tolerate.
//
// Upstream: plugins/tainttoleration/taint_toleration.go, Filter.
func toleratesTaints(c *class, node *corev1.Node) string {
	for i := range node.Spec.Taints {
		taint := &node.Spec.Taints[i]
		hard := taint.Effect == corev1.TaintEffectNoSchedule || taint.Effect == corev1.TaintEffectNoExecute
		if hard && toleration.Matching(c.tolerations, taint) == nil {
			return reasonTaints
		}
	}
	return ""
}

// avoidance counts the PreferNoSchedule taints of the node that the pod does not tolerate.
//
// Upstream: plugins/tainttoleration/taint_toleration.go, Score.
func avoidance(c *class, node *corev1.Node) int64 {
	var count int64
	for i := range node.Spec.Taints {
		taint := &node.Spec.Taints[i]
		if taint.Effect == corev1.TaintEffectPreferNoSchedule && toleration.Matching(c.tolerations, taint) == nil {
			count++
		}
	}
	return count
}
