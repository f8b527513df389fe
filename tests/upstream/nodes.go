package upstream

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// What each node has.
const (
	NodeCPU    = "32"
	NodeMemory = "128Gi"
	NodePods   = "256"
)

// simulated is the annotation, "true", of the nodes that zeroplane simulates (docs/simulated-nodes.md).
const simulated = "zeroplane.dev/simulated"

// createNodes registers the nodes: node-0, node-1, ...
func createNodes(ctx context.Context, client kubernetes.Interface, options Options) error {
	for i := range options.Nodes {
		node := newNode(fmt.Sprintf("node-%d", i), options.PlainNodes)
		if options.Annotated {
			node.Annotations = map[string]string{simulated: "true"}
		}
		if _, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating node %s: %w", node.Name, err)
		}
	}
	return nil
}

// newNode is a node as a kubelet would register it, that says Ready itself when no kwok will.
func newNode(name string, ready bool) *corev1.Node {
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse(NodeCPU),
		corev1.ResourceMemory: resource.MustParse(NodeMemory),
		corev1.ResourcePods:   resource.MustParse(NodePods),
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelHostname:   name,
			corev1.LabelOSStable:   "linux",
			corev1.LabelArchStable: "amd64",
		}},
		Status: corev1.NodeStatus{Capacity: capacity, Allocatable: capacity.DeepCopy()},
	}
	if ready {
		now := metav1.Now()
		node.Status.Conditions = []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
			LastHeartbeatTime: now, LastTransitionTime: now,
		}}
	}
	return node
}
