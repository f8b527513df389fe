// Package toleration says which taints a pod puts up with: the rule that placement, eviction and
// whoever asks next share.
package toleration

import corev1 "k8s.io/api/core/v1"

// Matching is the first toleration that tolerates the taint, nil if none does. It follows
// Toleration.ToleratesTaint of k8s.io/api/core/v1 with the gate TaintTolerationComparisonOperators
// off, its default in 1.37: Lt and Gt match nothing.
func Matching(tolerations []corev1.Toleration, taint *corev1.Taint) *corev1.Toleration {
	for i := range tolerations {
		t := &tolerations[i]
		if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
			continue
		}
		switch t.Operator {
		case "", corev1.TolerationOpEqual:
			if t.Value == taint.Value {
				return t
			}
		case corev1.TolerationOpExists:
			return t
		case corev1.TolerationOpLt, corev1.TolerationOpGt:
		}
	}
	return nil
}
