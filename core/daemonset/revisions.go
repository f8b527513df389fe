package daemonset

import (
	"bytes"
	"encoding/json"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/history"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
)

// hash is what pods of the current revision are labelled with.
func (r *decision) hash() string { return r.current.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] }

// findCurrent finds the revision of the set's template, and makes or numbers it if it has to: update.go
// constructHistory. What it returns has to be written before anything else.
func (r *decision) findCurrent() []plan.Write {
	data := history.Data(&r.set.Spec.Template)
	var writes []plan.Write
	var same []*appsv1.ControllerRevision
	number := int64(1)
	for _, revision := range r.revisions {
		if _, labelled := revision.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]; !labelled {
			revision = revision.DeepCopy()
			// The name stands for the hash, so that collisions need not be thought of.
			revision.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = revision.Name
			writes = append(writes, history.Update(revision))
		}
		if bytes.Equal(data, revision.Data.Raw) {
			same = append(same, revision)
			continue
		}
		r.old = append(r.old, revision)
		number = max(number, revision.Revision+1)
	}
	switch {
	case len(writes) > 0:
		return writes
	case len(same) > 1:
		return r.deduplicate(same)
	case len(same) == 0:
		return r.make(data, number)
	case same[0].Revision < number:
		r.current = same[0].DeepCopy()
		r.current.Revision = number
		r.history = append(r.history, history.Update(r.current))
	default:
		r.current = same[0]
	}
	return nil
}

// make makes the revision: update.go snapshot. If another one has its name, what is to be written first
// is the number of collisions, which makes the next name.
func (r *decision) make(data []byte, number int64) []plan.Write {
	hash := podcontrol.ComputeHash(&r.set.Spec.Template, r.set.Status.CollisionCount)
	labels := maps.Clone(r.set.Spec.Template.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[appsv1.DefaultDaemonSetUniqueLabelKey] = hash
	made := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Name: r.set.Name + "-" + hash, Namespace: r.set.Namespace, Labels: labels, Annotations: maps.Clone(r.set.Annotations),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(r.set, kind)},
		},
		Data: runtime.RawExtension{Raw: data}, Revision: number,
	}
	for _, taken := range r.snapshot.Revisions {
		switch {
		case taken.Name != made.Name:
		case bytes.Equal(taken.Data.Raw, data):
			r.current = taken
			return nil
		default:
			return []plan.Write{r.collide()}
		}
	}
	r.current = made
	r.history = append(r.history, history.Create(made))
	return nil
}

// collide counts one more collision in the status.
func (r *decision) collide() plan.Write {
	updated := r.set.DeepCopy()
	if updated.Status.CollisionCount == nil {
		updated.Status.CollisionCount = new(int32)
	}
	*updated.Status.CollisionCount++
	return plan.Write{
		Verb: plan.UpdateStatus, Resource: plan.DaemonSets, Namespace: updated.Namespace, Name: updated.Name,
		Object: updated, Reason: "the name of the revision is taken",
	}
}

// deduplicate keeps the highest of several revisions with the set's template, and has the pods be of it:
// update.go dedupCurHistories.
func (r *decision) deduplicate(same []*appsv1.ControllerRevision) []plan.Write {
	kept := same[len(same)-1]
	hash := kept.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
	var writes []plan.Write
	for _, pod := range r.pods {
		if pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == hash {
			continue
		}
		writes = append(writes, plan.Write{
			Verb: plan.Patch, Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name, Reason: "its revision is there twice",
			PatchType: types.MergePatchType, PatchBody: labelPatch(appsv1.DefaultDaemonSetUniqueLabelKey, hash),
		})
	}
	for _, revision := range same[:len(same)-1] {
		writes = append(writes, history.Delete(revision))
	}
	return writes
}

func labelPatch(key, value string) []byte {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{key: value}}})
	if err != nil {
		// Strings always encode.
		panic("daemonset: encoding a label: " + err.Error())
	}
	return body
}

// cleanupHistory removes the lowest of the old revisions that no pod has, above revisionHistoryLimit:
// update.go cleanupHistory. Those that pods have count, but stay.
func (r *decision) cleanupHistory() {
	limit := r.set.Spec.RevisionHistoryLimit
	if limit == nil {
		return
	}
	live := map[string]bool{}
	for _, pod := range r.pods {
		live[pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] = true
	}
	excess := len(r.old) - int(*limit)
	for _, revision := range r.old {
		if excess <= 0 {
			return
		}
		if !live[revision.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] {
			r.history = append(r.history, history.Delete(revision))
			excess--
		}
	}
}
