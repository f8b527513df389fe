package upstream

import (
	"os"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestAControlPlaneServesWithReadyNodesAndStopLeavesNothing needs the peers built (tests/peers/build.sh).
func TestAControlPlaneServesWithReadyNodesAndStopLeavesNothing(t *testing.T) {
	const nodes = 2
	c, err := Start(t.Context(), Options{Nodes: nodes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop() })
	client, err := c.client()
	if err != nil {
		t.Fatal(err)
	}
	list, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != nodes {
		t.Errorf("got %d nodes, want %d", len(list.Items), nodes)
	}
	pids := c.PIDs()
	if len(pids) != 5 {
		t.Errorf("got processes %v, want the four daemons and kwok", pids)
	}
	if err := c.Stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
	for name, pid := range pids {
		if err := syscall.Kill(pid, 0); err == nil {
			t.Errorf("%s (process %d) is still there", name, pid)
		}
	}
	if _, err := os.Stat(c.Dir); !os.IsNotExist(err) {
		t.Errorf("the folder %s is still there: %v", c.Dir, err)
	}
}
