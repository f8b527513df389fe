package metrics_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster/clustertest"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	keeper "github.com/zeroplane/zeroplane/adapters/samples"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/functions/consumer"
	"github.com/zeroplane/zeroplane/functions/metrics"
)

const (
	// waitLimit bounds every wait.
	waitLimit = 20 * time.Second
	namespace = metav1.NamespaceDefault
)

// fixture is a cluster in which only autoscalers are kept. Its clock is ahead of the machine's by what a test adds.
type fixture struct {
	*kubernetes.Clientset
	functions *consumer.Cluster
	samples   *keeper.Keeper
	store     table.Store
	logs      kubestorage.Logs
	partition string

	mu    sync.Mutex
	ahead time.Duration
}

func (f *fixture) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Add(f.ahead)
}

// pass lets time pass, and looks for what is due then.
func (f *fixture) pass(t *testing.T, d time.Duration) {
	t.Helper()
	f.mu.Lock()
	f.ahead += d
	f.mu.Unlock()
	if err := f.functions.Wake(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	c := clustertest.New(t)
	f := &fixture{store: c.Store, partition: kubestorage.Partition(c.Info.Partition(), keeper.Group)}
	f.logs = kubestorage.NewLogs(c.Store, c.Info.Partition(), func(group string) tablelog.Options {
		return tablelog.Options{SoleWriter: true, Committed: func(rev uint64, _ *tablelog.Cause) {
			if f.functions != nil {
				f.functions.Ring(events.Changed{Cluster: c.Info.Name, Group: group, Revision: rev, Time: time.Now()}.Event())
			}
		}}
	})
	server, err := c.Server(f.logs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	f.samples = keeper.New(keeper.Options{Store: c.Store, Partition: c.Info.Partition(), Logs: f.logs, Decoder: server.Decoder(), Now: f.now})
	f.functions = consumer.New(consumer.Options{
		Name: c.Info.Name, Partition: c.Info.Partition(), Store: c.Store, Logs: f.logs, API: server,
		Functions: []consumer.Function{metrics.Function(metrics.Options{Store: c.Store, Partition: c.Info.Partition(), Samples: f.samples})},
		Identity: func(component string) user.Info {
			if component == consumer.EventRecorder {
				return apiserver.System
			}
			return apiserver.ServiceAccount(component)
		},
		Now: f.now,
	})
	t.Cleanup(f.functions.Stop)
	if f.Clientset, err = kubernetes.NewForConfig(server.ClientConfig(apiserver.System, "test")); err != nil {
		t.Fatal(err)
	}
	return f
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": "web"}}
}

func template() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "nginx", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")},
		}}}},
	}
}

// deploy makes a Deployment with as many running pods on a node.
func (f *fixture) deploy(t *testing.T, replicas int32, annotations ...string) {
	t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Annotations: map[string]string{}}}
	if len(annotations) > 0 {
		node.Annotations[kubelet.Simulated] = "true"
	}
	must[*corev1.Node](t)(f.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}))
	d := must[*appsv1.Deployment](t)(f.AppsV1().Deployments(namespace).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: meta("web"), Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: template()},
	}, metav1.CreateOptions{}))
	d.Status.Replicas = replicas
	must[*appsv1.Deployment](t)(f.AppsV1().Deployments(namespace).UpdateStatus(t.Context(), d, metav1.UpdateOptions{}))
	for i := range replicas {
		f.run(t, fmt.Sprint("web-", i), annotations...)
	}
}

// run makes a pod that has been ready for an hour.
func (f *fixture) run(t *testing.T, name string, annotations ...string) {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: meta(name), Spec: template().Spec}
	pod.Spec.NodeName = "n1"
	if len(annotations) > 0 {
		pod.Annotations = map[string]string{kubelet.CPUUsage: annotations[0]}
	}
	pod = must[*corev1.Pod](t)(f.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}))
	since := metav1.NewTime(time.Now().Add(-time.Hour))
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, StartTime: &since,
		Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: since}},
		ContainerStatuses: []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: since}}}},
	}
	must[*corev1.Pod](t)(f.CoreV1().Pods(namespace).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}))
}

