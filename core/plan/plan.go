// Package plan holds what a pure decision returns: the writes that make the world match what was
// asked for, the moments at which to look again, and the notices for people.
//
// A plan is data. It names, for every write, the version of the object that it was decided on, and
// its read set: the part of the cluster whose change would have changed the decision. Whoever
// commits a plan does so only if nothing in the read set moved since the snapshot was taken
// (docs/decisions.md, D8); otherwise the snapshot is loaded again and the decision is made again.
package plan

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Verb is what a write does to its target. Each is one request of the Kubernetes API.
type Verb string

// The verbs of a write.
const (
	// Create posts Object. The server makes the name when Object has only a generateName.
	Create Verb = "create"
	// Update puts Object, whose resourceVersion is the version decided on (to Subresource, if one is named).
	Update Verb = "update"
	// UpdateStatus puts Object to the status subresource.
	UpdateStatus Verb = "updateStatus"
	// Patch sends PatchBody of PatchType (to Subresource, if one is named).
	Patch Verb = "patch"
	// Apply sends PatchBody as a configuration of FieldManager, which takes what others own of it (to Subresource, if one is named).
	Apply Verb = "apply"
	// Delete removes the target, preconditioned on UID and, if set, on ResourceVersion.
	Delete Verb = "delete"
	// Bind posts a Binding of the pod to Node.
	Bind Verb = "bind"
	// Evict posts an Eviction of the pod, preconditioned on UID: disruption budgets may refuse it. Nothing that the plan was
	// decided on may be in its read set, since the budget is charged at once.
	Evict Verb = "evict"
	// Finalize puts Object to the finalize subresource (namespaces).
	Finalize Verb = "finalize"
)

// Scale is the subresource by which an object is asked for replicas.
const Scale = "scale"

// Write is one request that the plan asks for.
type Write struct {
	Verb     Verb
	Resource schema.GroupVersionResource
	// Namespace and Name of the target. For Create, Name may be empty (generateName).
	Namespace, Name string
	// Subresource that Update, Patch and Apply go to, empty for the object itself.
	Subresource string
	// Object is the whole object for Create, Update, UpdateStatus and Finalize. It is owned by the
	// plan: a decision copies what it changes and never alters its snapshot.
	Object runtime.Object
	// PatchType and PatchBody are the patch.
	PatchType types.PatchType
	PatchBody []byte
	// FieldManager is whose configuration is applied.
	FieldManager string
	// UID and ResourceVersion are the preconditions of Delete, Evict and Bind.
	UID             types.UID
	ResourceVersion string
	// Propagation and GracePeriodSeconds of a Delete; nil leaves the server's default.
	Propagation        *metav1.DeletionPropagation
	GracePeriodSeconds *int64
	// Node is where Bind puts the pod.
	Node string
	// Reason says, for logs and traces, why the write is asked for.
	Reason string
	// IfFailed is the notice to give when this write is refused, nil for none. Its %v in Message
	// is replaced by the error.
	IfFailed *Notice
	// OnSuccess is the notice to give when this write went through, nil for none. {{name}} in its
	// Message is replaced by the name of the object written, which the server may have made.
	OnSuccess *Notice
}

// Ref names one object.
type Ref struct {
	Resource        schema.GroupVersionResource
	Namespace, Name string
	UID             types.UID
}

// Later asks to be called again with the same subject at a time. It is stored, so it survives the
// instance that asked. A later Later for the same subject and Kind replaces the earlier one; a zero
// At removes it.
type Later struct {
	At      time.Time
	Subject Ref
	// Kind tells apart the things one subject may wait for, such as "progress" or "available".
	Kind string
	// Keep leaves an earlier Later as it is: the first one counts, until it was handled.
	Keep bool `json:",omitempty"`
	// Delay is for how long something is put off, for who doubles it the next time; 0 if nobody does.
	Delay time.Duration `json:",omitempty"`
	// Trace is the trace context in which it was put off, empty if unknown. Decisions leave it alone.
	Trace string `json:",omitempty"`
}

// Notice becomes a Kubernetes Event about Regarding.
type Notice struct {
	Regarding corev1.ObjectReference
	Related   *corev1.ObjectReference
	// Type is corev1.EventTypeNormal or corev1.EventTypeWarning.
	Type            string
	Reason, Message string
	// Action as events.k8s.io wants it; empty for events of the older kind.
	Action string
	// Component that reports, such as "deployment-controller" or "default-scheduler".
	Component string
}

// Read is one part of the read set of a plan. A change matches a Read when it is of Resource, in
// Namespace (any, if empty), and every other condition that is set holds for the object before or
// after the change.
type Read struct {
	Resource  schema.GroupVersionResource
	Namespace string
	// Name of one object.
	Name string
	// Owner is the UID of the controlling owner.
	Owner types.UID
	// Selector over labels.
	Selector labels.Selector
	// Node is the node that a pod is bound to.
	Node string
	// Addresses, with Node, makes it a read of the addresses that the node's pods have, and of nothing
	// else: a pod that gets one matches.
	Addresses bool
	// Assigned makes it a read of which pods, with which labels, are on nodes: pods that wait do not match.
	Assigned bool
	// Repelling makes it a read of which pods on nodes keep others off by a required anti-affinity: one that comes to a
	// node matches. Where one goes, no more is kept off than was.
	Repelling bool
	// Arrivals makes it a read of which pods there are: one that comes matches, and what becomes of those that are there does not.
	Arrivals bool
	// Again has what was read be looked at once more before anything is written, where the plan's first writes are of
	// another log: those are committed without it otherwise.
	Again bool
	// Allocated makes it a read of which devices claims have: a ResourceClaim that gets some matches. Where one gives them
	// back, no less is free than was.
	Allocated bool
	// Ranged makes it a read of which nodes have which ranges of addresses: a Node that gets some matches. Where one goes, no
	// less is free than was.
	Ranged bool
}

// Plan is a decision.
type Plan struct {
	// Writes in the order in which they matter: a write of another log than its predecessor's is
	// committed after it, and a crash in between leaves a prefix.
	Writes  []Write
	Later   []Later
	Notices []Notice
	Reads   []Read
}

// Empty reports whether the plan asks for nothing.
func (p Plan) Empty() bool {
	return len(p.Writes) == 0 && len(p.Later) == 0 && len(p.Notices) == 0
}

// Merge appends all that other asks for.
func (p *Plan) Merge(other Plan) {
	p.Writes = append(p.Writes, other.Writes...)
	p.Later = append(p.Later, other.Later...)
	p.Notices = append(p.Notices, other.Notices...)
	p.Reads = append(p.Reads, other.Reads...)
}
