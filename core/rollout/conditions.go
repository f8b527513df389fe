package rollout

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The reasons of a Deployment's conditions, from deployment/util/deployment_util.go.
const (
	ReplicaSetUpdatedReason    = "ReplicaSetUpdated"
	FailedRSCreateReason       = "ReplicaSetCreateError"
	NewReplicaSetReason        = "NewReplicaSetCreated"
	FoundNewRSReason           = "FoundNewReplicaSet"
	NewRSAvailableReason       = "NewReplicaSetAvailable"
	TimedOutReason             = "ProgressDeadlineExceeded"
	PausedDeployReason         = "DeploymentPaused"
	ResumedDeployReason        = "DeploymentResumed"
	MinimumReplicasAvailable   = "MinimumReplicasAvailable"
	MinimumReplicasUnavailable = "MinimumReplicasUnavailable"
)

// deploymentCondition finds a condition, nil when it is not there.
func deploymentCondition(status *appsv1.DeploymentStatus, conditionType appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range status.Conditions {
		if status.Conditions[i].Type == conditionType {
			return &status.Conditions[i]
		}
	}
	return nil
}

// setDeploymentCondition is deployment/util/deployment_util.go SetDeploymentCondition: one of the
// same status and reason stays as it is, and the transition time moves only with the status.
func setDeploymentCondition(status *appsv1.DeploymentStatus, condition appsv1.DeploymentCondition) {
	current := deploymentCondition(status, condition.Type)
	if current != nil && current.Status == condition.Status && current.Reason == condition.Reason {
		return
	}
	if current != nil && current.Status == condition.Status {
		condition.LastTransitionTime = current.LastTransitionTime
	}
	removeDeploymentCondition(status, condition.Type)
	status.Conditions = append(status.Conditions, condition)
}

// removeDeploymentCondition replaces the list, so that the snapshot's stays as it is.
func removeDeploymentCondition(status *appsv1.DeploymentStatus, conditionType appsv1.DeploymentConditionType) {
	var kept []appsv1.DeploymentCondition
	for _, c := range status.Conditions {
		if c.Type != conditionType {
			kept = append(kept, c)
		}
	}
	status.Conditions = kept
}

// newCondition makes a condition of the decision's time.
func (r *deploymentDecision) newCondition(conditionType appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) appsv1.DeploymentCondition {
	return appsv1.DeploymentCondition{
		Type: conditionType, Status: status, Reason: reason, Message: message,
		LastUpdateTime: r.now, LastTransitionTime: r.now,
	}
}

func (r *deploymentDecision) setProgressing(status corev1.ConditionStatus, reason, message string) {
	setDeploymentCondition(&r.deployment.Status, r.newCondition(appsv1.DeploymentProgressing, status, reason, message))
}

// checkPausedConditions is deployment/sync.go checkPausedConditions: pausing and resuming set the
// Progressing condition, so that a pause does not count against the progress deadline.
func (r *deploymentDecision) checkPausedConditions() {
	if !hasProgressDeadline(r.deployment) {
		return
	}
	current := deploymentCondition(&r.deployment.Status, appsv1.DeploymentProgressing)
	if current != nil && current.Reason == TimedOutReason {
		return
	}
	wasPaused := current != nil && current.Reason == PausedDeployReason
	switch {
	case r.deployment.Spec.Paused && !wasPaused:
		r.setProgressing(corev1.ConditionUnknown, PausedDeployReason, "Deployment is paused")
	case !r.deployment.Spec.Paused && wasPaused:
		r.setProgressing(corev1.ConditionUnknown, ResumedDeployReason, "Deployment is resumed")
	}
}

// replicaSetCondition finds a condition, nil when it is not there.
func replicaSetCondition(status *appsv1.ReplicaSetStatus, conditionType appsv1.ReplicaSetConditionType) *appsv1.ReplicaSetCondition {
	for i := range status.Conditions {
		if status.Conditions[i].Type == conditionType {
			return &status.Conditions[i]
		}
	}
	return nil
}

// withoutReplicaSetCondition is replicaset/replica_set_utils.go RemoveCondition.
func withoutReplicaSetCondition(conditions []appsv1.ReplicaSetCondition, conditionType appsv1.ReplicaSetConditionType) []appsv1.ReplicaSetCondition {
	var kept []appsv1.ReplicaSetCondition
	for _, c := range conditions {
		if c.Type != conditionType {
			kept = append(kept, c)
		}
	}
	return kept
}

// replicaFailures turns the ReplicaFailure conditions of the new set, or else of any set, into
// conditions of the Deployment: deployment/progress.go getReplicaFailures.
func (r *deploymentDecision) replicaFailures() []appsv1.DeploymentCondition {
	if r.newSet != nil {
		if failures := failuresOf(r.newSet); len(failures) > 0 {
			return failures
		}
	}
	var failures []appsv1.DeploymentCondition
	for _, rs := range r.allSets() {
		failures = append(failures, failuresOf(rs)...)
	}
	return failures
}

func failuresOf(rs *appsv1.ReplicaSet) []appsv1.DeploymentCondition {
	var failures []appsv1.DeploymentCondition
	for _, c := range rs.Status.Conditions {
		if c.Type == appsv1.ReplicaSetReplicaFailure {
			failures = append(failures, appsv1.DeploymentCondition{
				Type: appsv1.DeploymentConditionType(c.Type), Status: c.Status, Reason: c.Reason, Message: c.Message,
				LastUpdateTime: c.LastTransitionTime, LastTransitionTime: c.LastTransitionTime,
			})
		}
	}
	return failures
}

func newReplicaFailure(now metav1.Time, reason, message string) appsv1.ReplicaSetCondition {
	return appsv1.ReplicaSetCondition{
		Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue,
		LastTransitionTime: now, Reason: reason, Message: message,
	}
}
