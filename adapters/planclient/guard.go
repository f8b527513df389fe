package planclient

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
)

// Revisions of the states that a plan was decided on, by log group.
type Revisions map[string]uint64

// guards turns a plan's read set into the condition of its commits, log by log.
func (c *Client) guards(reads []plan.Read, at Revisions) kubestorage.Guards {
	byLog := map[*tablelog.Log][]plan.Read{}
	out := kubestorage.Guards{}
	for _, r := range reads {
		group := kubestorage.GroupOf(r.Resource.GroupResource())
		if _, known := at[group]; !known {
			continue
		}
		log := c.logs[group]
		byLog[log] = append(byLog[log], r)
		out[log] = tablelog.Guard{Since: at[group]}
	}
	for log, list := range byLog {
		set := newReadSet(c.decoder, slices.DeleteFunc(slices.Clone(list), func(r plan.Read) bool { return r.Arrivals }))
		coming := newReadSet(c.decoder, slices.DeleteFunc(list, func(r plan.Read) bool { return !r.Arrivals }))
		g := out[log]
		g.Conflicts = func(ev tablelog.Event) bool { return set.touchedBy(ev) || coming.joinedBy(ev) }
		out[log] = g
	}
	return out
}

// lookAgain fails with ErrStale if what a plan wants to be looked at once more has changed since the snapshot.
func (c *Client) lookAgain(ctx context.Context, reads []plan.Read, at Revisions) error {
	byGroup := map[string][]plan.Read{}
	for _, r := range reads {
		group := kubestorage.GroupOf(r.Resource.GroupResource())
		if _, known := at[group]; known && r.Again {
			byGroup[group] = append(byGroup[group], r)
		}
	}
	for group, list := range byGroup {
		state, err := c.logs[group].Current(tablelog.Begin(ctx))
		if err != nil {
			return fmt.Errorf("looking at the log %s again: %w", group, err)
		}
		if state.Rev == at[group] {
			continue
		}
		changes, err := c.logs[group].Between(ctx, at[group], state.Rev)
		switch {
		case errors.Is(err, tablelog.ErrCompacted):
			return fmt.Errorf("%w: %w", ErrStale, err)
		case err != nil:
			return fmt.Errorf("reading the log %s again: %w", group, err)
		}
		if i := slices.IndexFunc(changes, newReadSet(c.decoder, list).touchedBy); i >= 0 {
			return fmt.Errorf("%w: %s was %s", ErrStale, changes[i].Key, changes[i].Type)
		}
	}
	return nil
}

// Newest returns the last of some changes that is of something in a plan's read set.
func Newest(decoder kubestorage.Decoder, reads []plan.Read, changes []tablelog.Event) (tablelog.Event, bool) {
	set := newReadSet(decoder, reads)
	for _, ev := range slices.Backward(changes) {
		if set.concerns(ev) {
			return ev, true
		}
	}
	return tablelog.Event{}, false
}

// readSet is a plan's reads, arranged so that a change is looked up and not compared
// with each of them: a plan that binds a thousand pods has as many reads.
type readSet struct {
	decoder kubestorage.Decoder
	named   map[string]bool
	owners  map[string]bool
	nodes   map[string]bool
	// addresses are the nodes whose pods' addresses were read.
	addresses map[string]bool
	// assigned is set when all that is on nodes was read.
	assigned bool
	// repelling is set when who keeps others off was read.
	repelling bool
	// allocated is set when what claims for devices have was read.
	allocated bool
	// ranged is set when which ranges nodes have was read.
	ranged bool
	// selecting are the reads of the objects that labels select, and of whole resources.
	selecting []plan.Read
}

