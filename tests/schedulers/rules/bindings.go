package rules

import corev1 "k8s.io/api/core/v1"

// binds reports whether a pod became bound. A pod's name may have been another's.
func (h *History) binds(rev uint64, before, pod *corev1.Pod) bool {
	was, known := h.at[pod.UID]
	if before != nil && before.UID == pod.UID && before.Spec.NodeName != "" && !known {
		was, known = before.Spec.NodeName, true
	}
	node := pod.Spec.NodeName
	if known {
		if node != was {
			h.report(Rebound, rev, "%s (%s) was on %s and is on %q", full(pod), pod.UID, was, node)
		}
		return false
	}
	if node == "" {
		return false
	}
	h.at[pod.UID] = node
	if h.nodes[node] == nil {
		h.report(Nowhere, rev, "%s is on %s, which there is not", full(pod), node)
		return false
	}
	return true
}
