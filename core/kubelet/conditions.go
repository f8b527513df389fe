package kubelet

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// owned are the conditions that a kubelet writes, in its order. It leaves all others alone.
//
// Upstream: pkg/kubelet/types/pod_status.go and generateAPIPodStatus in pkg/kubelet/kubelet_pods.go.
var owned = []corev1.PodConditionType{
	corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady,
	corev1.PodScheduled, corev1.PodResizeInProgress, corev1.PodResizePending,
}

func isOwned(kind corev1.PodConditionType) bool {
	return slices.Contains(owned, kind)
}

// conditions are the pod's conditions for a status that is otherwise complete.
func (f *frame) conditions(status *corev1.PodStatus) []corev1.PodCondition {
	var conditions []corev1.PodCondition
	for _, c := range f.pod.Status.Conditions {
		if !isOwned(c.Type) {
			conditions = append(conditions, c)
		}
	}
	containersReady := f.containersReady(status)
	for _, c := range []corev1.PodCondition{
		f.readyToStart(status),
		f.initialized(status),
		f.ready(conditions, containersReady),
		containersReady,
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
	} {
		c.ObservedGeneration = f.pod.Generation
		c.LastTransitionTime = stamp(f.now)
		for _, old := range f.pod.Status.Conditions {
			if old.Type == c.Type && old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
		}
		conditions = append(conditions, c)
	}
	return conditions
}

// readyToStart is true as long as the pod has its sandbox.
//
// Upstream: GeneratePodReadyToStartContainersCondition in pkg/kubelet/status/generate.go.
func (f *frame) readyToStart(status *corev1.PodStatus) corev1.PodCondition {
	if terminal(status.Phase) {
		return corev1.PodCondition{
			Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse, Reason: "PodSandboxNotReady",
			Message: sandboxNotReady,
		}
	}
	return corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue}
}

// initialized follows GeneratePodInitializedCondition in pkg/kubelet/status/generate.go.
func (f *frame) initialized(status *corev1.PodStatus) corev1.PodCondition {
	condition := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	if status.Phase == corev1.PodSucceeded {
		condition.Reason = reasonCompleted
		return condition
	}
	for i := range status.ContainerStatuses {
		s := &status.ContainerStatuses[i]
		if s.State.Running != nil || ended(s) != nil {
			return condition
		}
	}
	var incomplete []string
	for i := range f.pod.Spec.InitContainers {
		c := &f.pod.Spec.InitContainers[i]
		s := find(status.InitContainerStatuses, c.Name)
		done := s != nil && s.Ready
		if isSidecar(c) {
			done = s != nil && s.Started != nil && *s.Started
		}
		if !done {
			incomplete = append(incomplete, c.Name)
		}
	}
	if len(incomplete) > 0 {
		condition.Status = corev1.ConditionFalse
		condition.Reason = "ContainersNotInitialized"
		condition.Message = fmt.Sprintf("containers with incomplete status: %s", incomplete)
	}
	return condition
}

// containersReady follows GenerateContainersReadyCondition in pkg/kubelet/status/generate.go.
func (f *frame) containersReady(status *corev1.PodStatus) corev1.PodCondition {
	condition := corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionFalse}
	if status.Phase == corev1.PodSucceeded {
		condition.Reason = reasonCompleted
		return condition
	}
	if status.Phase == corev1.PodFailed {
		condition.Reason = "PodFailed"
		return condition
	}
	var unready []string
	note := func(c *corev1.Container, statuses []corev1.ContainerStatus) {
		if s := find(statuses, c.Name); s == nil || !s.Ready {
			unready = append(unready, c.Name)
		}
	}
	for i := range f.pod.Spec.InitContainers {
		if isSidecar(&f.pod.Spec.InitContainers[i]) {
			note(&f.pod.Spec.InitContainers[i], status.InitContainerStatuses)
		}
	}
	for i := range f.pod.Spec.Containers {
		note(&f.pod.Spec.Containers[i], status.ContainerStatuses)
	}
	if len(unready) == 0 {
		condition.Status = corev1.ConditionTrue
		return condition
	}
	condition.Reason = "ContainersNotReady"
	condition.Message = fmt.Sprintf("containers with unready status: %s", unready)
	return condition
}

// ready follows GeneratePodReadyCondition in pkg/kubelet/status/generate.go: the containers are ready
// and so are all readiness gates.
func (f *frame) ready(others []corev1.PodCondition, containersReady corev1.PodCondition) corev1.PodCondition {
	condition := containersReady
	condition.Type = corev1.PodReady
	if containersReady.Status != corev1.ConditionTrue {
		return condition
	}
	var unready []string
	for _, gate := range f.pod.Spec.ReadinessGates {
		var found *corev1.PodCondition
		for i := range others {
			if others[i].Type == gate.ConditionType {
				found = &others[i]
			}
		}
		switch {
		case found == nil:
			unready = append(unready, fmt.Sprintf(
				"corresponding condition of pod readiness gate %q does not exist.", string(gate.ConditionType)))
		case found.Status != corev1.ConditionTrue:
			unready = append(unready, fmt.Sprintf(
				"the status of pod readiness gate %q is not \"True\", but %v", string(gate.ConditionType), found.Status))
		}
	}
	if len(unready) > 0 {
		condition.Status = corev1.ConditionFalse
		condition.Reason = "ReadinessGatesNotReady"
		condition.Message = strings.Join(unready, ", ")
	}
	return condition
}
