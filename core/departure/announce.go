package departure

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

const (
	// Annotation of a node holds what was announced, as JSON.
	Annotation = "zeroplane.dev/departure"
	// Taint of a node whose machine is about to go. Its value says why. Its effect is NoSchedule.
	Taint = "zeroplane.dev/departing"
	// component reports what was done.
	component = "node-departures"
)

const (
	// staleAfter an announcement's time, or its deadline, it is not acted on any more: the machine is gone, and a node
	// of its name is another one.
	staleAfter = time.Hour
	// maxSeen announcements of a node are remembered.
	maxSeen = 16
)

// Notice announces that a machine goes.
type Notice struct {
	// ID is the same for the same announcement, whoever sends it.
	ID string
	// Kind says what happens, such as Preempt. It is a taint's value.
	Kind string
	// Source is who says so, Incarnation the number of its document, which grows; 0 if it has none.
	Source      string
	Incarnation int64
	// At is when it was said. Deadline is when the machine may go, zero if that was not said.
	At, Deadline time.Time
	// Started is set when the machine goes already.
	Started bool
}

// note is what a node's annotation holds.
type note struct {
	ID          string     `json:"id"`
	Kind        string     `json:"kind,omitempty"`
	Source      string     `json:"source,omitempty"`
	Incarnation int64      `json:"incarnation,omitempty"`
	Deadline    *time.Time `json:"deadline,omitempty"`
	// Cordoned is set if it was this that made the node unschedulable.
	Cordoned bool `json:"cordoned,omitempty"`
	Started  bool `json:"started,omitempty"`
	// Over is set when the announcement was withdrawn, or what it was about is over.
	Over bool     `json:"over,omitempty"`
	Seen []string `json:"seen,omitempty"`
}

// noteOf reads a node's annotation. One that somebody spoilt counts as none.
func noteOf(node *corev1.Node) (note, bool) {
	var n note
	err := json.Unmarshal([]byte(node.Annotations[Annotation]), &n)
	return n, err == nil && n.ID != ""
}

// Departing reports whether a node's machine is about to go.
func Departing(node *corev1.Node) bool {
	n, there := noteOf(node)
	return there && !n.Over
}

// Announce notes an announcement on a node.
func Announce(node *corev1.Node, notice Notice, now time.Time) plan.Plan {
	old, there := noteOf(node)
	if notice.stale(now) || node.DeletionTimestamp != nil || there && old.overtakes(notice) {
		return plan.Plan{}
	}
	if notice.Started && notice.Deadline.IsZero() {
		notice.Deadline = now
		if !notice.At.IsZero() {
			notice.Deadline = notice.At
		}
	}
	if there && old.ID == notice.ID { // it has started
		next := old
		next.Started, next.Incarnation, next.Deadline = true, notice.Incarnation, earlier(old.Deadline, notice.Deadline)
		return plan.Plan{Writes: []plan.Write{next.write(node, node.Spec.Unschedulable, node.Spec.Taints)}}
	}
	next := note{
		ID: notice.ID, Kind: notice.Kind, Source: notice.Source, Incarnation: notice.Incarnation, Started: notice.Started,
		Cordoned: !node.Spec.Unschedulable, Seen: old.seen(),
	}
	if there && !old.Over {
		next.Deadline, next.Cordoned = old.Deadline, next.Cordoned || old.Cordoned
	}
	next.Deadline = earlier(next.Deadline, notice.Deadline)
	taints := append(without(node.Spec.Taints, Taint), corev1.Taint{Key: Taint, Value: notice.Kind, Effect: corev1.TaintEffectNoSchedule, TimeAdded: &metav1.Time{Time: now}})
	w := next.write(node, true, taints)
	message := fmt.Sprintf("%s was announced: the node takes no new pods, and its pods leave it", notice.Kind)
	if next.Deadline != nil {
		message += " before " + next.Deadline.Format(time.RFC3339)
	}
	w.OnSuccess = nodeNotice(node, corev1.EventTypeWarning, "NodeDeparting", message)
	return plan.Plan{Writes: []plan.Write{w}}
}