// half keeps processors at half of the requests, with 1 to 10 replicas, and takes any step at once.
func half(change func(*autoscalingv2.HorizontalPodAutoscaler)) *autoscalingv2.HorizontalPodAutoscaler {
	rules := func() *autoscalingv2.HPAScalingRules {
		return &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: new(int32), Policies: []autoscalingv2.HPAScalingPolicy{
			{Type: autoscalingv2.PercentScalingPolicy, Value: 1000, PeriodSeconds: 1},
		}}
	}
	a := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: meta("web"), Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}, MaxReplicas: 10,
		Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
			Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(50))},
		}}},
		Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(), ScaleDown: rules()},
	}}
	if change != nil {
		change(a)
	}
	return a
}

func (f *fixture) autoscale(t *testing.T, change func(*autoscalingv2.HorizontalPodAutoscaler)) *autoscalingv2.HorizontalPodAutoscaler {
	t.Helper()
	return must[*autoscalingv2.HorizontalPodAutoscaler](t)(f.AutoscalingV2().HorizontalPodAutoscalers(namespace).Create(t.Context(), half(change), metav1.CreateOptions{}))
}

// report has samples come: the usage of each pod.
func (f *fixture) report(t *testing.T, cpu string, pods int) {
	t.Helper()
	s := events.Samples{Cluster: "born", Reporter: "n1"}
	for i := range pods {
		s.Pods = append(s.Pods, events.PodSample{
			Namespace: namespace, Name: fmt.Sprint("web-", i), Window: events.Window{End: f.now(), Seconds: 15},
			Containers: []events.ContainerSample{{Name: "c", Usage: events.Usage{CPU: resource.MustParse(cpu), Memory: resource.MustParse("1Mi")}}},
		})
	}
	f.come(t, s)
}

// come stores samples and asks, as a host does.
func (f *fixture) come(t *testing.T, s events.Samples) {
	t.Helper()
	taken, err := f.samples.Take(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	asks, err := metrics.Asks(t.Context(), f.logs, apiserver.NewDecoder(nil), taken, f.now())
	if err != nil {
		t.Fatal(err)
	}
	if len(asks) == 0 {
		return
	}
	if err := f.functions.Ask(t.Context(), metrics.Name, asks...); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) eventually(t *testing.T, what string, reason func() string) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(waitLimit); ; <-ticker.C {
		why := reason()
		if why == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %s", what, why)
		}
	}
}

func (f *fixture) awaitReplicas(t *testing.T, want int32) {
	t.Helper()
	f.eventually(t, fmt.Sprintf("waiting for %d replicas", want), func() string {
		d := must[*appsv1.Deployment](t)(f.AppsV1().Deployments(namespace).Get(t.Context(), "web", metav1.GetOptions{}))
		if *d.Spec.Replicas != want {
			return fmt.Sprintf("there are %d: %s", *d.Spec.Replicas, f.conditions(t))
		}
		return ""
	})
}

