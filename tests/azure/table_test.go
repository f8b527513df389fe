package azure

import (
	"encoding/base64"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/tests/azurite"
	"github.com/zeroplane/zeroplane/tests/azurite/limits"
	"github.com/zeroplane/zeroplane/tests/local"
)

// patience is how long a test waits for what must come, on a machine that does much else.
const patience = 4 * time.Minute

// table starts Azurite behind a proxy, and has the servers that this test starts use it.
func table(t *testing.T, o limits.Options) *limits.Transport {
	t.Helper()
	server := azurite.Start(t)
	endpoint, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := limits.New(nil, o)
	proxy := httptest.NewServer(transport.Proxy(endpoint))
	t.Cleanup(proxy.Close)
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", azurite.ConnectionString(proxy.URL+endpoint.Path))
	t.Setenv("ZEROPLANE_SEAL_KEY", base64.StdEncoding.EncodeToString([]byte(strings.Repeat("s", 32))))
	return transport
}

// serve starts an instance with a directory of its own.
func serve(t *testing.T, nodes int) *local.Server {
	t.Helper()
	return local.Start(t, local.Options{Dir: t.TempDir(), Nodes: nodes, Arguments: []string{"--store=azure"}})
}

func deployment(replicas int32, image string) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(replicas), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}},
			},
		},
	}
}

// awaitRollout waits until a Deployment has its replicas, all of its newest template and ready.
func awaitRollout(t *testing.T, c *kubernetes.Clientset, replicas int32) {
	t.Helper()
	local.Eventually(t, patience, fmt.Sprintf("%d replicas", replicas), func() error {
		d, err := c.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatalf("a client got an error: %v", err)
		}
		s := d.Status
		if s.ObservedGeneration != d.Generation || s.Replicas != replicas || s.UpdatedReplicas != replicas || s.ReadyReplicas != replicas {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	pods, err := c.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	staying := 0
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.DeletionTimestamp != nil {
			continue // those that go take their grace
		}
		staying++
		if !local.PodReady(pod) || pod.Spec.NodeName == "" {
			t.Errorf("pod %s is not ready", pod.Name)
		}
	}
	if staying != int(replicas) {
		t.Errorf("%d pods for %d replicas", staying, replicas)
	}
}

// TestAThousandReplicasSettleAtTheServicesPace has 2,000 rows a second and partition, as the service.
func TestAThousandReplicasSettleAtTheServicesPace(t *testing.T) {
	const nodes, replicas = 100, 1000
	transport := table(t, limits.Options{})
	s := serve(t, nodes)
	s.WaitForNodes(t)
	before, began := transport.Counts(), time.Now()
	if _, err := s.Client.AppsV1().Deployments("default").Create(t.Context(), deployment(replicas, "nginx"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitRollout(t, s.Client, replicas)
	took, c := time.Since(began), transport.Counts()
	t.Logf("%d replicas on %d nodes in %s: %d transactions of %d rows, %d rows read, %d requests of which %d were throttled and sent again",
		replicas, nodes, took.Round(time.Millisecond), c.Transactions-before.Transactions, c.RowsWritten-before.RowsWritten,
		c.RowsRead-before.RowsRead, c.Requests-before.Requests, c.Throttled-before.Throttled)
	log, err := os.ReadFile(filepath.Join(s.Dir, "zeroplane.log"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log), "function failed") {
		t.Errorf("a function failed:\n%s", log)
	}
}

// TestARolloutGoesOnWithoutItsInstance kills one of two instances in the middle of a rollout, on a table that loses
// replies, and starts it again.
func TestARolloutGoesOnWithoutItsInstance(t *testing.T) {
	const replicas = 60
	transport := table(t, limits.Options{Seed: 1})
	first, second := serve(t, 5), serve(t, 5)
	second.WaitForNodes(t)
	transport.SetFaults(limits.Faults{
		ShortPages: 0.05, EmptyPages: 0.02, Busy: 0.02, FailedBefore: 0.01, FailedAfter: 0.01, ResetBefore: 0.01, LostReplies: 0.01,
	})
	if _, err := first.Client.AppsV1().Deployments("default").Create(t.Context(), deployment(replicas, "nginx:1"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitRollout(t, second.Client, replicas)
	patch := []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"nginx:2"}]}}}}`)
	if _, err := first.Client.AppsV1().Deployments("default").Patch(t.Context(), "web", types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	local.Eventually(t, patience, "some pods of the new template", func() error {
		d, err := second.Client.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if d.Status.UpdatedReplicas == 0 {
			return fmt.Errorf("%+v", d.Status)
		}
		return nil
	})
	first.Kill(t)
	first = first.Again(t)
	awaitRollout(t, second.Client, replicas)
	awaitRollout(t, first.Client, replicas)
}