// overtakes reports whether a notice says nothing new: its source has said something else since, or it was noted before.
// That what was announced has started is new.
func (n note) overtakes(notice Notice) bool {
	if n.Source == notice.Source && notice.Incarnation != 0 && notice.Incarnation < n.Incarnation {
		return true
	}
	if n.ID == notice.ID {
		return n.Over || n.Started || !notice.Started
	}
	return slices.Contains(n.Seen, notice.ID)
}

func (n Notice) stale(now time.Time) bool {
	switch {
	case !n.Deadline.IsZero():
		return now.Sub(n.Deadline) > staleAfter
	case !n.At.IsZero():
		return now.Sub(n.At) > staleAfter
	}
	return false
}

// seen are the announcements that the node has had, for the next.
func (n note) seen() []string {
	if n.ID == "" {
		return nil
	}
	all := append(slices.Clone(n.Seen), n.ID)
	return all[max(len(all)-maxSeen, 0):]
}

// earlier returns the earlier of two deadlines, of which either may be missing.
func earlier(d *time.Time, t time.Time) *time.Time {
	if t = t.UTC(); t.IsZero() || d != nil && d.Before(t) {
		return d
	}
	return &t
}

// Document is the whole of what a source announces.
type Document struct {
	Source      string
	Incarnation int64
	// IDs of the announcements that are in it.
	IDs []string
}

// Withdraw undoes what was done for an announcement that its source does not make any more: the node takes pods again.
func Withdraw(node *corev1.Node, d Document) plan.Plan {
	n, there := noteOf(node)
	if !there || n.Over || n.Incarnation == 0 || n.Source != d.Source || d.Incarnation <= n.Incarnation || slices.Contains(d.IDs, n.ID) {
		return plan.Plan{}
	}
	unschedulable := node.Spec.Unschedulable && !n.Cordoned
	over := note{ID: n.ID, Kind: n.Kind, Source: n.Source, Incarnation: d.Incarnation, Over: true, Seen: n.Seen}
	w := over.write(node, unschedulable, without(node.Spec.Taints, Taint))
	w.OnSuccess = nodeNotice(node, corev1.EventTypeNormal, "NodeStays", n.Kind+" is not announced any more")
	return plan.Plan{Writes: []plan.Write{w}}
}

// write is the update of a node with a note.
func (n note) write(node *corev1.Node, unschedulable bool, taints []corev1.Taint) plan.Write {
	text, _ := json.Marshal(n) // of strings, numbers and times, which always encode
	return update(node, Annotation, string(text), func(spec *corev1.NodeSpec) { spec.Unschedulable, spec.Taints = unschedulable, taints })
}

func update(node *corev1.Node, annotation, text string, change func(*corev1.NodeSpec)) plan.Write {
	changed := node.DeepCopy()
	changed.Annotations = maps.Clone(node.Annotations)
	if changed.Annotations == nil {
		changed.Annotations = map[string]string{}
	}
	changed.Annotations[annotation] = text
	change(&changed.Spec)
	return plan.Write{
		Verb: plan.Update, Resource: plan.Nodes, Name: node.Name, Object: changed, UID: node.UID, ResourceVersion: node.ResourceVersion,
		Reason: "the node's cloud announced something about its machine",
	}
}

// without returns the taints that do not have a key, in a list of their own.
func without(taints []corev1.Taint, key string) []corev1.Taint {
	var out []corev1.Taint
	for _, t := range taints {
		if t.Key != key {
			out = append(out, t)
		}
	}
	return out
}

func nodeNotice(node *corev1.Node, kind, reason, message string) *plan.Notice {
	return &plan.Notice{
		// As the node controller and kubelets have it, a node's Events name it as their UID.
		Regarding: corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: node.Name, UID: node.UID},
		Type:      kind, Reason: reason, Message: message, Component: component,
	}
}
