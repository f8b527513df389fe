package functionshost_test

import (
	"context"
	"os"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/tests/functionshost"
	"github.com/zeroplane/zeroplane/tests/hosted"
	"github.com/zeroplane/zeroplane/tests/local"
	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

const patience = time.Minute

// start starts a function app of zeroplane with nodes that cost nothing.
func start(t *testing.T, o functionshost.Options) *functionshost.Cluster {
	t.Helper()
	binary, err := target.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o.Binary, o.Dir = binary, t.TempDir()
	c, err := functionshost.StartCluster(t.Context(), o, 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	t.Cleanup(func() { hosted.ShowLogs(t, o.Dir) })
	return c
}

// scaleToZero ends every instance.
func scaleToZero(t *testing.T, h *functionshost.Cluster) {
	t.Helper()
	local.Eventually(t, patience, "no instance is left", func() error {
		if !h.ScaleToZero() {
			return context.DeadlineExceeded
		}
		return nil
	})
}

// TestWhatAnInstanceLeftIsDoneWithoutARequest makes a Deployment, kills the instance at once, and makes no request:
// the bell in the queue, or the timer, has the rollout go on.
func TestWhatAnInstanceLeftIsDoneWithoutARequest(t *testing.T) {
	h := start(t, functionshost.Options{Kill: true})
	c := h.Client
	ctx := t.Context()
	if _, err := c.AppsV1().Deployments("default").Create(ctx, hosted.Deployment(5), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	scaleToZero(t, h)
	before := h.Calls()["http"]
	local.Eventually(t, 2*patience, "the bell is heard", func() error {
		if h.Calls()["bells"] == 0 {
			return context.DeadlineExceeded
		}
		return nil
	})
	scaleToZero(t, h)
	if h.Calls()["http"] != before {
		t.Fatal("a request was made")
	}
	d, err := c.AppsV1().Deployments("default").Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if d.Status.ReadyReplicas != 5 {
		t.Errorf("%d of 5 replicas are ready", d.Status.ReadyReplicas)
	}
	t.Logf("calls: %v", h.Calls())
}

// TestKubectlIsServedFromZero runs scenarios of tests/kubectl through the host, which ends every instance between any
// two calls. The long form runs all of them.
func TestKubectlIsServedFromZero(t *testing.T) {
	scenarios := "TestKubectl/together/scale"
	if os.Getenv("ZEROPLANE_LONG") != "" {
		scenarios = "TestKubectl"
	}
	hosted.RunKubectl(t, target.Functions, scenarios, "TestKubectl/together/scale")
}
