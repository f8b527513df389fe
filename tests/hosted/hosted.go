// Package hosted holds what the stand-ins for hosts of functions have in common: a front end with TLS, the table of the
// default cluster and its admin, logs of handlers.
package hosted

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/core/kubelet"
)

const (
	// sealBytes of the key that clusters' keys are sealed with.
	sealBytes = 32
	// podsPerNode is as many as `zeroplane serve --simulate-nodes` lets a node take.
	podsPerNode = 256
	// tailLines are the last lines of a log, shownLines those of a test that failed.
	tailLines, shownLines = 10, 30
)

// Front is a front end that ends TLS.
type Front struct {
	// Address is HOST:PORT, CAFile a file with the CA of its certificate.
	Address, CAFile string
	server          *httptest.Server
}

// StartFront starts a front end, whose CA it writes into a folder.
func StartFront(handler http.Handler, dir string) (*Front, error) {
	f := &Front{server: httptest.NewUnstartedServer(handler), CAFile: filepath.Join(dir, "front-ca.pem")}
	f.server.EnableHTTP2 = true
	f.server.StartTLS()
	f.Address = f.server.Listener.Addr().String()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.server.Certificate().Raw})
	return f, os.WriteFile(f.CAFile, ca, 0o600)
}

// Stop ends connections and waits for their handlers.
func (f *Front) Stop() {
	f.server.CloseClientConnections()
	f.server.Close()
}

// Environment says where clients reach the front end, and the key of the clusters' keys.
func (f *Front) Environment() []string {
	return []string{
		"ZEROPLANE_ADDRESS=" + f.Address, "ZEROPLANE_CA_FILE=" + f.CAFile,
		"ZEROPLANE_SEAL_KEY=" + base64.StdEncoding.EncodeToString(make([]byte, sealBytes)),
	}
}

// Admin is the admin of a default cluster.
type Admin struct {
	// Kubeconfig is the path of a file with the admin's credential.
	Kubeconfig string
	Client     *kubernetes.Clientset
}

// Enter makes the default cluster in the table that the environment of handlers names, and writes its kubeconfig into a
// folder.
func Enter(ctx context.Context, binary, dir string, environment []string) (a Admin, err error) {
	a.Kubeconfig = filepath.Join(dir, "kubeconfig")
	cmd := exec.CommandContext(ctx, binary, "host", "kubeconfig", "--out", a.Kubeconfig) //nolint:gosec // the binary under test
	cmd.Env = append(os.Environ(), environment...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return a, fmt.Errorf("writing the kubeconfig: %w: %s", err, out)
	}
	config, err := clientcmd.BuildConfigFromFlags("", a.Kubeconfig)
	if err != nil {
		return a, err
	}
	config.QPS = -1
	a.Client, err = kubernetes.NewForConfig(config)
	return a, err
}

// AddNodes makes nodes that cost nothing.
func (a Admin) AddNodes(ctx context.Context, n int) error {
	var errs []error
	for i := range n {
		node := kubelet.NewNode(fmt.Sprint("node-", i), i, kubelet.NodeOptions{Pods: podsPerNode, Now: time.Now()})
		_, err := a.Client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Stops are what ends the parts of a cluster, in the order of their starts.
type Stops []func()

// Stop ends everything, the last first.
func (s Stops) Stop() {
	for _, stop := range slices.Backward(s) {
		stop()
	}
}

// Tail returns the last lines of a log.
func Tail(file string) string { return lastLines(file, tailLines) }

func lastLines(file string, n int) string {
	b, err := os.ReadFile(file) //nolint:gosec // a log of this process
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(len(lines)-n, 0):], "\n")
}

// ShowLogs shows what the handlers of a failed test said.
func ShowLogs(t testing.TB, dir string) {
	if !t.Failed() {
		return
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Error(err)
	}
	for _, log := range logs {
		t.Logf("%s:\n%s", filepath.Base(log), lastLines(log, shownLines))
	}
}

// Deployment is one named web.
func Deployment(replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "nginx"}}},
			},
		},
	}
}

// RunKubectl runs scenarios of tests/kubectl, whose folder is given, against a target, and fails unless a scenario that
// must be among them passed.
func RunKubectl(t *testing.T, target, scenarios, must string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-vet=off", "-timeout=2h", "-run="+scenarios, "../kubectl") //nolint:gosec // of this repository
	cmd.Env = append(os.Environ(), "ZEROPLANE_TARGET="+target)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+must) {
		t.Errorf("%v\n%s", err, out)
	}
}
