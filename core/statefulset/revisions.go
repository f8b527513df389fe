package statefulset

import (
	"encoding/json"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/zeroplane/zeroplane/core/history"
)

// findRevisions finds the revision that pods had and the one that they are to have, which it makes or
// numbers anew if it has to: stateful_set_control.go getStatefulSetRevisions.
func (r *decision) findRevisions() {
	r.revisions = history.Sorted(r.revisions)
	if r.set.Status.CollisionCount != nil {
		r.collisions = *r.set.Status.CollisionCount
	}
	var latest *appsv1.ControllerRevision
	number := int64(1)
	if n := len(r.revisions); n > 0 {
		latest = r.revisions[n-1]
		number = latest.Revision + 1
	}
	wanted := revisionFor(r.set, number, &r.collisions)
	switch same := history.LastEqual(r.revisions, wanted); {
	case same != nil && history.Equal(latest, same):
		r.update = latest
	case same != nil:
		r.update = same.DeepCopy()
		r.update.Revision = wanted.Revision
		r.writes.revisions = append(r.writes.revisions, history.Update(r.update))
	case latest != nil && r.isTheSame(wanted, latest):
		r.update = latest
	default:
		r.update = r.make(wanted)
	}
	r.current = r.update
	for _, revision := range r.revisions {
		if revision.Name == r.set.Status.CurrentRevision {
			r.current = revision
			break
		}
	}
}

// make makes a revision, under a name that no other has: controller_history.go
// CreateControllerRevision. A set that is being deleted makes none, since its history goes with it.
func (r *decision) make(wanted *appsv1.ControllerRevision) *appsv1.ControllerRevision {
	named := map[string]*appsv1.ControllerRevision{}
	for _, revision := range r.snapshot.Revisions {
		named[revision.Name] = revision
	}
	for {
		wanted.Name = history.Name(r.set.Name, history.Hash(wanted.Data.Raw, &r.collisions))
		taken := named[wanted.Name]
		if taken == nil {
			break
		}
		if history.Equal(taken, wanted) {
			return taken
		}
		r.collisions++
	}
	if r.set.DeletionTimestamp == nil {
		r.writes.revisions = append(r.writes.revisions, history.Create(wanted))
	}
	return wanted
}

// isTheSame reports whether going back to a revision would give what the set has, once the API server
// has filled in what it says nothing about: setMatchesLatestExistingRevision.
func (r *decision) isTheSame(wanted, latest *appsv1.ControllerRevision) bool {
	back, err := apply(r.set, latest)
	if err != nil {
		return false
	}
	r.snapshot.Default(back)
	return history.Equal(wanted, revisionFor(back, -1, nil))
}

// revisionFor is stateful_set_utils.go newRevision.
func revisionFor(set *appsv1.StatefulSet, number int64, collisions *int32) *appsv1.ControllerRevision {
	revision := history.New(history.Controller{Object: set, Kind: kind, Template: &set.Spec.Template}, number, collisions)
	revision.Annotations = maps.Clone(set.Annotations)
	return revision
}

// apply is the set with the spec of a revision: stateful_set_utils.go ApplyRevision.
func apply(set *appsv1.StatefulSet, revision *appsv1.ControllerRevision) (*appsv1.StatefulSet, error) {
	body, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}
	if body, err = strategicpatch.StrategicMergePatch(body, revision.Data.Raw, set); err != nil {
		return nil, err
	}
	restored := &appsv1.StatefulSet{}
	if err := json.Unmarshal(body, restored); err != nil {
		return nil, err
	}
	applied := set.DeepCopy()
	applied.Spec = restored.Spec
	return applied, nil
}

// truncateHistory removes the lowest of the revisions that nobody has any more, above
// revisionHistoryLimit: stateful_set_control.go truncateHistory.
func (r *decision) truncateHistory() {
	limit := r.set.Spec.RevisionHistoryLimit
	if limit == nil || *limit < 0 {
		return
	}
	live := map[string]bool{r.current.Name: true, r.update.Name: true}
	for _, pod := range r.pods {
		live[revisionOf(pod)] = true
	}
	var old []*appsv1.ControllerRevision
	for _, revision := range r.revisions {
		if !live[revision.Name] {
			old = append(old, revision)
		}
	}
	for _, revision := range old[:max(len(old)-int(*limit), 0)] {
		r.writes.history = append(r.writes.history, history.Delete(revision))
	}
}
