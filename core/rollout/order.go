package rollout

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
)

// The orders of ReplicaSets, from controller_utils.go and deployment/util/deployment_util.go. Each
// is total within a namespace, so that the result does not depend on the order of the snapshot.

// compareCreation is ReplicaSetsByCreationTimestamp: older first, then by name.
func compareCreation(a, b *appsv1.ReplicaSet) int {
	switch {
	case a.CreationTimestamp.Equal(&b.CreationTimestamp):
		return strings.Compare(a.Name, b.Name)
	case a.CreationTimestamp.Before(&b.CreationTimestamp):
		return -1
	default:
		return 1
	}
}

// compareSizeOlder is ReplicaSetsBySizeOlder: larger first, then older.
func compareSizeOlder(a, b *appsv1.ReplicaSet) int {
	if sizeOf(a) != sizeOf(b) {
		return int(sizeOf(b)) - int(sizeOf(a))
	}
	return compareCreation(a, b)
}

// compareSizeNewer is ReplicaSetsBySizeNewer: larger first, then newer.
func compareSizeNewer(a, b *appsv1.ReplicaSet) int {
	if sizeOf(a) != sizeOf(b) {
		return int(sizeOf(b)) - int(sizeOf(a))
	}
	return compareCreation(b, a)
}

// compareRevision is ReplicaSetsByRevision: lower revision first, then older. Where a revision
// cannot be read, only age counts.
func compareRevision(a, b *appsv1.ReplicaSet) int {
	ra, errA := revisionOf(a)
	rb, errB := revisionOf(b)
	switch {
	case errA != nil || errB != nil || ra == rb:
		return compareCreation(a, b)
	case ra < rb:
		return -1
	default:
		return 1
	}
}

func byCreation(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	sorted := slices.Clone(sets)
	slices.SortStableFunc(sorted, compareCreation)
	return sorted
}
