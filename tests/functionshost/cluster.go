package functionshost

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/tests/azurite"
	"github.com/zeroplane/zeroplane/tests/upstream"
)

// sealBytes of the key that clusters' keys are sealed with.
const sealBytes = 32

// Cluster is the default cluster of a function app of zeroplane.
type Cluster struct {
	*Host
	// Kubeconfig is the path of a file with the admin's credential.
	Kubeconfig string
	Client     *kubernetes.Clientset

	stops []func()
}

// StartCluster starts zeroplane's function app on a new storage account, with so many nodes that cost nothing. Binary
// and Dir must be set.
func StartCluster(ctx context.Context, o Options, nodes int) (c *Cluster, err error) {
	c = &Cluster{}
	defer func() {
		if err != nil {
			c.Stop()
		}
	}()
	for _, s := range []struct {
		run func() (*azurite.Server, error)
		to  **azurite.Server
	}{{azurite.Run, &o.Tables}, {azurite.RunQueues, &o.Queues}} {
		server, err := s.run()
		if err != nil {
			return c, err
		}
		c.stops = append(c.stops, server.Stop)
		*s.to = server
	}
	root, err := upstream.Root()
	if err != nil {
		return c, err
	}
	o.App = filepath.Join(root, "functions")
	o.Environment = append(o.Environment, "ZEROPLANE_SEAL_KEY="+base64.StdEncoding.EncodeToString(make([]byte, sealBytes)))
	if c.Host, err = Start(o); err != nil {
		return c, err
	}
	c.stops = append(c.stops, c.Host.Stop)
	c.Kubeconfig = filepath.Join(o.Dir, "kubeconfig")
	cmd := exec.CommandContext(ctx, o.Binary, "host", "kubeconfig", "--out", c.Kubeconfig) //nolint:gosec // the binary under test
	cmd.Env = append(os.Environ(), c.Environment()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return c, fmt.Errorf("writing the kubeconfig: %w: %s", err, out)
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return c, err
	}
	config.QPS = -1
	if c.Client, err = kubernetes.NewForConfig(config); err != nil {
		return c, err
	}
	var errs []error
	for i := range nodes {
		node := kubelet.NewNode(fmt.Sprint("node-", i), i, kubelet.NodeOptions{Pods: podsPerNode, Now: time.Now()})
		_, err := c.Client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
		errs = append(errs, err)
	}
	return c, errors.Join(errs...)
}

// podsPerNode is as many as `zeroplane serve --simulate-nodes` lets a node take.
const podsPerNode = 256

// Stop ends everything.
func (c *Cluster) Stop() {
	for _, stop := range slices.Backward(c.stops) {
		stop()
	}
}
