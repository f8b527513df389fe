package rollout

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
	"github.com/zeroplane/zeroplane/core/podstate"
)

// calculateStatus is replicaset/replica_set_utils.go calculateStatus. failure is the error of the
// writes, empty when there was none. Pods count as the snapshot has them: those that the plan
// creates lie in another log, and call again when they are there.
func (r *replicaSetDecision) calculateStatus(failure string) appsv1.ReplicaSetStatus {
	status := r.set.Status
	status.Replicas = int32(len(r.claim.Objects)) //nolint:gosec // a number of pods
	status.FullyLabeledReplicas, status.ReadyReplicas, status.AvailableReplicas = 0, 0, 0
	template := labels.Set(r.set.Spec.Template.Labels).AsSelectorPreValidated()
	for _, pod := range r.claim.Objects {
		if template.Matches(labels.Set(pod.Labels)) {
			status.FullyLabeledReplicas++
		}
		if podstate.IsReady(pod) {
			status.ReadyReplicas++
		}
		if podstate.IsAvailable(pod, r.set.Spec.MinReadySeconds, r.snapshot.Now) {
			status.AvailableReplicas++
		}
	}
	if r.form.terminating {
		terminating := r.terminating
		status.TerminatingReplicas = &terminating
	}

	failed := replicaSetCondition(&r.set.Status, appsv1.ReplicaSetReplicaFailure) != nil
	switch {
	case failure != "" && !failed:
		status.Conditions = append(slices.Clone(status.Conditions), newReplicaFailure(r.now, r.failureReason(), failure))
	case failure == "" && failed:
		status.Conditions = withoutReplicaSetCondition(status.Conditions, appsv1.ReplicaSetReplicaFailure)
	}
	return status
}

func (r *replicaSetDecision) failureReason() string {
	switch wanted := int(sizeOf(r.set)); {
	case len(r.claim.Objects) < wanted:
		return podcontrol.FailedCreate
	case len(r.claim.Objects) > wanted:
		return podcontrol.FailedDelete
	default:
		return ""
	}
}

// writeStatus writes the status if it changed, or if the generation has not been observed:
// replicaset/replica_set_utils.go updateReplicaSetStatus.
func (r *replicaSetDecision) writeStatus(status appsv1.ReplicaSetStatus) {
	status.ObservedGeneration = r.set.Generation
	if apiequality.Semantic.DeepEqual(r.set.Status, status) {
		return
	}
	updated := r.set.DeepCopy()
	updated.Status = *status.DeepCopy()
	r.plan.Writes = append(r.plan.Writes, plan.Write{
		Verb: plan.UpdateStatus, Resource: r.resource, Namespace: updated.Namespace, Name: updated.Name,
		Object: r.stored(updated), Reason: "report the replicas",
	})
}
