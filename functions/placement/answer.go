package placement

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/scheduling"
)

// Answer is what would come of a change.
type Answer struct {
	// Fits is set unless a pod that came or lost its node fits nowhere or waits for its claims.
	Fits bool `json:"fits"`
	// Placements are in the order of decisions.
	Placements []Placed `json:"placements"`
	// Unschedulable are pods that no node takes.
	Unschedulable []Unplaced `json:"unschedulable"`
	// Preempted are pods that go for others of higher priority.
	Preempted []Preempted `json:"preempted,omitempty"`
	// Unasked are pods that the scheduler does not look for a node for.
	Unasked []Unasked `json:"unasked,omitempty"`
	// Lost are pods of nodes that go, or preempted ones, that no controller makes again: NAMESPACE/NAME.
	Lost  []string `json:"lost,omitempty"`
	Nodes []Node   `json:"nodes"`
}

// Subject tells which pod it is, and why it looked for a node.
type Subject struct {
	Namespace string `json:"namespace"`
	Name      string `json:"pod"`
	// Origin is New, Waiting or Moved, and From the node that a moved pod is on now.
	Origin scheduling.Origin `json:"origin"`
	From   string            `json:"from,omitempty"`
}

// Placed is a pod that gets a node.
type Placed struct {
	Subject
	Node string `json:"node"`
}

// Unplaced is a pod that no node takes.
type Unplaced struct {
	Subject
	// Message is the scheduler's, and Hints are what would make the pod fit, the best first.
	Message string `json:"message"`
	Hints   []Hint `json:"hints,omitempty"`
}

// Hint is something that would make a pod fit.
type Hint struct {
	Kind string `json:"kind"`
	Text string `json:"text"`
	// Nodes are those that would take the pod then, or that come nearest to it.
	Nodes []string `json:"nodes,omitempty"`
}

// Preempted is pods that go for another: NAMESPACE/NAME.
type Preempted struct {
	Node    string   `json:"node"`
	For     string   `json:"for"`
	Victims []string `json:"victims"`
}

// Unasked is a pod that the scheduler does not look for a node for, and why.
type Unasked struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Reason    string `json:"reason"`
}

// Node is what is taken of a node.
type Node struct {
	Name    string `json:"name"`
	Added   bool   `json:"added,omitempty"`
	Removed bool   `json:"removed,omitempty"`
	// CPU is in thousandths of a core, Memory in bytes.
	CPU    Usage `json:"cpuMillis"`
	Memory Usage `json:"memoryBytes"`
	Pods   Usage `json:"pods"`
}

// Usage is what a node offers of something, and what pods ask for of it now and after the change.
type Usage struct {
	Allocatable int64 `json:"allocatable"`
	Before      int64 `json:"before"`
	After       int64 `json:"after"`
}

// HintsOf are hints as they are told.
func HintsOf(hints []scheduling.Hint) []Hint {
	var out []Hint
	for _, h := range hints {
		out = append(out, Hint(h))
	}
	return out
}

func newAnswer(o scheduling.Outcome) Answer {
	a := Answer{Fits: len(o.Held) == 0, Placements: []Placed{}, Unschedulable: []Unplaced{}, Nodes: []Node{}}
	for _, m := range o.Moves {
		a.Placements = append(a.Placements, Placed{Subject{m.Pod.Namespace, m.Pod.Name, m.Origin, m.From}, m.Node})
	}
	for _, u := range o.Unfit {
		a.Unschedulable = append(a.Unschedulable, Unplaced{Subject{u.Pod.Namespace, u.Pod.Name, u.Origin, u.From}, u.Message, HintsOf(u.Hints)})
		a.Fits = a.Fits && u.Origin == scheduling.Waited
	}
	for _, p := range o.Preemptions {
		one := Preempted{Node: p.Node, For: keyOf(p.Pod)}
		for _, v := range p.Victims {
			one.Victims = append(one.Victims, keyOf(v))
		}
		a.Preempted = append(a.Preempted, one)
	}
	for _, p := range o.Unasked {
		a.Unasked = append(a.Unasked, Unasked{p.Namespace, p.Name, whyUnasked(p)})
	}
	for _, h := range o.Held {
		a.Unasked = append(a.Unasked, Unasked{h.Pod.Namespace, h.Pod.Name, "it waits for its claims: " + h.Reason})
	}
	for _, p := range o.Lost {
		a.Lost = append(a.Lost, keyOf(p))
	}
	for _, n := range o.Nodes {
		a.Nodes = append(a.Nodes, Node{n.Node, n.Added, n.Removed, Usage(n.CPU), Usage(n.Memory), Usage(n.Pods)})
	}
	return a
}

func keyOf(p *corev1.Pod) string { return p.Namespace + "/" + p.Name }

func whyUnasked(p *corev1.Pod) string {
	if p.Spec.NodeName != "" {
		return "spec.nodeName has it on " + p.Spec.NodeName + " already"
	}
	if why := whyAside(p); why != "" {
		return why
	}
	return "it is for another scheduler, " + p.Spec.SchedulerName
}

// whyAside is why nobody looks for a node for a pod, whatever the scheduler; empty if somebody does.
func whyAside(p *corev1.Pod) string {
	switch {
	case len(p.Spec.SchedulingGates) > 0:
		return "the scheduling gate " + p.Spec.SchedulingGates[0].Name + " holds it"
	case p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed:
		return "it has run to its end"
	case p.DeletionTimestamp != nil:
		return "it is being deleted"
	}
	return ""
}
