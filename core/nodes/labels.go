package nodes

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

// elderLabels are the labels that had another name once, and follow the one that has the new name
// (labelReconcileInfo in pkg/controller/nodelifecycle/node_lifecycle_controller.go; the elder names are those of
// k8s.io/kubelet/pkg/apis).
var elderLabels = map[string]string{
	corev1.LabelOSStable:   "beta.kubernetes.io/os",
	corev1.LabelArchStable: "beta.kubernetes.io/arch",
}

// labelsOf are the labels that a node should have and has not, nil for none.
//
// Upstream: reconcileNodeLabels.
func labelsOf(node *corev1.Node) map[string]string {
	var out map[string]string
	for label, elder := range elderLabels {
		value, exists := node.Labels[label]
		if have, has := node.Labels[elder]; exists && (!has || have != value) {
			if out == nil {
				out = map[string]string{}
			}
			out[elder] = value
		}
	}
	return out
}

func labelWrite(node *corev1.Node, labels map[string]string) plan.Write {
	// Of plain strings, which always encode.
	body, _ := json.Marshal(map[string]any{"metadata": map[string]any{"uid": node.UID, "labels": labels}})
	return plan.Write{
		Verb: plan.Patch, Resource: plan.Nodes, Name: node.Name, UID: node.UID,
		PatchType: types.MergePatchType, PatchBody: body, Reason: "the node's labels of elder names follow the others",
	}
}
