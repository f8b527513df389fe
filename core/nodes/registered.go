package nodes

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Changed is what is done about a node because it has changed itself, other than Check, which looks at silent nodes too: [TTL], and
// people are told of a new one. Created is the node as it was created, nil if that was not now; count is how many nodes there are.
// Where it is not known what has changed, a node that is not [Annotated] may have been created.
//
// Nothing but memory tells upstream which nodes it has told of, so it does so once more whenever it is started. Here the
// first annotation of a new node tells: the notice goes with that write, and a change that is looked at again, after a crash or by another
// instance, finds it done. Only of a node that was created with the annotation may people be told twice then.
//
// Upstream: monitorNodeHealth in pkg/controller/nodelifecycle/node_lifecycle_controller.go.
func Changed(node, created *corev1.Node, count int) plan.Plan {
	p := TTL(node, count)
	if created == nil || created.UID != node.UID {
		return p
	}
	if Annotated(node) && !Annotated(created) {
		return p
	}
	notice := nodeNotice(node, "RegisteredNode", fmt.Sprintf("Registered Node %s in Controller", node.Name))
	if len(p.Writes) > 0 {
		p.Writes[0].OnSuccess = &notice
	} else {
		p.Notices = []plan.Notice{notice}
	}
	return p
}

// Annotated reports whether a node has what TTL writes.
func Annotated(node *corev1.Node) bool {
	_, ok := ttlOf(node)
	return ok
}

// Removed tells people of a node that is gone.
//
// Upstream: monitorNodeHealth in pkg/controller/nodelifecycle/node_lifecycle_controller.go.
func Removed(node *corev1.Node) plan.Plan {
	return plan.Plan{Notices: []plan.Notice{nodeNotice(node, "RemovingNode", fmt.Sprintf("Removing Node %s from Controller", node.Name))}}
}

// nodeNotice follows RecordNodeEvent in pkg/controller/util/node/controller_utils.go.
func nodeNotice(node *corev1.Node, reason, message string) plan.Notice {
	return plan.Notice{
		Regarding: corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: node.Name, UID: node.UID},
		Type:      corev1.EventTypeNormal, Reason: reason, Component: component,
		Message: fmt.Sprintf("Node %s event: %s", node.Name, message),
	}
}
