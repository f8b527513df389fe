// Package target gives tests the cluster they run against, zeroplane or upstream, by the environment:
//
//	(nothing)                             a new zeroplane: bin/zeroplane, built first, on new data
//	ZEROPLANE_TARGET=functions            a new function app of zeroplane in a stand-in for the Azure Functions host
//	                                      (package functionshost), with no instance left between any two calls
//	ZEROPLANE_TARGET=lambda               a new stack of zeroplane in a stand-in for AWS Lambda (package lambdahost), in the
//	                                      same way
//	ZEROPLANE_TARGET=upstream             a new upstream control plane (package upstream)
//	ZEROPLANE_TARGET=... KUBECONFIG=FILE  the running cluster that the file names
//
// A KUBECONFIG without ZEROPLANE_TARGET is ignored: tests create and delete, and the variable may be set
// for something dear.
package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/tests/functionshost"
	"github.com/zeroplane/zeroplane/tests/lambdahost"
	"github.com/zeroplane/zeroplane/tests/upstream"
	"github.com/zeroplane/zeroplane/tests/upstream/process"
)

// The targets, as ZEROPLANE_TARGET names them.
const (
	Zeroplane = "zeroplane"
	Upstream  = "upstream"
	Functions = "functions"
	Lambda    = "lambda"
)

const (
	// startTimeout bounds the start of zeroplane, which is asked to need 150 ms; the rest is for busy machines.
	startTimeout = time.Minute
	// stopGrace is what zeroplane has to end after being asked.
	stopGrace = 10 * time.Second
	// pollInterval is the pause between two looks at a server that starts.
	pollInterval = 5 * time.Millisecond
)

// Cluster is a cluster under test.
type Cluster struct {
	// Name is Zeroplane or Upstream.
	Name string
	// Kubeconfig is the path of a file with an admin credential.
	Kubeconfig string

	stop func() error
}

// Start gives the cluster that the environment asks for, with so many Ready nodes if it is new.
func Start(ctx context.Context, nodes int) (*Cluster, error) {
	name := os.Getenv("ZEROPLANE_TARGET")
	kubeconfig := os.Getenv("KUBECONFIG")
	switch {
	case name != "" && name != Zeroplane && name != Upstream && name != Functions && name != Lambda:
		return nil, fmt.Errorf("ZEROPLANE_TARGET is %q, want %s, %s, %s or %s", name, Zeroplane, Functions, Lambda, Upstream)
	case name != "" && kubeconfig != "":
		return &Cluster{Name: name, Kubeconfig: kubeconfig, stop: func() error { return nil }}, nil
	case name == Upstream:
		c, err := upstream.Start(ctx, upstream.Options{Nodes: nodes})
		if err != nil {
			return nil, err
		}
		return &Cluster{Name: Upstream, Kubeconfig: c.Kubeconfig, stop: c.Stop}, nil
	case name == Functions:
		return startHosted(ctx, func(binary, dir string) (hostedCluster, string, error) {
			c, err := functionshost.StartCluster(ctx, functionshost.Options{Binary: binary, Dir: dir, Idle: hostedIdle}, nodes)
			return c, c.Kubeconfig, err
		})
	case name == Lambda:
		return startHosted(ctx, func(binary, dir string) (hostedCluster, string, error) {
			c, err := lambdahost.StartCluster(ctx, lambdahost.Options{Binary: binary, Dir: dir, Idle: lambdaIdle, Timeout: lambdaTimeout}, nodes)
			return c, c.Kubeconfig, err
		})
	default:
		return startNew(ctx, nodes)
	}
}

// startNew builds and starts zeroplane on new data.
func startNew(ctx context.Context, nodes int) (*Cluster, error) {
	binary, err := Build(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "zeroplane-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for zeroplane: %w", err)
	}
	s, err := StartServer(ctx, ServerOptions{Binary: binary, Dir: dir, Nodes: nodes})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := s.WaitForNodes(ctx); err != nil {
		return nil, errors.Join(err, s.Stop(), os.RemoveAll(dir))
	}
	return &Cluster{Name: Zeroplane, Kubeconfig: s.Kubeconfig, stop: func() error {
		return errors.Join(s.Stop(), os.RemoveAll(dir))
	}}, nil
}

// hostedIdle is how long an instance lives on without a call: less than from one kubectl to the next.
const hostedIdle = 5 * time.Millisecond

// lambdaIdle is the same where an instance has one request at a time: one kubectl makes several, one after the other, and
// no more than one of them should find nothing running.
const lambdaIdle = 50 * time.Millisecond

// lambdaTimeout ends what clients left behind sooner than the stack's template does: a watch goes on without its client.
const lambdaTimeout = time.Minute