func newReadSet(decoder kubestorage.Decoder, reads []plan.Read) *readSet {
	s := &readSet{decoder: decoder, named: map[string]bool{}, owners: map[string]bool{}, nodes: map[string]bool{}, addresses: map[string]bool{}}
	for _, r := range reads {
		switch {
		case r.Name != "":
			s.named[kubestorage.KeyOf(r.Resource.GroupResource(), r.Namespace, r.Name)] = true
		case r.Owner != "":
			s.owners[r.Resource.GroupResource().String()+"/"+string(r.Owner)] = true
		case r.Assigned:
			s.assigned = true
		case r.Repelling:
			s.repelling = true
		case r.Allocated:
			s.allocated = true
		case r.Ranged:
			s.ranged = true
		case r.Node != "" && r.Addresses:
			s.addresses[r.Node] = true
		case r.Node != "":
			s.nodes[r.Node] = true
		default:
			s.selecting = append(s.selecting, r)
		}
	}
	return s
}

// touchedBy reports whether a change is of something in the read set that plans go by.
func (s *readSet) touchedBy(ev tablelog.Event) bool {
	gr, _, _ := kubestorage.ParseKey(ev.Key)
	if !s.named[ev.Key] && gr == plan.Pods.GroupResource() && s.sameStanding(ev) {
		return false
	}
	return s.concerns(ev)
}

// concerns reports whether a change is of something in the read set.
func (s *readSet) concerns(ev tablelog.Event) bool {
	if s.named[ev.Key] {
		return true
	}
	gr, namespace, _ := kubestorage.ParseKey(ev.Key)
	if len(s.owners) > 0 && (s.owned(gr, ev.Entry) || s.owned(gr, ev.Prev)) {
		return true
	}
	if s.takes(gr, ev) {
		return true
	}
	return slices.ContainsFunc(s.selecting, func(r plan.Read) bool {
		return r.Resource.GroupResource() == gr && (r.Namespace == "" || r.Namespace == namespace) &&
			(r.Selector == nil || s.selected(r.Selector, ev.Entry) || s.selected(r.Selector, ev.Prev))
	})
}

// joinedBy reports whether a change brings something into the read set.
func (s *readSet) joinedBy(ev tablelog.Event) bool {
	before, after := ev, ev
	before.Entry, after.Prev = nil, nil
	return ev.Entry != nil && s.concerns(after) && (ev.Prev == nil || !s.concerns(before))
}

// sameStanding reports whether a change of a pod leaves what plans count it for as it was: who owns
// it, how it is labelled, whether it goes away or is over, and what it takes of which node. Plans are
// not stale because a pod became ready. That it was bound matters to plans that read nodes only.
func (s *readSet) sameStanding(ev tablelog.Event) bool {
	before, err := s.pod(ev.Prev)
	if err != nil || before == nil {
		return false
	}
	after, err := s.pod(ev.Entry)
	if err != nil || after == nil {
		return false
	}
	return before.UID == after.UID && (before.DeletionTimestamp == nil) == (after.DeletionTimestamp == nil) &&
		over(before) == over(after) && slices.Equal(ev.Prev.Owners, ev.Entry.Owners) && maps.Equal(before.Labels, after.Labels) &&
		(!s.readsNodes() || !s.moves(ev))
}

// readsNodes reports whether it matters where pods are.
func (s *readSet) readsNodes() bool {
	return s.assigned || s.repelling || len(s.nodes)+len(s.addresses) > 0
}

