package kubectl_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// coldCommandTimeout ends a command that hangs where each of its requests may start a server.
	coldCommandTimeout = 3 * time.Minute
	// eventuallyTimeout is what a cluster has to come to the state that a step waits for.
	eventuallyTimeout = 40 * time.Second
	// eventuallyInterval is the pause between two looks.
	eventuallyInterval = 200 * time.Millisecond
	// settleTime is how long an output must stay the same to be written down by -rewrite when it is not
	// the expected one.
	settleTime = 8 * time.Second
)

// commandTimeout ends a command that hangs.
var commandTimeout = 60 * time.Second

// scenario is one file being run in a namespace of its own, named after the file.
type scenario struct {
	namespace  string
	dir        string
	kubeconfig string
	config     *rest.Config
	normalize  *normalizer
	environ    []string
}

func runScenario(t *testing.T, path string) {
	// Alone, a scenario can know where pods go.
	alone := filepath.Base(filepath.Dir(path)) == "alone"
	s := newScenario(t, strings.TrimSuffix(filepath.Base(path), ".txt"), alone)
	datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "run":
			return s.bash(t, d.Input)
		case "eventually":
			return eventually(d, func() string { return s.bash(t, d.Input) })
		case "http":
			if d.HasArg("eventually") {
				return eventually(d, func() string { return s.http(t, d) })
			}
			return s.http(t, d)
		default:
			d.Fatalf(t, "unknown command %q", d.Cmd)
			return ""
		}
	})
}

// newScenario makes the namespace, and a kubeconfig that points at it.
func newScenario(t *testing.T, name string, alone bool) *scenario {
	t.Helper()
	dir := t.TempDir()
	s := &scenario{namespace: name, dir: dir, kubeconfig: filepath.Join(dir, ".kubeconfig")}
	raw, err := clientcmd.LoadFromFile(shared.cluster.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := clientcmd.ResolveLocalPaths(raw); err != nil {
		t.Fatal(err)
	}
	raw.Contexts[raw.CurrentContext].Namespace = name
	if err := clientcmd.WriteToFile(*raw, s.kubeconfig); err != nil {
		t.Fatal(err)
	}
	if s.config, err = shared.cluster.RESTConfig(); err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(s.config)
	if err != nil {
		t.Fatal(err)
	}
	list, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	s.normalize = newNormalizer(s.config.Host, dir, names, alone)
	s.environ = s.environment(t, s.normalize.nodes)
	if output := s.bash(t, "kubectl create namespace $NS >/dev/null"); output != "" {
		t.Fatal(output)
	}
	t.Cleanup(func() {
		deadline, cancel := context.WithTimeout(context.Background(), commandTimeout)
		defer cancel()
		// A scenario may have deleted it as its last step.
		_ = client.CoreV1().Namespaces().Delete(deadline, name, metav1.DeleteOptions{})
	})
	return s
}

// environment is what the commands of a scenario see.
func (s *scenario) environment(t *testing.T, nodes []string) []string {
	t.Helper()
	testdata, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	environ := append(os.Environ(),
		"PATH="+shared.bin+string(os.PathListSeparator)+os.Getenv("PATH"),
		"HOME="+shared.home, "KUBECONFIG="+s.kubeconfig, "TMPDIR="+s.dir,
		"NS="+s.namespace, "TESTDATA="+testdata, "LC_ALL=C", "TZ=UTC",
	)
	for i, node := range nodes {
		environ = append(environ, fmt.Sprintf("NODE%d=%s", i, node))
	}
	return environ
}

// bash runs commands and gives their normalized standard output, standard error and exit code.
func (s *scenario) bash(t *testing.T, commands string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", commands) // #nosec G204 -- a scenario
	command.Dir, command.Env = s.dir, s.environ
	// What a hanging command started must end with it.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	var output strings.Builder
	output.WriteString(stdout.String())
	if stderr.Len() > 0 {
		endLine(&output)
		output.WriteString("stderr: " + stderr.String())
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		endLine(&output)
		fmt.Fprintf(&output, "killed after %v\n", commandTimeout)
	case errors.As(err, &exit):
		endLine(&output)
		fmt.Fprintf(&output, "exit code %d\n", exit.ExitCode())
	case err != nil:
		t.Fatal(err)
	}
	return s.normalize.text(output.String())
}

// endLine ends an unfinished line, as jsonpath output is.
func endLine(b *strings.Builder) {
	if s := b.String(); s != "" && !strings.HasSuffix(s, "\n") {
		b.WriteByte('\n')
	}
}

// eventually looks until the output is the expected one, and gives the last output when it is not in time.
// With -rewrite it also ends when an unexpected output has settled.
func eventually(d *datadriven.TestData, look func() string) string {
	ticker := time.NewTicker(eventuallyInterval)
	defer ticker.Stop()
	start := time.Now()
	last, since := "", start
	for {
		output := look()
		if output != last {
			last, since = output, time.Now()
		}
		switch {
		case output == d.Expected, time.Since(start) > eventuallyTimeout:
			return output
		case d.Rewrite && time.Since(since) > settleTime:
			return output
		}
		<-ticker.C
	}
}