// hostedCluster is one in a stand-in for a host of functions.
type hostedCluster interface{ Stop() }

// startHosted builds zeroplane and starts it in a stand-in, which returns its kubeconfig's path.
func startHosted(ctx context.Context, start func(binary, dir string) (hostedCluster, string, error)) (*Cluster, error) {
	binary, err := Build(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "zeroplane-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for zeroplane: %w", err)
	}
	c, kubeconfig, err := start(binary, dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &Cluster{Name: Zeroplane, Kubeconfig: kubeconfig, stop: func() error {
		c.Stop()
		return os.RemoveAll(dir)
	}}, nil
}

// Stop ends a cluster that Start made; one that was running before is left alone.
func (c *Cluster) Stop() error {
	return c.stop()
}

// RESTConfig is an admin's client configuration without client-side limits.
func (c *Cluster) RESTConfig() (*rest.Config, error) {
	return restConfig(c.Kubeconfig)
}

func restConfig(kubeconfig string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", kubeconfig, err)
	}
	config.QPS = -1
	return config, nil
}

// Build builds bin/zeroplane, which takes no time when it is built, and gives its path; ZEROPLANE_BIN names
// a binary to take instead.
func Build(ctx context.Context) (string, error) {
	if binary := os.Getenv("ZEROPLANE_BIN"); binary != "" {
		return binary, nil
	}
	root, err := upstream.Root()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(root, "bin", "zeroplane")
	build := exec.CommandContext(ctx, "make", "--no-print-directory", "build") // as people get it, stripped
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building zeroplane: %w\n%s", err, output)
	}
	return binary, nil
}

// ServerOptions says how to start `zeroplane serve`.
type ServerOptions struct {
	// Binary is the path of zeroplane.
	Binary string
	// Dir gets the data (Dir/data, kept), the kubeconfig and the log.
	Dir string
	// Nodes is the number of simulated nodes.
	Nodes int
	// Arguments are added to the command.
	Arguments []string
}

// Server is a running `zeroplane serve`.
type Server struct {
	// Kubeconfig is the path of a file with an admin credential for the default cluster.
	Kubeconfig string
	// PID is the process id.
	PID int
	// Started is the time just before the process was started.
	Started time.Time

	nodes   int
	process *process.Process
}

// StartServer starts `zeroplane serve` on a free port and returns when /readyz answers 200 to its kubeconfig.
func StartServer(ctx context.Context, options ServerOptions) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s := &Server{Kubeconfig: filepath.Join(options.Dir, "kubeconfig"), nodes: options.Nodes}
	// A file of the run before would name that run's port.
	if err := os.Remove(s.Kubeconfig); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	arguments := []string{
		"serve",
		"--listen=127.0.0.1:0",
		"--data=" + filepath.Join(options.Dir, "data"),
		"--kubeconfig=" + s.Kubeconfig,
		"--simulate-nodes=" + strconv.Itoa(options.Nodes),
	}
	s.Started = time.Now()
	p, err := process.Start(options.Binary, append(arguments, options.Arguments...), filepath.Join(options.Dir, "zeroplane.log"))
	if err != nil {
		return nil, err
	}
	s.process, s.PID = p, p.PID
	if err := s.poll(ctx, "zeroplane to be ready", func() error { return ready(ctx, s.Kubeconfig) }); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// Stop ends the server as Ctrl-C does.
func (s *Server) Stop() error {
	return s.process.Stop(stopGrace)
}

// WaitForNodes waits until every simulated node is Ready and untainted.
func (s *Server) WaitForNodes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	config, err := restConfig(s.Kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	return s.poll(ctx, "the simulated nodes", func() error {
		nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if n := countSchedulable(nodes.Items); n < s.nodes {
			return fmt.Errorf("%d of %d nodes are schedulable", n, s.nodes)
		}
		return nil
	})
}

func countSchedulable(nodes []corev1.Node) int {
	n := 0
	for i := range nodes {
		for _, condition := range nodes[i].Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue && len(nodes[i].Spec.Taints) == 0 {
				n++
			}
		}
	}
	return n
}

// ready asks /readyz with the credential of the kubeconfig, which may not be written yet.
func ready(ctx context.Context, kubeconfig string) error {
	config, err := restConfig(kubeconfig)
	if err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	return process.Answers(ctx, client, config.Host+"/readyz")
}

// poll calls done until it has no reason to wait, ctx ends, or the server does.
func (s *Server) poll(ctx context.Context, what string, done func() error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		reason := done()
		if reason == nil {
			return nil
		}
		if err := s.process.Failure(); err != nil {
			return fmt.Errorf("waiting for %s: zeroplane %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w (%w)", what, ctx.Err(), reason)
		case <-ticker.C:
		}
	}
}
