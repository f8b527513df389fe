package rollout

import (
	"fmt"
	"math"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// LaterProgress is the Kind of the plan.Later that checks the progress deadline.
const LaterProgress = "progress"

// progressGrace is added to the deadline before it is checked, since times in a status are cut to
// seconds (upstream adds it against skew in deployment/progress.go requeueStuckDeployment).
const progressGrace = time.Second

// hasProgressDeadline is deployment/util/deployment_util.go HasProgressDeadline.
func hasProgressDeadline(d *appsv1.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds != math.MaxInt32
}

// isComplete reports whether all desired replicas are updated and available, and no old ones are
// left: deployment/util/deployment_util.go DeploymentComplete.
func isComplete(d *appsv1.Deployment, status *appsv1.DeploymentStatus) bool {
	return status.UpdatedReplicas == desiredOf(d) &&
		status.Replicas == desiredOf(d) &&
		status.AvailableReplicas == desiredOf(d) &&
		status.ObservedGeneration >= d.Generation
}

// isProgressing reports whether the new status is ahead of the one that the Deployment has:
// deployment/util/deployment_util.go DeploymentProgressing.
func isProgressing(d *appsv1.Deployment, status *appsv1.DeploymentStatus) bool {
	before := d.Status
	return status.UpdatedReplicas > before.UpdatedReplicas ||
		status.Replicas-status.UpdatedReplicas < before.Replicas-before.UpdatedReplicas ||
		status.ReadyReplicas > before.ReadyReplicas ||
		status.AvailableReplicas > before.AvailableReplicas
}

// isTimedOut reports whether nothing has moved for progressDeadlineSeconds:
// deployment/util/deployment_util.go DeploymentTimedOut.
func isTimedOut(d *appsv1.Deployment, status *appsv1.DeploymentStatus, now time.Time) bool {
	condition := deploymentCondition(status, appsv1.DeploymentProgressing)
	if !hasProgressDeadline(d) || condition == nil || condition.Reason == NewRSAvailableReason {
		return false
	}
	return condition.Reason == TimedOutReason || progressDeadline(d, condition).Before(now)
}

func progressDeadline(d *appsv1.Deployment, condition *appsv1.DeploymentCondition) time.Time {
	return condition.LastUpdateTime.Add(time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second)
}

// syncRolloutStatus is deployment/progress.go syncRolloutStatus: the status with an estimate of
// progress, and the next check of the deadline.
func (r *deploymentDecision) syncRolloutStatus() {
	status := r.calculateStatus()
	if !hasProgressDeadline(r.deployment) {
		removeDeploymentCondition(&status, appsv1.DeploymentProgressing)
	} else {
		r.estimateProgress(&status)
	}
	if failures := r.replicaFailures(); len(failures) > 0 {
		setDeploymentCondition(&status, failures[0])
	} else {
		removeDeploymentCondition(&status, appsv1.DeploymentReplicaFailure)
	}
	r.deployment.Status = status
	r.checkProgressLater()
}

func (r *deploymentDecision) estimateProgress(status *appsv1.DeploymentStatus) {
	current := deploymentCondition(&r.deployment.Status, appsv1.DeploymentProgressing)
	if status.Replicas == status.UpdatedReplicas && current != nil && current.Reason == NewRSAvailableReason {
		return // no rollout is going on
	}
	subject := fmt.Sprintf("Deployment %q", r.deployment.Name)
	if r.newSet != nil {
		subject = fmt.Sprintf("ReplicaSet %q", r.newSet.Name)
	}
	switch {
	case isComplete(r.deployment, status):
		setDeploymentCondition(status, r.newCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue,
			NewRSAvailableReason, subject+" has successfully progressed."))
	case isProgressing(r.deployment, status):
		condition := r.newCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue,
			ReplicaSetUpdatedReason, subject+" is progressing.")
		if current != nil && current.Status == corev1.ConditionTrue {
			condition.LastTransitionTime = current.LastTransitionTime
		}
		// Removed first, because the update time has to move even when the reason stays.
		removeDeploymentCondition(status, appsv1.DeploymentProgressing)
		setDeploymentCondition(status, condition)
	case isTimedOut(r.deployment, status, r.snapshot.Now):
		setDeploymentCondition(status, r.newCondition(appsv1.DeploymentProgressing, corev1.ConditionFalse,
			TimedOutReason, subject+" has timed out progressing."))
	}
}

// checkProgressLater is deployment/progress.go requeueStuckDeployment. A Deployment that completed
// once is not checked, although upstream queues it again: its deadline cannot expire before something
// progresses.
func (r *deploymentDecision) checkProgressLater() {
	condition := deploymentCondition(&r.deployment.Status, appsv1.DeploymentProgressing)
	if awaitsProgress(condition) {
		r.later(progressDeadline(r.deployment, condition).Add(progressGrace))
	}
}

// forgetProgress takes the check back once there is nothing to wait for.
func (r *deploymentDecision) forgetProgress() {
	before := deploymentCondition(&r.snapshot.Deployment.Status, appsv1.DeploymentProgressing)
	after := deploymentCondition(&r.deployment.Status, appsv1.DeploymentProgressing)
	if awaitsProgress(before) && !awaitsProgress(after) {
		r.later(time.Time{})
	}
}

func (r *deploymentDecision) later(at time.Time) {
	d := r.snapshot.Deployment
	r.plan.Later = append(r.plan.Later, plan.Later{
		At: at, Kind: LaterProgress,
		Subject: plan.Ref{Resource: plan.Deployments, Namespace: d.Namespace, Name: d.Name, UID: d.UID},
	})
}

// awaitsProgress reports whether a Progressing condition may come to ProgressDeadlineExceeded by the
// passing of time.
func awaitsProgress(condition *appsv1.DeploymentCondition) bool {
	if condition == nil {
		return false
	}
	switch condition.Reason {
	case TimedOutReason, NewRSAvailableReason, PausedDeployReason:
		return false
	default:
		return true
	}
}