func (f *fixture) conditions(t *testing.T) string {
	t.Helper()
	a, err := f.AutoscalingV2().HorizontalPodAutoscalers(namespace).Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, c := range a.Status.Conditions {
		out = append(out, fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	return strings.Join(out, "\n")
}

func (f *fixture) awaitCondition(t *testing.T, want string) {
	t.Helper()
	f.eventually(t, "waiting for "+want, func() string {
		if got := f.conditions(t); !strings.Contains(got, want) {
			return "there is\n" + got
		}
		return ""
	})
}

// awaitEvents waits until the Events of the autoscaler have these reasons.
func (f *fixture) awaitEvents(t *testing.T, want ...string) {
	t.Helper()
	f.eventually(t, "waiting for Events", func() string {
		list := must[*corev1.EventList](t)(f.CoreV1().Events(namespace).List(t.Context(), metav1.ListOptions{}))
		var got []string
		for i := range list.Items {
			got = append(got, list.Items[i].Reason)
		}
		for _, w := range want {
			if !slices.Contains(got, w) {
				return fmt.Sprintf("%q is not among %q", w, got)
			}
		}
		return ""
	})
}

// states are the keys of the rows of what was decided.
func (f *fixture) states(t *testing.T) (keys []string) {
	t.Helper()
	err := table.All(t.Context(), f.store, f.partition, table.Query{From: "h-", To: "h."}, func(row table.Row) bool {
		if err := metrics.CheckRow(row); err != nil {
			t.Errorf("row %q: %v", row.Key, err)
		}
		keys = append(keys, row.Key)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestSamplesScaleATarget(t *testing.T) {
	f := newFixture(t)
	f.deploy(t, 2)
	a := f.autoscale(t, nil)
	f.awaitCondition(t, "ScalingActive=False FailedGetResourceMetric")
	f.pass(t, time.Second)
	f.report(t, "100m", 2)
	f.awaitReplicas(t, 4)
	f.awaitEvents(t, "SuccessfulRescale", "FailedGetResourceMetric")
	f.awaitCondition(t, "ScalingActive=True ValidMetricFound")
	got := must[*autoscalingv2.HorizontalPodAutoscaler](t)(f.AutoscalingV2().HorizontalPodAutoscalers(namespace).Get(t.Context(), "web", metav1.GetOptions{}))
	if s := got.Status; s.DesiredReplicas != 4 || len(s.CurrentMetrics) != 1 || *s.CurrentMetrics[0].Resource.Current.AverageUtilization != 100 {
		t.Errorf("status %+v", s)
	}
	v1 := must[*autoscalingv1.HorizontalPodAutoscaler](t)(f.AutoscalingV1().HorizontalPodAutoscalers(namespace).Get(t.Context(), "web", metav1.GetOptions{}))
	if v1.Status.DesiredReplicas != 4 || *v1.Status.CurrentCPUUtilizationPercentage != 100 {
		t.Errorf("as autoscaling/v1: %+v", v1.Status)
	}
	f.eventually(t, "waiting for what was decided", func() string {
		if diff := cmp.Diff([]string{"h-" + string(a.UID)}, f.states(t)); diff != "" {
			return diff
		}
		return ""
	})
	f.pass(t, 2*time.Second)
	f.report(t, "10m", 2)
	f.awaitReplicas(t, 1)
	if err := f.AutoscalingV2().HorizontalPodAutoscalers(namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	f.eventually(t, "waiting for the row of a deleted autoscaler to go", func() string { return strings.Join(f.states(t), " ") })
}

func TestAStabilizationWindowEndsByItself(t *testing.T) {
	f := newFixture(t)
	f.deploy(t, 4)
	f.autoscale(t, func(a *autoscalingv2.HorizontalPodAutoscaler) {
		a.Spec.Behavior.ScaleDown.StabilizationWindowSeconds = new(int32(60))
	})
	f.report(t, "50m", 4)
	f.awaitCondition(t, "AbleToScale=True ReadyForNewScale")
	f.pass(t, 30*time.Second)
	f.report(t, "5m", 4)
	f.awaitCondition(t, "AbleToScale=True ScaleDownStabilized")
	f.pass(t, 61*time.Second) // nothing comes: what is due says so
	f.awaitReplicas(t, 1)
}

func TestAnAutoscalerWithoutBehaviorTakesAStepAtATime(t *testing.T) {
	f := newFixture(t)
	f.deploy(t, 1)
	f.autoscale(t, func(a *autoscalingv2.HorizontalPodAutoscaler) { a.Spec.Behavior = nil })
	f.pass(t, time.Second)
	f.report(t, "1", 1)
	f.awaitReplicas(t, 4)
	for i := range 3 {
		f.run(t, fmt.Sprint("web-", i+1))
	}
	f.pass(t, 5*time.Second)
	f.report(t, "1", 4)
	f.pass(t, 2*time.Second)
	f.idle(t)
	f.awaitReplicas(t, 4)
	f.pass(t, 15*time.Second)
	f.awaitReplicas(t, 8)
}

// idle waits until nothing runs.
func (f *fixture) idle(t *testing.T) {
	t.Helper()
	quiet := 0
	f.eventually(t, "waiting for rest", func() string {
		if quiet++; f.functions.Busy() {
			quiet = 0
		}
		if quiet < 20 {
			return "something runs"
		}
		return ""
	})
}

func TestTheLoadOfSimulatedPodsScalesThem(t *testing.T) {
	f := newFixture(t)
	f.deploy(t, 2, "100m")
	f.autoscale(t, nil)
	f.awaitReplicas(t, 4)
	f.pass(t, 2*time.Second)
	for i := range 2 {
		name := fmt.Sprint("web-", i)
		pod := must[*corev1.Pod](t)(f.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{}))
		pod.Annotations[kubelet.CPUUsage] = "25m"
		must[*corev1.Pod](t)(f.CoreV1().Pods(namespace).Update(t.Context(), pod, metav1.UpdateOptions{}))
	}
	f.pass(t, 2*time.Second)
	f.awaitReplicas(t, 1)
}

func TestAnExternalMetricScalesATarget(t *testing.T) {
	f := newFixture(t)
	f.deploy(t, 1)
	f.autoscale(t, func(a *autoscalingv2.HorizontalPodAutoscaler) {
		a.Spec.Metrics = []autoscalingv2.MetricSpec{{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
			Metric: autoscalingv2.MetricIdentifier{Name: "queue_length", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"queue": "orders"}}},
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: resource.NewQuantity(10, resource.DecimalSI)},
		}}}
	})
	f.awaitCondition(t, "ScalingActive=False FailedGetExternalMetric: the HPA was unable to compute the replica count: unable to get external metric default/queue_length/&LabelSelector{MatchLabels:map[string]string{queue: orders,},MatchExpressions:[]LabelSelectorRequirement{},}: no metrics returned from external metrics API")
	length := func(queue string, n string) {
		f.pass(t, 2*time.Second)
		f.come(t, events.Samples{Cluster: "born", Reporter: "queues", External: []events.ExternalSample{{
			Namespace: namespace, Name: "queue_length", Labels: map[string]string{"queue": queue}, Window: events.Window{End: f.now()}, Value: resource.MustParse(n),
		}}})
	}
	length("mails", "70")
	length("orders", "45")
	f.awaitReplicas(t, 5)
}

func TestAnyScalableKindIsScaled(t *testing.T) {
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	one := new(int32(1))
	tests := map[string]struct {
		apiVersion, kind string
		create           func(context.Context, *fixture) error
		replicas         func(context.Context, *fixture) (int32, error)
	}{
		"a ReplicaSet": {"apps/v1", "ReplicaSet", func(ctx context.Context, f *fixture) error {
			_, err := f.AppsV1().ReplicaSets(namespace).Create(ctx, &appsv1.ReplicaSet{ObjectMeta: meta("web"), Spec: appsv1.ReplicaSetSpec{Replicas: one, Selector: selector, Template: template()}}, metav1.CreateOptions{})
			return err
		}, func(ctx context.Context, f *fixture) (int32, error) {
			o, err := f.AppsV1().ReplicaSets(namespace).Get(ctx, "web", metav1.GetOptions{})
			return *o.Spec.Replicas, err
		}},
		"a StatefulSet": {"apps/v1", "StatefulSet", func(ctx context.Context, f *fixture) error {
			_, err := f.AppsV1().StatefulSets(namespace).Create(ctx, &appsv1.StatefulSet{ObjectMeta: meta("web"), Spec: appsv1.StatefulSetSpec{Replicas: one, Selector: selector, Template: template()}}, metav1.CreateOptions{})
			return err
		}, func(ctx context.Context, f *fixture) (int32, error) {
			o, err := f.AppsV1().StatefulSets(namespace).Get(ctx, "web", metav1.GetOptions{})
			return *o.Spec.Replicas, err
		}},
		"a ReplicationController": {"v1", "ReplicationController", func(ctx context.Context, f *fixture) error {
			_, err := f.CoreV1().ReplicationControllers(namespace).Create(ctx, &corev1.ReplicationController{
				ObjectMeta: meta("web"), Spec: corev1.ReplicationControllerSpec{Replicas: one, Selector: selector.MatchLabels, Template: new(template())},
			}, metav1.CreateOptions{})
			return err
		}, func(ctx context.Context, f *fixture) (int32, error) {
			o, err := f.CoreV1().ReplicationControllers(namespace).Get(ctx, "web", metav1.GetOptions{})
			return *o.Spec.Replicas, err
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			if err := test.create(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			f.autoscale(t, func(a *autoscalingv2.HorizontalPodAutoscaler) {
				a.Spec.ScaleTargetRef.APIVersion, a.Spec.ScaleTargetRef.Kind, a.Spec.MinReplicas = test.apiVersion, test.kind, new(int32(3))
			})
			f.eventually(t, "waiting for 3 replicas", func() string {
				if n := must[int32](t)(test.replicas(t.Context(), f)); n != 3 {
					return fmt.Sprintf("there are %d: %s", n, f.conditions(t))
				}
				return ""
			})
		})
	}
}

func TestWhatCannotBeScaledIsSaid(t *testing.T) {
	pods := autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{
		Metric: autoscalingv2.MetricIdentifier{Name: "requests"}, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: resource.NewQuantity(1, resource.DecimalSI)},
	}}
	tests := map[string]struct {
		change func(*autoscalingv2.HorizontalPodAutoscaler)
		want   string
	}{
		"no target": {
			func(a *autoscalingv2.HorizontalPodAutoscaler) { a.Spec.ScaleTargetRef.Name = "gone" },
			`AbleToScale=False FailedGetScale: the HPA controller was unable to get the target's current scale: deployments.apps "gone" not found`,
		},
		"no such kind": {
			func(a *autoscalingv2.HorizontalPodAutoscaler) { a.Spec.ScaleTargetRef.Kind = "Deployments" },
			`AbleToScale=False FailedGetScale: the HPA controller was unable to get the target's current scale: unable to determine resource for scale target reference: no matches for kind "Deployments" in group "apps"`,
		},
		"a kind without a scale": {
			func(a *autoscalingv2.HorizontalPodAutoscaler) {
				a.Spec.ScaleTargetRef.Kind = "ControllerRevision"
			},
			"AbleToScale=False FailedGetScale: the HPA controller was unable to get the target's current scale: the server could not find the requested resource",
		},
		"a metric of pods": {
			func(a *autoscalingv2.HorizontalPodAutoscaler) { a.Spec.Metrics = []autoscalingv2.MetricSpec{pods} },
			"ScalingActive=False FailedGetPodsMetric: the HPA was unable to compute the replica count: unable to get metric requests: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.deploy(t, 1)
			f.autoscale(t, test.change)
			f.awaitCondition(t, test.want)
		})
	}
}

