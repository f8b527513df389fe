package rollout

import (
	"math"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
)

// isScalingEvent reports whether the desired replicas changed since the active sets were last
// written: deployment/sync.go isScalingEvent.
func (r *deploymentDecision) isScalingEvent() bool {
	for _, rs := range active(r.allSets()) {
		if desired, ok := annotatedReplicas(rs, DesiredReplicasAnnotation); ok && desired != desiredOf(r.deployment) {
			return true
		}
	}
	return false
}

// scale spreads a change of replicas in proportion, to mitigate risk, and never to hasten a rollout:
// deployment/sync.go scale.
func (r *deploymentDecision) scale() {
	d := r.deployment
	if only := activeOrLatest(r.newSet, r.oldSets); only != nil {
		r.scaleReplicaSet(only, desiredOf(d))
		return
	}
	if isSaturated(d, r.newSet) {
		for _, old := range active(r.oldSets) {
			r.scaleReplicaSet(old, 0)
		}
		return
	}
	if isRollingUpdate(d) {
		for _, target := range proportions(d, active(r.allSets())) {
			r.resize(target.set, target.size)
		}
	}
}

// activeOrLatest is the one set that is to be scaled, nil when there are several active ones:
// deployment/util/deployment_util.go FindActiveOrLatest.
func activeOrLatest(newSet *appsv1.ReplicaSet, oldSets []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	running := active(oldSets)
	if newSet != nil && sizeOf(newSet) > 0 {
		running = append(running, newSet)
	}
	switch {
	case len(running) == 1:
		return running[0]
	case len(running) > 1:
		return nil
	case newSet != nil:
		return newSet
	case len(oldSets) > 0:
		return byCreation(oldSets)[len(oldSets)-1]
	default:
		return nil
	}
}

// isSaturated reports whether the new set has all of the desired replicas available, and was scaled
// to that for this size of the Deployment: deployment/util/deployment_util.go IsSaturated.
func isSaturated(d *appsv1.Deployment, rs *appsv1.ReplicaSet) bool {
	if rs == nil {
		return false
	}
	desired, err := strconv.Atoi(rs.Annotations[DesiredReplicasAnnotation])
	if err != nil {
		return false
	}
	written := int32(desired) //nolint:gosec // upstream's arithmetic
	return sizeOf(rs) == desiredOf(d) && written == desiredOf(d) && rs.Status.AvailableReplicas == desiredOf(d)
}

type sizedSet struct {
	set  *appsv1.ReplicaSet
	size int32
}

// proportions shares out what is to be added or removed among the active sets, larger ones first,
// the rest of the division going to the largest. Among equals, newer ones grow first and older ones
// shrink first.
func proportions(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) []sizedSet {
	allowed := int32(0)
	if desiredOf(d) > 0 {
		allowed = desiredOf(d) + maxSurge(d)
	}
	toAdd := allowed - sizes(sets)
	switch {
	case toAdd > 0:
		slices.SortFunc(sets, compareSizeNewer)
	case toAdd < 0:
		slices.SortFunc(sets, compareSizeOlder)
	}

	targets, added := make([]sizedSet, 0, len(sets)), int32(0)
	for _, rs := range sets {
		share := proportion(d, rs, toAdd, added)
		added += share
		targets = append(targets, sizedSet{rs, sizeOf(rs) + share})
	}
	if len(targets) > 0 && toAdd != 0 {
		targets[0].size = max(targets[0].size+toAdd-added, 0)
	}
	return targets
}

// proportion is how many of toAdd replicas (negative to remove), of which added are given away
// already, a set gets: deployment/util/deployment_util.go GetReplicaSetProportion.
func proportion(d *appsv1.Deployment, rs *appsv1.ReplicaSet, toAdd, added int32) int32 {
	if rs == nil || sizeOf(rs) == 0 || toAdd == 0 || toAdd == added {
		return 0
	}
	fraction, allowed := fractionOf(d, rs), toAdd-added
	if toAdd > 0 {
		return min(fraction, allowed)
	}
	return max(fraction, allowed)
}

// fractionOf is deployment/util/deployment_util.go getReplicaSetFraction.
func fractionOf(d *appsv1.Deployment, rs *appsv1.ReplicaSet) int32 {
	if desiredOf(d) == 0 {
		return -sizeOf(rs)
	}
	before, ok := annotatedReplicas(rs, MaxReplicasAnnotation)
	if !ok || before == 0 {
		// The annotation was tampered with. The current size is an estimate that stays in limits.
		before = d.Status.Replicas
		if before == 0 {
			return 0
		}
	}
	// The product is taken in 32 bits, as upstream takes it; min and max in proportion bound what an
	// overflow does.
	scaled := float64(sizeOf(rs)*(desiredOf(d)+maxSurge(d))) / float64(before)
	return int32(math.Round(scaled)) - sizeOf(rs)
}

// scaleReplicaSet gives a set another size: deployment/sync.go scaleReplicaSet without force. It
// reports whether the size changed.
func (r *deploymentDecision) scaleReplicaSet(rs *appsv1.ReplicaSet, size int32) bool {
	if sizeOf(rs) == size {
		return false
	}
	return r.resize(rs, size)
}

// resize is scaleReplicaSet with force: it also brings the replicas annotations of a set up to date
// that keeps its size.
func (r *deploymentDecision) resize(rs *appsv1.ReplicaSet, size int32) bool {
	old := sizeOf(rs)
	desired, maximum := replicasAnnotations(r.deployment)
	annotated := rs.Annotations[DesiredReplicasAnnotation] == desired && rs.Annotations[MaxReplicasAnnotation] == maximum
	if old == size && annotated {
		return false
	}
	rs.Spec.Replicas = &size
	rs.Annotations = withReplicasAnnotations(rs.Annotations, r.deployment)
	r.change(rs)
	switch {
	case old < size:
		r.scaled("up", rs.Name, old, size)
	case old > size:
		r.scaled("down", rs.Name, old, size)
	}
	return old != size
}
