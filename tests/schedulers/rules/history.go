package rules

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The rules, as violations name them.
const (
	Rebound   = "rebound"
	Nowhere   = "nowhere"
	Room      = "room"
	HostPorts = "host ports"
	Spread    = "spread"
	Apart     = "apart"
	KeptOff   = "kept off"
	Near      = "near"
)

// Violation is a rule that does not hold at a revision.
type Violation struct {
	Rule string
	Rev  uint64
	Text string
}

func (v Violation) String() string {
	return fmt.Sprintf("%s, at revision %d: %s", v.Rule, v.Rev, v.Text)
}

// History is the pods of a cluster as their log has told of them so far.
type History struct {
	Violations []Violation
	// Revisions that were checked.
	Revisions int
	// Bound counts the pods that became bound.
	Bound int
	// Full counts the revisions that left a node with no CPU; Edge the bindings that left a constraint at its largest
	// skew; Refused the bindings to a cluster with a node that a required term of others, or of the pod, rules out. They
	// tell how near the history came to what it must not do.
	Full, Edge, Refused int

	nodes map[string]*corev1.Node
	names []string
	pods  map[types.NamespacedName]*corev1.Pod
	// at is the node that each pod was bound to, by its UID.
	at map[types.UID]string
}

// New returns the history of a cluster without pods.
func New(nodes []*corev1.Node) *History {
	h := &History{nodes: map[string]*corev1.Node{}, pods: map[types.NamespacedName]*corev1.Pod{}, at: map[types.UID]string{}}
	for _, n := range nodes {
		h.nodes[n.Name] = n
	}
	h.names = slices.Sorted(maps.Keys(h.nodes))
	return h
}

// Set takes what a pod is at the next revision, nil if it was deleted.
func (h *History) Set(rev uint64, name types.NamespacedName, pod *corev1.Pod) {
	h.Revisions++
	before := h.pods[name]
	if pod == nil {
		delete(h.pods, name)
		return
	}
	if h.binds(rev, before, pod) {
		h.Bound++
		h.checkSpread(rev, pod)
		h.checkNeighbours(rev, pod)
	}
	h.pods[name] = pod
	h.checkRoom(rev, pod.Spec.NodeName)
	h.checkPorts(rev, pod)
}

// Pods are those that there are, by namespace and name.
func (h *History) Pods() []*corev1.Pod {
	out := make([]*corev1.Pod, 0, len(h.pods))
	for _, name := range slices.SortedFunc(maps.Keys(h.pods), func(a, b types.NamespacedName) int {
		return cmp.Compare(a.String(), b.String())
	}) {
		out = append(out, h.pods[name])
	}
	return out
}

func (h *History) report(rule string, rev uint64, format string, args ...any) {
	h.Violations = append(h.Violations, Violation{Rule: rule, Rev: rev, Text: fmt.Sprintf(format, args...)})
}

// counts reports whether a pod is on a node and is not over.
func counts(pod *corev1.Pod) bool {
	return pod.Spec.NodeName != "" && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

func full(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }
