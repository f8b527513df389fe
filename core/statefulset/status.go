package statefulset

import (
	"reflect"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podstate"
)

// The states of a pod, from stateful_set_utils.go.

// isCreated reports whether the API server has the pod.
func isCreated(pod *corev1.Pod) bool { return pod.Status.Phase != "" }

func isTerminating(pod *corev1.Pod) bool { return pod.DeletionTimestamp != nil }

func isRunningAndReady(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodRunning && podstate.IsReady(pod)
}

// isAvailable is isRunningAndAvailable.
func (r *decision) isAvailable(pod *corev1.Pod) bool {
	return podstate.IsAvailable(pod, r.set.Spec.MinReadySeconds, r.snapshot.Now)
}

func (r *decision) isUnavailable(pod *corev1.Pod) bool {
	return !r.isAvailable(pod) || isTerminating(pod)
}

// countPods is stateful_set_control.go updateStatus. Pods count as the snapshot has them.
func (r *decision) countPods() {
	r.status = appsv1.StatefulSetStatus{
		ObservedGeneration: r.set.Generation, CurrentRevision: r.current.Name, UpdateRevision: r.update.Name,
		CollisionCount: &r.collisions, Conditions: slices.Clone(r.set.Status.Conditions),
	}
	s := &r.status
	for _, pod := range r.pods {
		if !isCreated(pod) {
			continue
		}
		s.Replicas++
		if isRunningAndReady(pod) {
			s.ReadyReplicas++
			if r.isAvailable(pod) {
				s.AvailableReplicas++
			}
		}
		if isTerminating(pod) {
			continue
		}
		if revisionOf(pod) == r.current.Name {
			s.CurrentReplicas++
		}
		if revisionOf(pod) == r.update.Name {
			s.UpdatedReplicas++
		}
	}
}

// writeStatus completes an update (completeUpdate) and writes the status if it changed:
// stateful_set_control.go updateStatefulSetStatus.
func (r *decision) writeStatus() {
	s, wanted := &r.status, int32(size(r.set)) //nolint:gosec // it comes from an int32
	if s.UpdatedReplicas == wanted && s.ReadyReplicas == wanted && s.Replicas == wanted {
		s.CurrentReplicas, s.CurrentRevision = s.UpdatedReplicas, s.UpdateRevision
	}
	if !inconsistent(&r.set.Status, s) {
		return
	}
	updated := r.set.DeepCopy()
	updated.Status = *s.DeepCopy()
	r.plan.Writes = append(r.plan.Writes, plan.Write{
		Verb: plan.UpdateStatus, Resource: plan.StatefulSets, Namespace: updated.Namespace, Name: updated.Name,
		Object: updated, Reason: "report the replicas",
	})
}

// inconsistent is inconsistentStatus.
func inconsistent(before, after *appsv1.StatefulSetStatus) bool {
	return after.ObservedGeneration > before.ObservedGeneration ||
		after.Replicas != before.Replicas ||
		after.CurrentReplicas != before.CurrentReplicas ||
		after.ReadyReplicas != before.ReadyReplicas ||
		after.UpdatedReplicas != before.UpdatedReplicas ||
		after.CurrentRevision != before.CurrentRevision ||
		after.AvailableReplicas != before.AvailableReplicas ||
		after.UpdateRevision != before.UpdateRevision ||
		!reflect.DeepEqual(before.Conditions, after.Conditions)
}
