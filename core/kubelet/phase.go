package kubelet

import corev1 "k8s.io/api/core/v1"

func terminal(phase corev1.PodPhase) bool {
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

// phaseOf is the phase that follows from the containers.
//
// Upstream: getPhase in pkg/kubelet/kubelet_pods.go.
func phaseOf(pod *corev1.Pod, status *corev1.PodStatus) corev1.PodPhase {
	for i := range status.InitContainerStatuses {
		if s := &status.InitContainerStatuses[i]; s.State.Running == nil && ended(s) == nil {
			return corev1.PodPending
		}
	}
	running, succeeded := false, true
	for i := range status.ContainerStatuses {
		s := &status.ContainerStatuses[i]
		last := ended(s)
		switch {
		case s.State.Running != nil:
			running = true
		case last == nil:
			return corev1.PodPending
		default:
			running = running || restarts(pod, last.ExitCode)
			succeeded = succeeded && last.ExitCode == 0
		}
	}
	switch {
	case running:
		return corev1.PodRunning
	case succeeded:
		return corev1.PodSucceeded
	default:
		return corev1.PodFailed
	}
}
