package kubelet

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/zeroplane/zeroplane/core/plan"
)

// remove stops the containers of a deleted pod and then deletes it for good. Its last status is
// written only if somebody will read it: a finalizer keeps the pod.
//
// Upstream: SyncTerminatingPod and SyncTerminatedPod in pkg/kubelet/kubelet.go, and canBeDeleted in
// pkg/kubelet/status/status_manager.go.
func (f *frame) remove() plan.Plan {
	grace := time.Duration(ptr.Deref(f.pod.DeletionGracePeriodSeconds, 0)) * time.Second
	through := terminal(f.pod.Status.Phase)
	if !through {
		asked := f.pod.DeletionTimestamp.Add(-grace)
		if end := asked.Add(min(seconds(f.pod, StopSeconds, 0), grace)); f.now.Before(end) {
			f.wait("stop", end)
			return f.plan
		}
	}
	if len(f.pod.Finalizers) > 0 {
		if !through {
			f.write(f.last(), "the pod's containers stopped")
		}
		if grace == 0 && through {
			// Only the finalizers are left to wait for.
			return f.plan
		}
	}
	f.plan.Writes = append(f.plan.Writes, plan.Write{
		Verb: plan.Delete, Resource: plan.Pods, Namespace: f.pod.Namespace, Name: f.pod.Name,
		UID: f.pod.UID, GracePeriodSeconds: new(int64(0)), Reason: "the pod's containers stopped",
	})
	return f.plan
}

// last is the status of a pod whose containers were told to stop. Those of a pod that restarts always
// exit cleanly; others were interrupted in their work and say so.
func (f *frame) last() *corev1.PodStatus {
	status := f.pod.Status.DeepCopy()
	status.ObservedGeneration = f.pod.Generation
	code := int32(exitTerminated)
	if f.pod.Spec.RestartPolicy == corev1.RestartPolicyAlways {
		code = 0
	}
	f.halt(status, code)
	status.Phase = corev1.PodFailed
	if len(status.ContainerStatuses) > 0 && allSucceeded(status.ContainerStatuses) {
		status.Phase = corev1.PodSucceeded
	}
	status.Conditions = f.conditions(status)
	return status
}

func allSucceeded(statuses []corev1.ContainerStatus) bool {
	for i := range statuses {
		if last := ended(&statuses[i]); last == nil || last.ExitCode != 0 {
			return false
		}
	}
	return true
}
