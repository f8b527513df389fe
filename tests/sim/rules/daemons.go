package rules

import (
	corev1 "k8s.io/api/core/v1"
)

// checkDaemons looks at each pod that is made for a DaemonSet without surge: no other of its pods is on, or for, that node.
func checkDaemons(h *History, c *Change) {
	pod, ref := c.created()
	if pod == nil || ref == nil || ref.Kind != "DaemonSet" {
		return
	}
	h.asked(Daemons)
	for _, other := range h.live(ref.UID) {
		if other != pod && targetOf(other) == targetOf(pod) {
			h.violate(Daemons, c.At, "%s and %s are both for node %s", pod.Name, other.Name, targetOf(pod))
		}
	}
}

// targetOf is the node that a DaemonSet's pod is on, or must go to.
func targetOf(pod *corev1.Pod) string {
	if pod.Spec.NodeName != "" {
		return pod.Spec.NodeName
	}
	for _, term := range pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, field := range term.MatchFields {
			return field.Values[0]
		}
	}
	return ""
}
