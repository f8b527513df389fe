package autoscaling_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/tests/local"
)

// web is a Deployment whose pods request 200m. On simulated nodes they use nothing but what is said of them.
const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: nginx, resources: {requests: {cpu: 200m}}}]}
`

// autoscaler takes any step at once. Its metric follows.
const autoscaler = `
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 1
  maxReplicas: 10
  behavior:
    scaleUp: {stabilizationWindowSeconds: 0, policies: [{type: Percent, value: 1000, periodSeconds: 1}]}
    scaleDown: {stabilizationWindowSeconds: 0, policies: [{type: Percent, value: 100, periodSeconds: 1}]}
  metrics:
`

// interval is how often an agent reports.
const interval = time.Second

// follow posts each load of a curve until the Deployment has the replicas for it. A load is in units of which one
// replica takes one, and so is the number of replicas.
func (w *world) follow(t *testing.T, curve []int64, sample func(load int64, pods []string) events.Samples) {
	t.Helper()
	for _, want := range curve {
		began := time.Now()
		var reported time.Time
		local.Eventually(t, waitTimeout, fmt.Sprintf("%d replicas", want), func() error {
			pods, err := w.running(t)
			if err != nil {
				return err
			}
			if len(pods) > 0 && time.Since(reported) >= interval {
				reported = time.Now()
				if code, answer := w.send(t, sample(want, pods).Event()); code != http.StatusAccepted {
					return fmt.Errorf("the event is answered %d: %s", code, answer)
				}
			}
			out, _ := w.kubectl(t, "get", "deployment", "web", "-o", "jsonpath={.spec.replicas} {.status.readyReplicas}")
			if out != fmt.Sprintf("%d %d", want, want) {
				return fmt.Errorf("replicas asked for and ready: %s", out)
			}
			return nil
		})
		t.Logf("load %d: %d replicas after %v", want, want, time.Since(began).Round(100*time.Millisecond))
	}
	w.awaitOutput(t, []string{"New size: 10; reason: ", "New size: 1; reason: All metrics below target"},
		"get", "events", "--field-selector=involvedObject.kind=HorizontalPodAutoscaler,reason=SuccessfulRescale", "-o", "jsonpath={.items[*].message}")
}

// awaitOutput waits until what kubectl prints contains all that is wanted.
func (w *world) awaitOutput(t *testing.T, want []string, arguments ...string) {
	t.Helper()
	local.Eventually(t, waitTimeout, "kubectl "+strings.Join(arguments, " "), func() error {
		out, problem := w.kubectl(t, arguments...)
		for _, text := range want {
			if !strings.Contains(out, text) {
				return fmt.Errorf("it prints no %q:\n%s\n%s", text, out, problem)
			}
		}
		return nil
	})
}

// running are the names of the pods that run and are not going away.
func (w *world) running(t *testing.T) ([]string, error) {
	t.Helper()
	list, err := w.Client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		return nil, err
	}
	var out []string
	for i := range list.Items {
		if p := &list.Items[i]; p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
			out = append(out, p.Name)
		}
	}
	return out, nil
}

func TestALoadCurveOfPodsTakesADeploymentFromOneToTenAndBack(t *testing.T) {
	w := start(t)
	w.apply(t, web)
	w.apply(t, autoscaler+"  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}\n")
	sequence := uint64(0)
	sample := func(load int64, pods []string) events.Samples {
		sequence++
		return report(func(s *events.Samples) {
			s.Sequence = sequence
			for _, pod := range pods {
				s.Pods = append(s.Pods, ofPod(pod, 100*load/int64(len(pods))))
			}
		})
	}
	w.follow(t, []int64{1, 4, 10, 7, 3, 1}, sample)
	pods, err := w.running(t)
	if err != nil || len(pods) != 1 {
		t.Fatalf("running pods %v, %v", pods, err)
	}
	if code, answer := w.send(t, sample(1, pods).Event()); code != http.StatusAccepted {
		t.Fatalf("%d: %s", code, answer)
	}
	w.awaitOutput(t, []string{"cpu: 50%/50%"}, "get", "hpa", "web")
	if out, problem := w.kubectl(t, "top", "pods", "-l", "app=web"); !strings.Contains(out, "100m") || problem != "" {
		t.Errorf("kubectl top pods prints\n%s\n%s", out, problem)
	}
}

func TestALoadCurveOfAnExternalMetricDoesSoToo(t *testing.T) {
	w := start(t)
	w.apply(t, web)
	w.apply(t, autoscaler+"  - {type: External, external: {metric: {name: queue_length, selector: {matchLabels: {queue: orders}}}, target: {type: AverageValue, averageValue: '30'}}}\n")
	w.follow(t, []int64{1, 10, 1}, func(load int64, _ []string) events.Samples {
		return report(func(s *events.Samples) {
			s.External = []events.ExternalSample{{
				Namespace: namespace, Name: "queue_length", Labels: map[string]string{"queue": "orders"},
				Window: events.Window{End: time.Now()}, Value: resource.MustParse(strconv.FormatInt(30*load, 10)),
			}}
		})
	})
	w.awaitOutput(t, []string{"30/30 (avg)"}, "get", "hpa", "web")
}
