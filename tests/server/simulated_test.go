package server_test

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/tests/local"
)

// TestNothingConnectsToASimulatedNode lets a simulated node have an address and a port at which somebody listens, as a
// host of somebody's network might, and runs what asks a kubelet for something: it is refused with the reason.
func TestNothingConnectsToASimulatedNode(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir()})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections atomic.Int64
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = c.Close()
		}
	}()
	defer func() { _ = listener.Close() }()
	node := kubelet.NewNode("sim", 0, kubelet.NodeOptions{})
	node.Status.Addresses[0].Address = "127.0.0.1"
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(listener.Addr().(*net.TCPAddr).Port) // #nosec G115 -- a port
	if _, err := s.Client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	local.Eventually(t, waitTimeout, "the ServiceAccount", func() error {
		_, err := s.Client.CoreV1().ServiceAccounts(namespace).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	run(t, s.Client, "p", func(p *corev1.Pod) { p.Spec.NodeName = "sim" })
	becomes(t, s.Client, "p", local.PodReady)

	const reason = `node "sim" is simulated and runs no containers: ` +
		"there are no logs, nothing to exec into or attach to, and no ports that answer"
	upgrade := "error: unable to upgrade connection: " + reason
	refused := "Error from server (BadRequest): " + reason
	for command, want := range map[string]string{
		"logs p":             refused,
		"exec p -- ls":       upgrade,
		"attach p":           upgrade,
		"port-forward p :80": "error: error upgrading connection: unable to upgrade connection: " + reason,
		"get --raw /api/v1/nodes/sim/proxy/metrics":            refused,
		"get --raw /api/v1/nodes/sim:80/proxy/":                refused,
		"get --raw /api/v1/namespaces/default/pods/p/proxy/":   refused,
		"get --raw /api/v1/namespaces/default/pods/p:1/proxy/": refused,
	} {
		got := local.Run(t, append([]string{"kubectl", "--kubeconfig", s.Kubeconfig}, strings.Fields(command)...)...)
		if lines := strings.Split(strings.TrimSpace(got.Stderr), "\n"); got.Code != 1 || lines[len(lines)-1] != want {
			t.Errorf("kubectl %s exits with %d and says %q, not %q", command, got.Code, got.Stderr, want)
		}
	}
	if n := connections.Load(); n > 0 {
		t.Errorf("%d connections were made", n)
	}

	// The same node would be connected to if it were real.
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}}}`, kubelet.Simulated)
	if _, err := s.Client.CoreV1().Nodes().Patch(t.Context(), "sim", "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := local.Run(t, "kubectl", "--kubeconfig", s.Kubeconfig, "logs", "p"); got.Code != 1 || connections.Load() == 0 {
		t.Errorf("from a node that is not simulated kubectl logs exits with %d after %d connections, and says %q", got.Code, connections.Load(), got.Stderr)
	}
}
