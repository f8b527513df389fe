package local

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/tests/upstream/process"
)

const (
	// startTimeout bounds a start; the rest of what it needs is for busy machines.
	startTimeout = time.Minute
	// stopGrace is what the server has to end after being asked.
	stopGrace = 15 * time.Second
)

// Options of a server.
type Options struct {
	// Dir gets the data (Dir/data), the kubeconfig and the log. What is there is kept.
	Dir string
	// Nodes is the number of simulated nodes.
	Nodes int
	// Arguments are added to the command.
	Arguments []string
}

// Server is a `zeroplane serve` that runs.
type Server struct {
	Options
	// Kubeconfig is the file of the default cluster's admin, Config and Client what it says.
	Kubeconfig string
	Config     *rest.Config
	Client     *kubernetes.Clientset
	PID        int

	process *process.Process
}

// Start starts a server on a free port and returns when it answers its admin. It ends with the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{Options: o, Kubeconfig: filepath.Join(o.Dir, "kubeconfig")}
	// A file of the run before would name that run's port.
	if err := os.Remove(s.Kubeconfig); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	arguments := append([]string{
		"serve", "--listen=127.0.0.1:0", "--data=" + DataDir(o.Dir), "--kubeconfig=" + s.Kubeconfig,
		"--simulate-nodes=" + strconv.Itoa(o.Nodes),
	}, o.Arguments...)
	p, err := process.Start(binary(t), arguments, filepath.Join(o.Dir, "zeroplane.log"))
	if err != nil {
		t.Fatal(err)
	}
	s.process, s.PID = p, p.PID
	t.Cleanup(func() {
		if err := p.Stop(stopGrace); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(o.Dir, "zeroplane.log"))
			t.Logf("log of the server:\n%s", log)
		}
	})
	Eventually(t, startTimeout, "the server to be ready", func() error {
		if err := p.Failure(); err != nil {
			t.Fatalf("zeroplane %v", err)
		}
		return s.connect()
	})
	return s
}

// DataDir is where a server of a directory keeps its data.
func DataDir(dir string) string { return filepath.Join(dir, "data") }

func (s *Server) connect() (err error) {
	if s.Config, err = clientcmd.BuildConfigFromFlags("", s.Kubeconfig); err != nil {
		return err
	}
	s.Config.QPS = -1
	if s.Client, err = kubernetes.NewForConfig(s.Config); err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(s.Config)
	if err != nil {
		return err
	}
	response, err := client.Get(s.Config.Host + "/readyz")
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz answers %s", response.Status)
	}
	return nil
}

// Kill ends the server as a crash does.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := s.process.Kill(); err != nil {
		t.Fatal(err)
	}
}

// Stop ends the server as Ctrl-C does, and fails the test when it does not end by itself and well.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.process.Stop(stopGrace); err != nil {
		t.Fatal(err)
	}
	if code := s.process.ExitCode(); code != 0 {
		t.Fatalf("the stopped server exits with %d: %v", code, s.process.Failure())
	}
}

// Again starts a server on the same data.
func (s *Server) Again(t testing.TB) *Server {
	t.Helper()
	return Start(t, s.Options)
}

// WaitForNodes waits until the simulated nodes are Ready and without a taint.
func (s *Server) WaitForNodes(t testing.TB) {
	t.Helper()
	Eventually(t, startTimeout, "the simulated nodes", func() error {
		nodes, err := s.Client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		ready := 0
		for i := range nodes.Items {
			if c := NodeReady(&nodes.Items[i]); c.Status == corev1.ConditionTrue && len(nodes.Items[i].Spec.Taints) == 0 {
				ready++
			}
		}
		if ready != s.Nodes {
			return fmt.Errorf("%d of %d nodes are schedulable", ready, s.Nodes)
		}
		return nil
	})
}

// NodeReady is the condition Ready of a node.
func NodeReady(node *corev1.Node) corev1.NodeCondition {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c
		}
	}
	return corev1.NodeCondition{}
}

// PodReady reports whether a pod is Running and Ready.
func PodReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && pod.Status.Phase == corev1.PodRunning
		}
	}
	return false
}

// ResidentMegabytes is the resident memory of the server.
func (s *Server) ResidentMegabytes(t testing.TB) float64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	fields := strings.Fields(after)
	if len(fields) == 0 {
		t.Fatalf("process %d has no VmRSS", s.PID)
	}
	kilobytes, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes / 1024
}

// Goroutines is the number of goroutines of the server, by its metrics.
func (s *Server) Goroutines(t testing.TB) int {
	t.Helper()
	metrics, err := s.Client.RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(metrics)) {
		if value, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no go_goroutines in /metrics")
	return 0
}
