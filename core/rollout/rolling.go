package rollout

import appsv1 "k8s.io/api/apps/v1"

// rolloutRolling takes one step of a rolling update, up or down: deployment/rolling.go
// rolloutRolling.
func (r *deploymentDecision) rolloutRolling() {
	if !r.ensureNewSet() {
		return
	}
	if !r.growNewSet() && !r.shrinkOldSets() && isComplete(r.deployment, &r.deployment.Status) {
		r.cleanup()
	}
	r.syncRolloutStatus()
}

// growNewSet is deployment/rolling.go reconcileNewReplicaSet.
func (r *deploymentDecision) growNewSet() bool {
	desired := desiredOf(r.deployment)
	if sizeOf(r.newSet) >= desired {
		return r.scaleReplicaSet(r.newSet, desired)
	}
	size, err := newReplicas(r.deployment, r.allSets(), r.newSet)
	if err != nil {
		return false
	}
	return r.scaleReplicaSet(r.newSet, size)
}

// shrinkOldSets is deployment/rolling.go reconcileOldReplicaSets: old replicas may go as far as
// minAvailable allows, counting new replicas that are not available yet as if they were missing.
func (r *deploymentDecision) shrinkOldSets() bool {
	old := active(r.oldSets)
	if len(old) == 0 {
		return false
	}
	minAvailable := desiredOf(r.deployment) - maxUnavailable(r.deployment)
	newUnavailable := sizeOf(r.newSet) - r.newSet.Status.AvailableReplicas
	room := sizes(r.allSets()) - minAvailable - newUnavailable
	if room <= 0 {
		return false
	}
	cleaned, ok := r.cleanUnhealthy(old, room)
	if !ok {
		return false
	}
	removed := r.removeAvailable(old, available(r.allActive(old))-minAvailable)
	return cleaned+removed > 0
}

// allActive are the old sets that were active when the step began, and the new one.
func (r *deploymentDecision) allActive(old []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	return append(append([]*appsv1.ReplicaSet{}, old...), r.newSet)
}

// cleanUnhealthy takes old replicas that are not available, at most limit of them, so that they do
// not block the rollout: deployment/rolling.go cleanupUnhealthyReplicas. The ReplicaSet deletes pods
// that are not ready first, so availability does not suffer. It is not ok, and upstream then gives up
// on scaling down in this sync, when a set has more replicas available than it should have.
func (r *deploymentDecision) cleanUnhealthy(old []*appsv1.ReplicaSet, limit int32) (int32, bool) {
	total := int32(0)
	for _, rs := range old {
		if total >= limit {
			break
		}
		size, healthy := sizeOf(rs), rs.Status.AvailableReplicas
		if size == 0 || size == healthy {
			continue
		}
		count := min(limit-total, size-healthy)
		if count < 0 {
			return total, false
		}
		r.scaleReplicaSet(rs, size-count)
		total += count
	}
	return total, true
}

// removeAvailable takes as many old replicas as are available above the minimum, oldest sets first:
// deployment/rolling.go scaleDownOldReplicaSetsForRollingUpdate.
func (r *deploymentDecision) removeAvailable(old []*appsv1.ReplicaSet, limit int32) int32 {
	total := int32(0)
	for _, rs := range old {
		if total >= limit {
			break
		}
		count := min(sizeOf(rs), limit-total)
		r.scaleReplicaSet(rs, sizeOf(rs)-count)
		total += count
	}
	return total
}