func TestAScaleThatIsRefusedIsSaidAndTriedAgain(t *testing.T) {
	f := newFixture(t)
	f.deploy(t, 2)
	hooks := f.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	fail, none := admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone
	must[*admissionregistrationv1.ValidatingWebhookConfiguration](t)(hooks.Create(t.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "no"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "no.example.com", FailurePolicy: &fail, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
			ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: new("https://127.0.0.1:1/")},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Update},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments/scale"}},
			}},
		}},
	}, metav1.CreateOptions{}))
	f.autoscale(t, nil)
	f.pass(t, time.Second)
	f.report(t, "100m", 2)
	f.awaitCondition(t, "AbleToScale=False FailedUpdateScale")
	f.awaitEvents(t, "FailedRescale")
	if err := hooks.Delete(t.Context(), "no", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	f.pass(t, 16*time.Second)
	f.awaitReplicas(t, 4)
}

func TestSamplesAskForNothingWhereNobodyReadsThem(t *testing.T) {
	f := newFixture(t)
	f.deploy(t, 1)
	asks := func(taken keeper.Taken) int {
		list, err := metrics.Asks(t.Context(), f.logs, apiserver.NewDecoder(nil), taken, f.now())
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if n := asks(keeper.Taken{Pods: []string{namespace}, External: []string{""}}); n != 0 {
		t.Errorf("without autoscalers it is asked for %d", n)
	}
	f.autoscale(t, nil)
	for name, test := range map[string]struct {
		taken keeper.Taken
		want  int
	}{
		"of its namespace":   {keeper.Taken{Pods: []string{namespace}}, 1},
		"of another":         {keeper.Taken{Pods: []string{"kube-system"}}, 0},
		"of external values": {keeper.Taken{External: []string{""}}, 0},
		"of nodes alone":     {keeper.Taken{}, 0},
	} {
		if n := asks(test.taken); n != test.want {
			t.Errorf("for samples %s it is asked for %d, want %d", name, n, test.want)
		}
	}
}

func TestNothingIsDueOnceALoadIsWhatItShallBe(t *testing.T) {
	f := newFixture(t)
	f.deploy(t, 2)
	f.autoscale(t, nil)
	f.pass(t, time.Second)
	f.report(t, "50m", 2)
	f.awaitCondition(t, "ScalingActive=True ValidMetricFound")
	f.pass(t, 2*time.Second)
	f.idle(t)
	if next, err := f.functions.Next(t.Context()); err != nil || !next.IsZero() {
		t.Errorf("something is due at %v, %v", next, err)
	}
}