func over(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func (s *readSet) pod(e *tablelog.Entry) (*corev1.Pod, error) {
	if e == nil {
		return nil, nil
	}
	obj, err := s.decoder.Object(e)
	if err != nil {
		return nil, err
	}
	pod, _ := obj.(*corev1.Pod)
	return pod, nil
}

func (s *readSet) owned(gr schema.GroupResource, e *tablelog.Entry) bool {
	if e == nil {
		return false
	}
	for _, o := range e.Owners {
		if s.owners[gr.String()+"/"+o] {
			return true
		}
	}
	return false
}

// occupation is what a pod takes of a node. Two pods of one generation ask for the same.
type occupation struct {
	node       string
	uid        string
	generation int64
	address    string
	// labels are noted where all that is on nodes was read, and repels where who keeps others off was.
	labels string
	repels bool
}

// moves reports whether a change of a pod changes what is taken of a node that was read: that a pod on
// it became ready does not, and that it got an address only if those were read.
func (s *readSet) moves(ev tablelog.Event) bool {
	before, knownBefore := s.occupation(ev.Prev)
	after, knownAfter := s.occupation(ev.Entry)
	if !knownBefore || !knownAfter {
		return true // what cannot be read cannot be ruled out
	}
	if after.address != "" && after.address != before.address && s.addresses[after.node] {
		return true
	}
	if after.repels && !before.repels {
		return true
	}
	before.address, after.address = "", ""
	return before != after && (s.assigned || s.nodes[before.node] || s.nodes[after.node])
}

func (s *readSet) occupation(e *tablelog.Entry) (occupation, bool) {
	pod, err := s.pod(e)
	if err != nil || pod == nil && e != nil {
		return occupation{}, false
	}
	if pod == nil || pod.Spec.NodeName == "" || over(pod) {
		return occupation{}, true
	}
	o := occupation{node: pod.Spec.NodeName, uid: string(pod.UID), generation: pod.Generation, address: pod.Status.PodIP}
	if s.assigned {
		o.labels = labels.Set(pod.Labels).String()
	}
	o.repels = s.repelling && repels(pod)
	return o, true
}

// takes reports whether a change is of what was read about who has room or devices.
func (s *readSet) takes(gr schema.GroupResource, ev tablelog.Event) bool {
	switch gr {
	case plan.Pods.GroupResource():
		return s.readsNodes() && s.moves(ev)
	case plan.ResourceClaims.GroupResource():
		return s.allocated && s.allocates(ev)
	case plan.Nodes.GroupResource():
		return s.ranged && s.ranges(ev)
	}
	return false
}

// allocates reports whether a change gives a claim devices.
func (s *readSet) allocates(ev tablelog.Event) bool {
	if ev.Entry == nil {
		return false
	}
	after, err := s.allocation(ev.Entry)
	if err != nil {
		return true // what cannot be read cannot be ruled out
	}
	if after == nil {
		return false
	}
	before, err := s.allocation(ev.Prev)
	return err != nil || !equality.Semantic.DeepEqual(before, after)
}

func (s *readSet) allocation(e *tablelog.Entry) (*resourcev1.AllocationResult, error) {
	if e == nil {
		return nil, nil
	}
	obj, err := s.decoder.Object(e)
	if err != nil {
		return nil, err
	}
	claim, ok := obj.(*resourcev1.ResourceClaim)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T", e.Key, obj)
	}
	return claim.Status.Allocation, nil
}

// ranges reports whether a change gives a node ranges of addresses.
func (s *readSet) ranges(ev tablelog.Event) bool {
	if ev.Entry == nil {
		return false
	}
	after, err := s.nodeRanges(ev.Entry)
	if err != nil {
		return true // what cannot be read cannot be ruled out
	}
	before, err := s.nodeRanges(ev.Prev)
	return err != nil || len(after) > 0 && !slices.Equal(before, after)
}

func (s *readSet) nodeRanges(e *tablelog.Entry) ([]string, error) {
	if e == nil {
		return nil, nil
	}
	obj, err := s.decoder.Object(e)
	if err != nil {
		return nil, err
	}
	node, ok := obj.(*corev1.Node)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T", e.Key, obj)
	}
	return node.Spec.PodCIDRs, nil
}

// repels reports whether a pod keeps others off.
func repels(pod *corev1.Pod) bool {
	a := pod.Spec.Affinity
	return a != nil && a.PodAntiAffinity != nil && len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0
}

func (s *readSet) selected(selector labels.Selector, e *tablelog.Entry) bool {
	if e == nil {
		return false
	}
	obj, err := s.decoder.Object(e)
	if err != nil {
		return true
	}
	m, ok := obj.(metav1.Object)
	return !ok || selector.Matches(labels.Set(m.GetLabels()))
}
