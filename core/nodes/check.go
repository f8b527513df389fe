package nodes

import (
	"encoding/json"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

const component = "node-controller"

// ExpiryKind is the kind of the plan.Later at which a node's grace period will be over.
const ExpiryKind = "expiry"

// Input is a node, what is known of it, and the pods that are bound to it.
type Input struct {
	Name string
	// Node is nil if it does not exist.
	Node *corev1.Node
	// Lease is the node's lease in kube-node-lease, nil if there is none.
	Lease *coordinationv1.Lease
	Pods  []*corev1.Pod
	// Expiry is what Check put off for the node and has not been called for, or is called for now; its time is zero
	// if there is none.
	Expiry plan.Later
	// QuarantineOver says that the moment has come that Collect asked for with QuarantineKind.
	QuarantineOver bool
	Now            time.Time
}

// Check decides whether the node is lost, and makes its conditions, its taints and the readiness of its
// pods say so. A node that is well again loses its taints; its pods are their kubelet's to mark ready.
//
// Upstream: monitorNodeHealth in pkg/controller/nodelifecycle/node_lifecycle_controller.go.
func Check(in Input) plan.Plan {
	if in.Node == nil || in.Node.DeletionTimestamp != nil {
		return plan.Plan{}
	}
	// A time is stored in whole seconds.
	stored := in.Now.UTC().Truncate(time.Second)
	p := plan.Plan{Reads: []plan.Read{{Resource: plan.Nodes, Name: in.Node.Name}}}
	node := in.Node.DeepCopy()

	// 1. Conditions.
	health := healthOf(node, in.Lease)
	p.Merge(listen(in, health, node))

	// 2. Taints and labels.
	if taints, changed := taintsOf(node, stored); changed {
		p.Writes = append(p.Writes, taintWrite(node, taints))
	}
	if labels := labelsOf(node); labels != nil {
		p.Writes = append(p.Writes, labelWrite(node, labels))
	}

	// 3. Pods. Those of a simulated node that was started again are left to its kubelet, which is about
	// to say that the node is ready.
	if ready := condition(node, corev1.NodeReady); ready != nil && ready.Status != corev1.ConditionTrue && !health.unlimited {
		p.Merge(markNotReady(node.Name, in.Pods, stored))
	}
	if p.Empty() {
		return plan.Plan{}
	}
	return p
}

// listen makes the node say that nobody hears of it, or puts off the moment at which it will have to.
func listen(in Input, health health, node *corev1.Node) plan.Plan {
	if !health.expired(in.Now) {
		if health.unlimited {
			return plan.Plan{}
		}
		return plan.Plan{Later: []plan.Later{{At: health.last.Add(health.grace), Kind: ExpiryKind, Subject: Expiry(node)}}}
	}
	var p plan.Plan
	if later, granted := respite(in); granted {
		if !later.At.IsZero() {
			p.Later = append(p.Later, later)
		}
		return p
	}
	wasReady := isReady(node)
	if silence(node, in.Now.UTC().Truncate(time.Second)) {
		p.Writes = append(p.Writes, plan.Write{
			Verb: plan.UpdateStatus, Resource: plan.Nodes, Name: node.Name, Object: node.DeepCopy(),
			UID: node.UID, ResourceVersion: node.ResourceVersion, Reason: "the node is silent",
		})
		if wasReady {
			p.Notices = append(p.Notices, lostNotice(node))
		}
	}
	return p
}

func isReady(node *corev1.Node) bool {
	ready := condition(node, corev1.NodeReady)
	return ready != nil && ready.Status == corev1.ConditionTrue
}

// lostNotice follows RecordNodeStatusChange in pkg/controller/util/node/controller_utils.go.
func lostNotice(node *corev1.Node) plan.Notice {
	return plan.Notice{
		Regarding: corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: node.Name, UID: node.UID},
		Type:      corev1.EventTypeNormal, Reason: "NodeNotReady", Component: component,
		Message: fmt.Sprintf("Node %s status is now: NodeNotReady", node.Name),
	}
}

// taintWrite replaces the node's taints by a patch, since the same plan may have written its status
// and so moved its version. The read set holds the node, and the patch its UID.
func taintWrite(node *corev1.Node, taints []corev1.Taint) plan.Write {
	if taints == nil {
		taints = []corev1.Taint{}
	}
	// Of plain strings and times, which always encode.
	body, _ := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": node.UID},
		"spec":     map[string]any{"taints": taints},
	})
	return plan.Write{
		Verb: plan.Patch, Resource: plan.Nodes, Name: node.Name, UID: node.UID,
		PatchType: types.MergePatchType, PatchBody: body, Reason: "the node's taints follow its conditions",
	}
}

// markNotReady makes the pods of a node that is not ready say that they are not ready either.
//
// Upstream: MarkPodsNotReady in pkg/controller/util/node/controller_utils.go.
func markNotReady(nodeName string, pods []*corev1.Pod, now time.Time) plan.Plan {
	var p plan.Plan
	for _, pod := range pods {
		at := -1
		for i := range pod.Status.Conditions {
			if pod.Status.Conditions[i].Type == corev1.PodReady {
				at = i
			}
		}
		if pod.Spec.NodeName != nodeName || at < 0 || pod.Status.Conditions[at].Status == corev1.ConditionFalse {
			continue
		}
		changed := pod.DeepCopy()
		changed.Status.Conditions[at].Status = corev1.ConditionFalse
		changed.Status.Conditions[at].LastTransitionTime = metav1.NewTime(now)
		p.Writes = append(p.Writes, statusWrite(changed, "the pod's node is not ready"))
		p.Notices = append(p.Notices, podNotice(pod, corev1.EventTypeWarning, "NodeNotReady", "Node is not ready", component))
	}
	return p
}

func statusWrite(pod *corev1.Pod, reason string) plan.Write {
	return plan.Write{
		Verb: plan.UpdateStatus, Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name, Object: pod,
		UID: pod.UID, ResourceVersion: pod.ResourceVersion, Reason: reason,
	}
}

func podNotice(pod *corev1.Pod, kind, reason, message, reporter string) plan.Notice {
	return plan.Notice{
		Regarding: corev1.ObjectReference{
			Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		},
		Type: kind, Reason: reason, Message: message, Component: reporter,
	}
}
