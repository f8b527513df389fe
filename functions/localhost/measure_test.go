package localhost

import (
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/table"
	memorytable "github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/events"
)

// inside returns the default cluster, awake in a host, and its client.
func inside(t *testing.T, h *Host) (*awake, *kubernetes.Clientset) {
	t.Helper()
	a, err := h.clusters.get(t.Context(), cluster.Default)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.leave() })
	c, err := kubernetes.NewForConfig(a.server.ClientConfig(apiserver.System, "test"))
	if err != nil {
		t.Fatal(err)
	}
	return a, c
}

// autoscaled makes a Deployment that gets a replica for each 10 of a queue.
func autoscaled(t *testing.T, c *kubernetes.Clientset) {
	t.Helper()
	if _, err := c.AppsV1().Deployments("default").Create(t.Context(), webDeployment(1), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	a := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}, MaxReplicas: 10,
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
				Metric: autoscalingv2.MetricIdentifier{Name: "queue_length"},
				Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: resource.NewQuantity(10, resource.DecimalSI)},
			}}},
		},
	}
	if _, err := c.AutoscalingV2().HorizontalPodAutoscalers("default").Create(t.Context(), a, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// queue is an event that says how long the queue is.
func queue(length int64) events.Samples {
	return events.Samples{Cluster: cluster.Default, Reporter: "queues", Time: time.Now(), External: []events.ExternalSample{{
		Name: "queue_length", Window: events.Window{End: time.Now()}, Value: *resource.NewQuantity(length, resource.DecimalSI),
	}}}
}

func replicasOf(t *testing.T, c *kubernetes.Clientset) int32 {
	t.Helper()
	d, err := c.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return *d.Spec.Replicas
}

// marksAtOnce are the rows that say that there is work at once.
func marksAtOnce(t *testing.T, store table.Store) (out []string) {
	t.Helper()
	marks, err := dirtyMarks(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range marks {
		if m.wake.IsZero() {
			out = append(out, m.key)
		}
	}
	return out
}

func TestSamplesThatAQueueBringsAreActedOnBeforeTheAnswer(t *testing.T) {
	store := memorytable.New()
	h := behind(t, store, 0)
	a, c := inside(t, h)
	autoscaled(t, c)
	if err := a.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Hear(t.Context(), queue(40).Event()); err != nil {
		t.Fatal(err)
	}
	if got := replicasOf(t, c); got != 4 {
		t.Errorf("%d replicas, want 4", got)
	}
	if marks := marksAtOnce(t, store); len(marks) > 0 {
		t.Errorf("work is left: %v", marks)
	}
}

func TestSamplesOutliveTheInstanceThatTookThem(t *testing.T) {
	store := memorytable.New()
	first := behind(t, store, 0)
	a, c := inside(t, first)
	autoscaled(t, c)
	if err := a.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.functions.Stop() // nothing is done in this process any more
	if err := a.measure(t.Context(), queue(30).Event(), queue(30)); err != nil {
		t.Fatal(err)
	}
	if got := replicasOf(t, c); got != 1 {
		t.Fatalf("%d replicas: the functions have not stopped", got)
	}
	if marks := marksAtOnce(t, store); len(marks) != 1 {
		t.Fatalf("rows that say there is work: %v", marks)
	}
	second := behind(t, store, 0)
	if err := second.Attend(t.Context(), time.Now().Add(takeOverAfter)); err != nil {
		t.Fatal(err)
	}
	_, c = inside(t, second)
	if got := replicasOf(t, c); got != 3 {
		t.Errorf("another instance makes it %d replicas, want 3", got)
	}
}

func TestSamplesThatNobodyReadsMarkNothing(t *testing.T) {
	store := memorytable.New()
	h := behind(t, store, 0)
	a, _ := inside(t, h)
	if err := a.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if err := a.measure(t.Context(), queue(int64(i)).Event(), queue(int64(i))); err != nil {
			t.Fatal(err)
		}
		if marks := marksAtOnce(t, store); len(marks) > 0 || a.functions.Busy() {
			t.Fatalf("something is to be done: %v", marks)
		}
	}
}
