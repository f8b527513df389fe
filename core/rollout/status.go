package rollout

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// syncStatus is deployment/sync.go syncDeploymentStatus: counts and availability, but no estimate of
// progress.
func (r *deploymentDecision) syncStatus() {
	r.deployment.Status = r.calculateStatus()
}

// calculateStatus is deployment/sync.go calculateStatus.
func (r *deploymentDecision) calculateStatus() appsv1.DeploymentStatus {
	d, all := r.deployment, r.allSets()
	updated := int32(0)
	if r.newSet != nil {
		updated = r.newSet.Status.Replicas
	}
	status := appsv1.DeploymentStatus{
		ObservedGeneration: d.Generation,
		Replicas:           actual(all),
		UpdatedReplicas:    updated,
		ReadyReplicas:      ready(all),
		AvailableReplicas:  available(all),
		// There are more available than wanted while sets scale down.
		UnavailableReplicas: max(sizes(all)-available(all), 0),
		TerminatingReplicas: terminating(all),
		CollisionCount:      d.Status.CollisionCount,
		Conditions:          slices.Clone(d.Status.Conditions),
	}
	availability := r.newCondition(appsv1.DeploymentAvailable, corev1.ConditionFalse, MinimumReplicasUnavailable,
		"Deployment does not have minimum availability.")
	if status.AvailableReplicas >= desiredOf(d)-maxUnavailable(d) {
		availability = r.newCondition(appsv1.DeploymentAvailable, corev1.ConditionTrue, MinimumReplicasAvailable,
			"Deployment has minimum availability.")
	}
	setDeploymentCondition(&status, availability)
	return status
}
