package consumer

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
)

// Selects reports whether a selector is valid, not empty, and matches an object.
func Selects(selector *metav1.LabelSelector, obj metav1.Object) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && !s.Empty() && s.Matches(labels.Set(obj.GetLabels()))
}

// AddMatching adds to a set the objects of a resource that match, of one namespace if it is named.
func AddMatching[T metav1.Object](s *Snapshot, gr schema.GroupResource, namespace string, set Set, matches func(T) bool) error {
	all, err := List[T](s, gr, namespace)
	for _, obj := range all {
		if matches(obj) {
			set.Add(obj.GetNamespace(), obj.GetName())
		}
	}
	return err
}

// AddAll adds to a set all objects of a resource.
func AddAll[T metav1.Object](s *Snapshot, gr schema.GroupResource, set Set) error {
	return AddMatching(s, gr, "", set, func(T) bool { return true })
}

// Owners adds to a set the controllers, of a kind, of an object before and after a change. If it has no
// controller, it calls matching for those whose selector may match it.
func Owners(s *Snapshot, ev tablelog.Event, kind string, set Set, matching func(metav1.Object) error) error {
	for _, e := range []*tablelog.Entry{ev.Prev, ev.Entry} {
		obj, ok, err := Read[metav1.Object](s, e)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if c := metav1.GetControllerOfNoCopy(obj); c != nil {
			if c.Kind == kind {
				set.Add(obj.GetNamespace(), c.Name)
			}
			continue
		}
		if err := matching(obj); err != nil {
			return err
		}
	}
	return nil
}

// Claimable returns the objects of a resource that an owner controls, and those that its selector
// matches and nobody controls.
func Claimable[T metav1.Object](s *Snapshot, gr schema.GroupResource, owner metav1.Object, selector *metav1.LabelSelector) ([]T, error) {
	owned, err := OwnedBy[T](s, gr, owner.GetUID())
	if err != nil {
		return nil, err
	}
	out := owned[:0:0]
	for _, o := range owned {
		if metav1.IsControlledBy(o, owner) {
			out = append(out, o)
		}
	}
	all, err := List[T](s, gr, owner.GetNamespace())
	for _, o := range all {
		if metav1.GetControllerOfNoCopy(o) == nil && Selects(selector, o) {
			out = append(out, o)
		}
	}
	return out, err
}

const (
	// refusedKind is what a subject waits for whose write the API refused.
	refusedKind = "refused"
	// minRefusedPause and maxRefusedPause bound the pause after a refusal, which doubles.
	minRefusedPause = time.Second
	maxRefusedPause = 5 * time.Minute
)

// Refusal puts off the next attempt of a refused write for as long again as it has been refused, 5 minutes at most.
func Refusal(resource schema.GroupVersionResource, obj metav1.Object, now, since time.Time) plan.Later {
	ref := plan.Ref{Resource: resource, Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID()}
	return TryAgain(ref, now, since, maxRefusedPause)
}

// TryAgain puts off the next attempt of a refused write for as long again as it has been refused, at most longest. since is
// zero where it has not been before.
func TryAgain(subject plan.Ref, now, since time.Time, longest time.Duration) plan.Later {
	pause := minRefusedPause
	if !since.IsZero() {
		pause = min(max(now.Sub(since), minRefusedPause), longest)
	}
	return plan.Later{At: now.Add(pause), Subject: subject, Kind: refusedKind}
}

// LastEdited is when an object was last changed by somebody, not counting its status: what is refused has been so at most
// since then.
func LastEdited(obj metav1.Object) time.Time {
	last := obj.GetCreationTimestamp().Time
	for _, m := range obj.GetManagedFields() {
		if m.Subresource == "" && m.Time != nil && m.Time.After(last) {
			last = m.Time.Time
		}
	}
	return last
}
