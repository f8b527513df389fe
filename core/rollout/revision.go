package rollout

import (
	"maps"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The annotations that Deployment and ReplicaSets carry, from deployment/util/deployment_util.go.
const (
	RevisionAnnotation        = "deployment.kubernetes.io/revision"
	RevisionHistoryAnnotation = "deployment.kubernetes.io/revision-history"
	DesiredReplicasAnnotation = "deployment.kubernetes.io/desired-replicas"
	MaxReplicasAnnotation     = "deployment.kubernetes.io/max-replicas"
)

// revisionHistoryLimit bounds the revision history annotation, in characters: about 100 revisions
// (deployment/sync.go maxRevHistoryLengthInChars).
const revisionHistoryLimit = 2000

// skipped reports whether an annotation is not copied between Deployment and ReplicaSet.
func skipped(key string) bool {
	switch key {
	case corev1.LastAppliedConfigAnnotation, RevisionAnnotation, RevisionHistoryAnnotation,
		DesiredReplicasAnnotation, MaxReplicasAnnotation, appsv1.DeprecatedRollbackTo:
		return true
	default:
		return false
	}
}

// revisionOf reads the revision annotation; 0 when there is none.
func revisionOf(object metav1.Object) (int64, error) {
	value, ok := object.GetAnnotations()[RevisionAnnotation]
	if !ok {
		return 0, nil
	}
	return strconv.ParseInt(value, 10, 64)
}

// maxRevision is the highest revision that can be read.
func maxRevision(sets []*appsv1.ReplicaSet) int64 {
	highest := int64(0)
	for _, rs := range sets {
		if revision, err := revisionOf(rs); err == nil {
			highest = max(highest, revision)
		}
	}
	return highest
}

// lastRevision is the second highest revision that can be read, 0 when there is none.
func lastRevision(sets []*appsv1.ReplicaSet) int64 {
	highest, second := int64(0), int64(0)
	for _, rs := range sets {
		revision, err := revisionOf(rs)
		switch {
		case err != nil:
		case revision >= highest:
			highest, second = revision, highest
		case revision > second:
			second = revision
		}
	}
	return second
}

// annotateNewSet gives the annotations that the new set should have, and whether they differ from
// those it has: deployment/util/deployment_util.go SetNewReplicaSetAnnotations.
func annotateNewSet(d *appsv1.Deployment, rs *appsv1.ReplicaSet, revision int64) (map[string]string, bool) {
	annotations, changed := maps.Clone(rs.Annotations), false
	if annotations == nil {
		annotations = map[string]string{}
	}
	for key, value := range d.Annotations {
		if current, ok := annotations[key]; skipped(key) || (ok && current == value) {
			continue
		}
		annotations[key], changed = value, true
	}

	old, hadRevision := annotations[RevisionAnnotation]
	oldRevision := int64(0)
	if old != "" {
		parsed, err := strconv.ParseInt(old, 10, 64)
		if err != nil {
			// Upstream reports no change, so that nothing is written until someone repairs it.
			return annotations, false
		}
		oldRevision = parsed
	}
	if oldRevision >= revision {
		// Sets with higher revisions may have been deleted meanwhile: a revision never goes down.
		return annotations, changed
	}
	annotations[RevisionAnnotation] = strconv.FormatInt(revision, 10)
	if hadRevision {
		// The set served before, so this is a rollback to it.
		appendHistory(annotations, old)
	}
	return annotations, true
}

// appendHistory notes a revision that the set served, dropping the oldest to stay within the limit.
func appendHistory(annotations map[string]string, revision string) {
	history := annotations[RevisionHistoryAnnotation]
	revisions := strings.Split(history, ",")
	if revisions[0] == "" {
		annotations[RevisionHistoryAnnotation] = revision
		return
	}
	length, start := len(history)+len(revision)+1, 0
	for length > revisionHistoryLimit && start < len(revisions) {
		length -= len(revisions[start]) + 1
		start++
	}
	if length <= revisionHistoryLimit {
		annotations[RevisionHistoryAnnotation] = strings.Join(append(revisions[start:], revision), ",")
	}
}

// replicasAnnotations are the values of the desired-replicas and max-replicas annotations, by which
// a later scaling event is told from a rollout.
func replicasAnnotations(d *appsv1.Deployment) (desired, maximum string) {
	return strconv.Itoa(int(desiredOf(d))), strconv.Itoa(int(desiredOf(d) + maxSurge(d)))
}

// withReplicasAnnotations is SetReplicasAnnotations on a copy.
func withReplicasAnnotations(annotations map[string]string, d *appsv1.Deployment) map[string]string {
	annotated := maps.Clone(annotations)
	if annotated == nil {
		annotated = map[string]string{}
	}
	annotated[DesiredReplicasAnnotation], annotated[MaxReplicasAnnotation] = replicasAnnotations(d)
	return annotated
}

// annotatedReplicas reads one of these annotations; not ok when it is missing or no natural number.
func annotatedReplicas(rs *appsv1.ReplicaSet, key string) (int32, bool) {
	value, err := strconv.ParseUint(rs.Annotations[key], 10, 31)
	return int32(value), err == nil
}
