package scheduling

import corev1 "k8s.io/api/core/v1"

const (
	reasonTaints = "node(s) had untolerated taint(s)"
	// taintWeight is the weight of TaintToleration in upstream's default profile.
	taintWeight = 3
)

// toleratesTaints refuses nodes with a NoSchedule or NoExecute taint that the pod does not tolerate.
//
// Upstream: plugins/tainttoleration/taint_toleration.go, Filter.
func toleratesTaints(c *class, node *corev1.Node) string {
	for i := range node.Spec.Taints {
		taint := &node.Spec.Taints[i]
		hard := taint.Effect == corev1.TaintEffectNoSchedule || taint.Effect == corev1.TaintEffectNoExecute
		if hard && !tolerates(c.tolerations, taint) {
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
		if taint.Effect == corev1.TaintEffectPreferNoSchedule && !tolerates(c.tolerations, taint) {
			count++
		}
	}
	return count
}

// tolerates follows Toleration.ToleratesTaint of k8s.io/api/core/v1 with the gate
// TaintTolerationComparisonOperators off, its default in 1.37: Lt and Gt match nothing.
func tolerates(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	for i := range tolerations {
		t := &tolerations[i]
		if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
			continue
		}
		switch t.Operator {
		case "", corev1.TolerationOpEqual:
			if t.Value == taint.Value {
				return true
			}
		case corev1.TolerationOpExists:
			return true
		case corev1.TolerationOpLt, corev1.TolerationOpGt:
		}
	}
	return false
}
