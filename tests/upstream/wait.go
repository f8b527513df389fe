package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/tests/upstream/process"
)

// poll calls done until it says so, every pollInterval, and gives the last reason for waiting when ctx ends.
// It ends early when a component has ended.
func (c *Cluster) poll(ctx context.Context, what string, done func() error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		reason := done()
		if reason == nil {
			return nil
		}
		if err := c.failure(); err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w (%w)", what, ctx.Err(), reason)
		case <-ticker.C:
		}
	}
}

// failure says which component has ended, if any.
func (c *Cluster) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, p := range c.processes {
		if err := p.Failure(); err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
	}
	return nil
}

func (c *Cluster) waitForAPI(ctx context.Context, client kubernetes.Interface) error {
	return c.poll(ctx, "the API server", func() error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// waitForControllers waits for what the controllers of every namespace make, and for the scheduler's caches.
func (c *Cluster) waitForControllers(ctx context.Context, client kubernetes.Interface) error {
	err := c.poll(ctx, "the controllers", func() error {
		if _, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{}); err != nil {
			return err
		}
		_, err := client.CoreV1().ConfigMaps("default").Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		return err
	})
	if err != nil {
		return err
	}
	// The certificate is not for this client to judge: it asks a process that it started itself.
	probe := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // #nosec G402
	}}
	defer probe.CloseIdleConnections()
	return c.poll(ctx, "the scheduler", func() error {
		return process.Answers(ctx, probe, fmt.Sprintf("https://127.0.0.1:%d/readyz", c.ports.scheduler))
	})
}

func (c *Cluster) waitForNodes(ctx context.Context, client kubernetes.Interface) error {
	if c.options.Nodes == 0 {
		return nil
	}
	return c.poll(ctx, "the nodes", func() error {
		nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return err
		}
		ready := 0
		for i := range nodes.Items {
			if schedulable(&nodes.Items[i]) {
				ready++
			}
		}
		if ready < c.options.Nodes {
			return fmt.Errorf("%d of %d nodes are schedulable", ready, c.options.Nodes)
		}
		return nil
	})
}

// schedulable says whether a node is Ready and its taints of the time before are gone.
func schedulable(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue && len(node.Spec.Taints) == 0
		}
	}
	return false
}
