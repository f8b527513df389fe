package rollout

import (
	"math"
	"slices"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// cleanup deletes the oldest of the old sets above revisionHistoryLimit, if they have no replicas:
// deployment/sync.go cleanupDeployment. Those that are not empty count, but stay.
func (r *deploymentDecision) cleanup() {
	limit := r.deployment.Spec.RevisionHistoryLimit
	if limit == nil || *limit == math.MaxInt32 {
		return
	}
	var alive []*appsv1.ReplicaSet
	for _, rs := range r.oldSets {
		if rs.DeletionTimestamp == nil {
			alive = append(alive, rs)
		}
	}
	excess := len(alive) - int(*limit)
	if excess <= 0 {
		return
	}
	slices.SortFunc(alive, compareRevision)
	for _, rs := range alive[:excess] {
		if rs.Status.Replicas != 0 || sizeOf(rs) != 0 || rs.Generation > rs.Status.ObservedGeneration || r.changes(rs) {
			continue
		}
		r.plan.Writes = append(r.plan.Writes, plan.Write{
			Verb: plan.Delete, Resource: plan.ReplicaSets, Namespace: rs.Namespace, Name: rs.Name,
			UID: rs.UID, ResourceVersion: rs.ResourceVersion, Reason: "keep revisionHistoryLimit",
		})
	}
}
