package rollout

import appsv1 "k8s.io/api/apps/v1"

// replicasOrDefault is the value that the API server defaults to when replicas are not given.
func replicasOrDefault(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}

func sizeOf(rs *appsv1.ReplicaSet) int32 { return replicasOrDefault(rs.Spec.Replicas) }

func desiredOf(d *appsv1.Deployment) int32 { return replicasOrDefault(d.Spec.Replicas) }

func sum(sets []*appsv1.ReplicaSet, of func(*appsv1.ReplicaSet) int32) int32 {
	total := int32(0)
	for _, rs := range sets {
		if rs != nil {
			total += of(rs)
		}
	}
	return total
}

// sizes, actual, ready and available are the Get...CountForReplicaSets of
// deployment/util/deployment_util.go.
func sizes(sets []*appsv1.ReplicaSet) int32 { return sum(sets, sizeOf) }

func actual(sets []*appsv1.ReplicaSet) int32 {
	return sum(sets, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.Replicas })
}

func ready(sets []*appsv1.ReplicaSet) int32 {
	return sum(sets, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.ReadyReplicas })
}

func available(sets []*appsv1.ReplicaSet) int32 {
	return sum(sets, func(rs *appsv1.ReplicaSet) int32 { return rs.Status.AvailableReplicas })
}

// terminating is GetTerminatingReplicaCountForReplicaSets: nil when a set that has been synced does
// not say, since then there is no sum. (DeploymentReplicaSetTerminatingReplicas is on by default
// since 1.35.)
func terminating(sets []*appsv1.ReplicaSet) *int32 {
	total := int32(0)
	for _, rs := range sets {
		switch {
		case rs == nil, rs.Status.ObservedGeneration == 0 && rs.Status.TerminatingReplicas == nil:
		case rs.Status.TerminatingReplicas == nil:
			return nil
		default:
			total += *rs.Status.TerminatingReplicas
		}
	}
	return &total
}

// active keeps the sets that ought to have pods: controller_utils.go FilterActiveReplicaSets.
func active(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	var kept []*appsv1.ReplicaSet
	for _, rs := range sets {
		if rs != nil && sizeOf(rs) > 0 {
			kept = append(kept, rs)
		}
	}
	return kept
}
