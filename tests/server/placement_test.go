package server_test

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/functions/localhost"
	"github.com/zeroplane/zeroplane/tests/local"
)

// TestPlacementIsExplained for a pod that fits one node, and for one that fits none.
func TestPlacementIsExplained(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: 2})
	s.WaitForNodes(t)
	_, err := s.Client.CoreV1().Nodes().Patch(t.Context(), "node-1", types.MergePatchType, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Client, "small", func(*corev1.Pod) {})
	run(t, s.Client, "big", func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1000")}
	})
	becomes(t, s.Client, "small", func(p *corev1.Pod) bool { return p.Spec.NodeName == "node-0" })
	explain := func(arguments ...string) (p localhost.Placement) {
		got := local.Run(t, append([]string{"explain-placement", "-o", "json", "--kubeconfig=" + s.Kubeconfig}, arguments...)...)
		if err := json.Unmarshal([]byte(got.Stdout), &p); err != nil {
			t.Fatalf("%v: %+v", err, got)
		}
		return p
	}
	small := explain("small")
	if len(small.Nodes) != 2 || small.Node != "node-0" || small.Message != "" {
		t.Fatalf("%+v", small)
	}
	if n := small.Nodes[0]; n.Name != "node-0" || n.Rejected != "" || n.Scores["TaintToleration"] != 300 || n.Total <= 300 {
		t.Errorf("the best node is %+v", n)
	}
	if n := small.Nodes[1]; n.Name != "node-1" || n.Rejected != "NodeUnschedulable" || len(n.Scores) != 0 {
		t.Errorf("the cordoned node is %+v", n)
	}
	big := explain("pod/big", "-n", namespace)
	if big.Node != "" || !strings.Contains(big.Message, "1 Insufficient cpu, 1 node(s) were unschedulable") || big.Nodes[0].Rejected != "NodeResourcesFit" {
		t.Errorf("%+v", big)
	}
	table := local.Run(t, "explain-placement", "big", "--kubeconfig="+s.Kubeconfig)
	if !strings.Contains(table.Stdout, "REFUSED BY") || !strings.Contains(table.Stdout, "NodeResourcesFit: Insufficient cpu") {
		t.Errorf("the table is\n%s", table.Stdout)
	}
	if got := local.Run(t, "explain-placement", "none", "--kubeconfig="+s.Kubeconfig); got.Code == 0 || !strings.Contains(got.Stderr, `pods "none" not found`) {
		t.Errorf("of none: %+v", got)
	}
}
