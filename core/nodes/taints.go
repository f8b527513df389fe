package nodes

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// conditionTaints says which taint stands for which status of which condition.
//
// Upstream: nodeConditionToTaintKeyStatusMap in
// pkg/controller/nodelifecycle/node_lifecycle_controller.go.
var conditionTaints = []struct {
	condition corev1.NodeConditionType
	status    corev1.ConditionStatus
	key       string
}{
	{corev1.NodeReady, corev1.ConditionFalse, corev1.TaintNodeNotReady},
	{corev1.NodeReady, corev1.ConditionUnknown, corev1.TaintNodeUnreachable},
	{corev1.NodeMemoryPressure, corev1.ConditionTrue, corev1.TaintNodeMemoryPressure},
	{corev1.NodeDiskPressure, corev1.ConditionTrue, corev1.TaintNodeDiskPressure},
	{corev1.NodeNetworkUnavailable, corev1.ConditionTrue, corev1.TaintNodeNetworkUnavailable},
	{corev1.NodePIDPressure, corev1.ConditionTrue, corev1.TaintNodePIDPressure},
}

// taintsOf are the taints that the node should have, and whether they differ from those it has. Taints
// that others set stay, but for the time on a NoExecute taint that lacks it. A taint that makes pods leave a
// node that is not ready is exchanged for the one that its condition asks for, or goes, but is not added where
// there is none: that is what Zones decides.
//
// Upstream: doNoScheduleTaintingPass and processTaintBaseEviction in
// pkg/controller/nodelifecycle/node_lifecycle_controller.go.
func taintsOf(node *corev1.Node, now time.Time) ([]corev1.Taint, bool) {
	at := metav1.NewTime(now)
	wanted := noScheduleTaints(node)
	ready := condition(node, corev1.NodeReady)
	if ready != nil && slices.ContainsFunc(node.Spec.Taints, evictsForHealth) {
		wanted = append(wanted, noExecuteTaints(ready.Status)...)
	}
	changed := false
	var taints []corev1.Taint
	for _, taint := range node.Spec.Taints {
		ours := isOurs(taint) && (taint.Effect == corev1.TaintEffectNoSchedule || ready != nil)
		if ours && !has(wanted, taint) {
			changed = true
			continue
		}
		if taint.Effect == corev1.TaintEffectNoExecute && taint.TimeAdded == nil {
			taint.TimeAdded = &at
			changed = true
		}
		taints = append(taints, taint)
	}
	for _, taint := range wanted {
		if !has(taints, taint) {
			taint.TimeAdded = &at
			taints = append(taints, taint)
			changed = true
		}
	}
	return taints, changed
}

// noScheduleTaints are the taints for the node's conditions and for a cordon.
func noScheduleTaints(node *corev1.Node) []corev1.Taint {
	var taints []corev1.Taint
	for _, c := range node.Status.Conditions {
		for _, rule := range conditionTaints {
			if rule.condition == c.Type && rule.status == c.Status {
				taints = append(taints, corev1.Taint{Key: rule.key, Effect: corev1.TaintEffectNoSchedule})
			}
		}
	}
	if node.Spec.Unschedulable {
		taints = append(taints, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
	}
	return taints
}

// noExecuteTaints is the one taint that makes pods leave a node that is not ready.
func noExecuteTaints(ready corev1.ConditionStatus) []corev1.Taint {
	switch ready {
	case corev1.ConditionFalse:
		return []corev1.Taint{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}}
	case corev1.ConditionUnknown:
		return []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}}
	case corev1.ConditionTrue:
	}
	return nil
}

// isOurs reports whether the taint is one that only this package adds and removes.
func isOurs(taint corev1.Taint) bool {
	switch taint.Effect {
	case corev1.TaintEffectNoSchedule:
		if taint.Key == corev1.TaintNodeUnschedulable {
			return true
		}
		for _, rule := range conditionTaints {
			if rule.key == taint.Key {
				return true
			}
		}
	case corev1.TaintEffectNoExecute:
		return taint.Key == corev1.TaintNodeNotReady || taint.Key == corev1.TaintNodeUnreachable
	case corev1.TaintEffectPreferNoSchedule:
	}
	return false
}

// has reports whether a taint of the same key and effect is among them.
func has(taints []corev1.Taint, taint corev1.Taint) bool {
	return slices.ContainsFunc(taints, func(t corev1.Taint) bool { return taint.MatchTaint(&t) })
}
