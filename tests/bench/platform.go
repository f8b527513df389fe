package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/tests/schedulerperf"
	"github.com/zeroplane/zeroplane/tests/upstream"
	"github.com/zeroplane/zeroplane/tests/upstream/process"
	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

const (
	// stopGrace is what a process has to end after being asked.
	stopGrace = 20 * time.Second
	// firstObjectTimeout bounds a cold start.
	firstObjectTimeout = time.Minute
	// firstObjectInterval is the pause between two tries to read the first object: a thirtieth of the
	// quickest start asked for, so that it hides nothing.
	firstObjectInterval = 2 * time.Millisecond
)

// cluster is a running control plane of either kind.
type cluster interface {
	kubeconfig() string
	// pids are the processes of the control plane.
	pids() []int
	stop() error
}

// platform is a kind of control plane.
type platform interface {
	name() string
	// start gives a new cluster with so many Ready nodes.
	start(ctx context.Context, nodes int) (cluster, error)
	// coldStarts makes a cluster, puts an object in it, and then so often stops what serves the API and
	// takes the time from exec until the object is read with the admin's credential.
	coldStarts(ctx context.Context, n int) ([]time.Duration, error)
	// openStore gives an empty storage of pods in this process.
	openStore(ctx context.Context) (*store, error)
	// schedulerPerf runs a workload of upstream's scheduler_perf, whose definitions are below root, on a new cluster;
	// createOnly has nobody schedule the pods that are measured, and is zeroplane's alone.
	schedulerPerf(ctx context.Context, root string, w *schedulerperf.Workload, createOnly bool) (schedulerperf.Throughput, error)
}

type upstreamPlatform struct {
	binaries string
	kwok     bool
}

func (p *upstreamPlatform) name() string { return target.Upstream }

type upstreamCluster struct{ *upstream.Cluster }

func (c upstreamCluster) kubeconfig() string { return c.Kubeconfig }
func (c upstreamCluster) pids() []int        { return c.DaemonPIDs() }
func (c upstreamCluster) stop() error        { return c.Stop() }

func (p *upstreamPlatform) start(ctx context.Context, nodes int) (cluster, error) {
	c, err := upstream.Start(ctx, upstream.Options{Binaries: p.binaries, Nodes: nodes, PlainNodes: !p.kwok})
	if err != nil {
		return nil, err
	}
	return upstreamCluster{c}, nil
}

// coldStarts keeps etcd running: only kube-apiserver is started.
func (p *upstreamPlatform) coldStarts(ctx context.Context, n int) (took []time.Duration, err error) {
	c, err := upstream.Start(ctx, upstream.Options{Binaries: p.binaries, APIOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	if err := createProbe(ctx, c.Kubeconfig); err != nil {
		return nil, err
	}
	for range n {
		if err := c.StopComponent(upstream.APIServer); err != nil {
			return nil, err
		}
		start := time.Now()
		if err := c.StartComponent(upstream.APIServer); err != nil {
			return nil, err
		}
		if err := waitForProbe(ctx, c.Kubeconfig); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}

type zeroplanePlatform struct{ binary string }

func (p *zeroplanePlatform) name() string { return target.Zeroplane }

type zeroplaneCluster struct {
	*target.Server
	dir string
}

func (c zeroplaneCluster) kubeconfig() string { return c.Kubeconfig }
func (c zeroplaneCluster) pids() []int        { return []int{c.PID} }
func (c zeroplaneCluster) stop() error        { return errors.Join(c.Stop(), os.RemoveAll(c.dir)) }

func (p *zeroplanePlatform) start(ctx context.Context, nodes int) (cluster, error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	s, err := target.StartServer(ctx, target.ServerOptions{Binary: p.binary, Dir: dir, Nodes: nodes})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	c := zeroplaneCluster{s, dir}
	if err := s.WaitForNodes(ctx); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// coldStarts starts on existing data, each time on the same port.
func (p *zeroplanePlatform) coldStarts(ctx context.Context, n int) (took []time.Duration, err error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	arguments := []string{
		"serve", "--listen=127.0.0.1:" + strconv.Itoa(port), "--data=" + filepath.Join(dir, "data"),
		"--kubeconfig=" + kubeconfig,
	}
	// The first start makes the cluster and the object; the others are measured.
	for i := range n + 1 {
		start := time.Now()
		server, err := process.Start(p.binary, arguments, filepath.Join(dir, "zeroplane.log"))
		if err != nil {
			return nil, err
		}
		if i == 0 {
			err = createProbe(ctx, kubeconfig)
		} else {
			err = waitForProbe(ctx, kubeconfig)
			took = append(took, time.Since(start))
		}
		if err != nil {
			return nil, errors.Join(err, server.Failure(), server.Stop(stopGrace))
		}
		if err := server.Stop(stopGrace); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// probePath is the object that a cold start is over with.
const probePath = "/api/v1/namespaces/default/configmaps/probe"

// createProbe makes the object as soon as the server lets it.
func createProbe(ctx context.Context, kubeconfig string) error {
	const body = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"probe"},"data":{"k":"v"}}`
	return untilServed(ctx, kubeconfig, func(ctx context.Context, client *rest.RESTClient) error {
		return client.Post().AbsPath(filepath.Dir(probePath)).
			SetHeader("Content-Type", "application/json").Body([]byte(body)).Do(ctx).Error()
	})
}

// waitForProbe reads the object as soon as the server lets it.
func waitForProbe(ctx context.Context, kubeconfig string) error {
	return untilServed(ctx, kubeconfig, func(ctx context.Context, client *rest.RESTClient) error {
		return client.Get().AbsPath(probePath).Do(ctx).Error()
	})
}

// untilServed repeats a call until it succeeds. The kubeconfig is read again when it has changed.
func untilServed(ctx context.Context, kubeconfig string, call func(context.Context, *rest.RESTClient) error) error {
	ctx, cancel := context.WithTimeout(ctx, firstObjectTimeout)
	defer cancel()
	ticker := time.NewTicker(firstObjectInterval)
	defer ticker.Stop()
	var client *rest.RESTClient
	var read time.Time
	for {
		info, err := os.Stat(kubeconfig)
		if err == nil && !info.ModTime().Equal(read) {
			read = info.ModTime()
			client, err = probeClient(kubeconfig)
		}
		if err == nil && client != nil {
			if err = call(ctx, client); err == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the first object: %w (%w)", ctx.Err(), err)
		case <-ticker.C:
		}
	}
}

// probeClient is a client that retries nothing by itself.
func probeClient(kubeconfig string) (*rest.RESTClient, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return withoutRetryAfter{next} })
	return rest.UnversionedRESTClientFor(withCodec(config))
}

// withoutRetryAfter keeps client-go from sleeping whole seconds on "Retry-After: 1".
type withoutRetryAfter struct{ next http.RoundTripper }

func (t withoutRetryAfter) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(request)
	if err == nil {
		response.Header.Del("Retry-After")
	}
	return response, err
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
