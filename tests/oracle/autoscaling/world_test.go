package autoscaling_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/autoscaling"
)

const (
	namespace = "shop"
	name      = "web"
)

var deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}

// world is what both sides see.
type world struct {
	rng      *rand.Rand
	hpa      *autoscalingv2.HorizontalPodAutoscaler
	scale    autoscaling.Scale
	pods     []*corev1.Pod
	usage    map[string]autoscaling.PodUsage
	usageErr error
	measured []autoscaling.Measured
	// rivals select with these selectors.
	rivals []autoscaling.Selecting
	// refused is what a write of the scale is answered, nil if it goes through.
	refused error
	made    int
	// pace is how many looks the load stays, about.
	pace int
}

// pick is one of several.
func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// once in n times.
func (w *world) once(n int) bool { return w.rng.IntN(n) == 0 }

// factors are ratios of usage to target, around where rules turn.
var factors = []float64{0, 0, 0, 0.3, 0.5, 0.8, 0.89, 0.9, 0.91, 0.95, 1, 1, 1.05, 1.09, 1.1, 1.11, 1.5, 2, 2.5, 4, 11}

func newWorld(rng *rand.Rand) *world {
	w := &world{rng: rng, scale: autoscaling.Scale{Resource: deployments, Selector: "app=web"}, pace: pick(rng, 1, 2, 8, 20)}
	w.hpa = &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "u", Generation: 1, ResourceVersion: "1"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "target"},
			Metrics:        []autoscalingv2.MetricSpec{w.metric(0)},
		},
	}
	for !w.once(2) && len(w.hpa.Spec.Metrics) < 4 {
		w.hpa.Spec.Metrics = append(w.hpa.Spec.Metrics, w.metric(len(w.hpa.Spec.Metrics)))
	}
	w.ranges()
	w.behavior()
	w.scale.SpecReplicas = int32(rng.IntN(9))
	w.scale.StatusReplicas = w.scale.SpecReplicas
	w.settlePods()
	w.load()
	if w.once(6) {
		w.scale.SpecReplicas = 0
		w.hpa.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.ScaledToZero, Status: pick(rng, corev1.ConditionTrue, corev1.ConditionTrue, corev1.ConditionFalse)}}
	}
	return w
}

func (w *world) ranges() {
	spec := &w.hpa.Spec
	spec.MinReplicas = pick(w.rng, nil, new(int32(0)), new(int32(0)), new(int32(1)), new(int32(2)), new(int32(5)))
	spec.MaxReplicas = max(pick[int32](w.rng, 1, 3, 6, 10, 40, 200), minOf(spec.MinReplicas), 1)
}

func minOf(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// behavior draws one as the API server would have filled it in.
func (w *world) behavior() {
	w.hpa.Spec.Behavior = nil
	if w.once(3) {
		return
	}
	rules := func(windows ...*int32) *autoscalingv2.HPAScalingRules {
		r := &autoscalingv2.HPAScalingRules{
			StabilizationWindowSeconds: pick(w.rng, windows...),
			SelectPolicy:               new(pick(w.rng, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect)),
		}
		for range 1 + w.rng.IntN(2) {
			policy := autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: pick[int32](w.rng, 1, 2, 4, 20), PeriodSeconds: pick[int32](w.rng, 1, 15, 30, 60, 120, 600)}
			if w.once(2) {
				policy.Type, policy.Value = autoscalingv2.PercentScalingPolicy, pick[int32](w.rng, 1, 10, 50, 100, 300)
			}
			r.Policies = append(r.Policies, policy)
		}
		if w.once(3) {
			r.Tolerance = new(resource.MustParse(pick(w.rng, "0", "0.05", "0.1", "0.3", "950m")))
		}
		return r
	}
	w.hpa.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{
		ScaleUp:   rules(new(int32(0)), new(int32(0)), new(int32(30)), new(int32(90))),
		ScaleDown: rules(nil, new(int32(0)), new(int32(30)), new(int32(90)), new(int32(600))),
	}
}

// metric draws a metric of the spec, whose name tells its index.
func (w *world) metric(i int) autoscalingv2.MetricSpec {
	id := autoscalingv2.MetricIdentifier{Name: fmt.Sprintf("m%d", i)}
	switch w.rng.IntN(12) {
	case 0:
		id.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"queue": "q"}}
	case 1:
		id.Selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Nonsense"}}}
	}
	value := autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: new(resource.MustParse(pick(w.rng, "100m", "1", "30", "1k")))}
	average := autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse(pick(w.rng, "100m", "1", "30", "1k")))}
	either := pick(w.rng, value, value, average, average, autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType})
	usage := autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(pick[int32](w.rng, 1, 50, 80, 100, 150))}
	if w.once(3) {
		usage = autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse(pick(w.rng, "100m", "0.5", "300")))}
	} else if w.once(20) {
		usage = autoscalingv2.MetricTarget{}
	}
	resourceName := pick(w.rng, corev1.ResourceCPU, corev1.ResourceCPU, corev1.ResourceMemory)
	switch w.rng.IntN(22) {
	case 0, 1, 2:
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{
			Metric: id, Target: either, DescribedObject: pick(w.rng,
				autoscalingv2.CrossVersionObjectReference{APIVersion: "v1", Kind: "Service", Name: "front"},
				autoscalingv2.CrossVersionObjectReference{APIVersion: "v1", Kind: "Namespace", Name: namespace}),
		}}
	case 3, 4, 5:
		return autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: id, Target: average}}
	case 6, 7, 8, 9:
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{Metric: id, Target: either}}
	case 10, 11, 12:
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ContainerResourceMetricSourceType, ContainerResource: &autoscalingv2.ContainerResourceMetricSource{
			Name: resourceName, Container: pick(w.rng, "main", "main", "side", "absent"), Target: usage,
		}}
	case 13:
		return autoscalingv2.MetricSpec{Type: "Imaginary"}
	default:
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: resourceName, Target: usage}}
	}
}

// settlePods makes as many pods as the scale asks for, mostly.
func (w *world) settlePods() {
	want := int(w.scale.SpecReplicas)
	if w.once(6) {
		want = max(0, want+pick(w.rng, -2, -1, 1))
	}
	for len(w.pods) > min(want, 40) {
		w.pods = w.pods[:len(w.pods)-1]
	}
	for len(w.pods) < min(want, 40) {
		w.pods = append(w.pods, w.pod())
	}
	w.scale.StatusReplicas = int32(len(w.pods))
}

func (w *world) pod() *corev1.Pod {
	w.made++
	now := time.Now()
	requests := func() corev1.ResourceRequirements {
		list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(pick(w.rng, "100m", "100m", "250m", "1")), corev1.ResourceMemory: resource.MustParse(pick(w.rng, "64Mi", "200"))}
		if w.once(60) {
			delete(list, corev1.ResourceCPU)
		}
		return corev1.ResourceRequirements{Requests: list}
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("p%d", w.made), UID: types.UID(strconv.Itoa(w.made)), Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Resources: requests()}}},
	}
	switch w.rng.IntN(8) {
	case 0:
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "side", Resources: requests()})
	case 1:
		pod.Spec.InitContainers = []corev1.Container{{Name: "init", Resources: requests()}, {Name: "side", Resources: requests(), RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
	case 2:
		if w.once(4) {
			pod.Spec.Resources = new(requests())
		}
	}
	if w.once(15) {
		pod.Labels["app"] = "other"
	}
	began := now.Add(-pick(w.rng, 0, time.Second, 20*time.Second, 4*time.Minute, 5*time.Minute, 6*time.Minute, time.Hour))
	pod.Status.Phase = pick(w.rng, corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodPending, corev1.PodFailed, corev1.PodSucceeded)
	if !w.once(15) {
		pod.Status.StartTime = new(metav1.NewTime(began))
	}
	if !w.once(15) {
		pod.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodReady, Status: pick(w.rng, corev1.ConditionTrue, corev1.ConditionTrue, corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown),
			LastTransitionTime: metav1.NewTime(began.Add(pick(w.rng, 0, time.Second, 29*time.Second, 30*time.Second, 31*time.Second, 3*time.Minute))),
		}}
	}
	if w.once(15) {
		pod.DeletionTimestamp = new(metav1.NewTime(now))
	}
	return pod
}

// load draws the value of every metric.
func (w *world) load() {
	w.measured = make([]autoscaling.Measured, len(w.hpa.Spec.Metrics))
	w.usage, w.usageErr = map[string]autoscaling.PodUsage{}, nil
	if w.once(25) {
		w.usageErr = fmt.Errorf("the server is currently unable to handle the request")
	}
	factor := pick(w.rng, factors...)
	for _, pod := range w.pods {
		if w.once(12) {
			continue
		}
		w.usage[pod.Name] = w.podUsage(pod, factor)
	}
	for i, spec := range w.hpa.Spec.Metrics {
		w.measured[i] = w.measure(spec, factor)
	}
}

func (w *world) podUsage(pod *corev1.Pod, factor float64) autoscaling.PodUsage {
	target := 0.8
	for _, spec := range w.hpa.Spec.Metrics {
		if spec.Resource != nil && spec.Resource.Target.AverageUtilization != nil {
			target = float64(*spec.Resource.Target.AverageUtilization) / 100
		}
	}
	out := autoscaling.PodUsage{Timestamp: time.Now().Add(-pick(w.rng, 0, 10*time.Second, 2*time.Minute)), Window: pick(w.rng, 15*time.Second, time.Minute), Containers: map[string]corev1.ResourceList{}}
	for _, c := range append(pod.Spec.Containers, pod.Spec.InitContainers...) {
		if c.Name == "init" || w.once(60) {
			continue
		}
		list := corev1.ResourceList{}
		for _, resourceName := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			if request := c.Resources.Requests[resourceName]; !w.once(80) {
				list[resourceName] = *resource.NewMilliQuantity(int64(float64(request.MilliValue())*target*factor), resource.DecimalSI)
			}
		}
		out.Containers[c.Name] = list
	}
	return out
}

func (w *world) measure(spec autoscalingv2.MetricSpec, factor float64) autoscaling.Measured {
	if w.once(20) {
		return autoscaling.Measured{Err: fmt.Errorf("the server could not find the metric")}
	}
	value := func(target autoscalingv2.MetricTarget, share float64) resource.Quantity {
		if target.AverageValue != nil {
			return *resource.NewMilliQuantity(int64(float64(target.AverageValue.MilliValue())*factor*share), resource.DecimalSI)
		}
		if target.Value != nil {
			return *resource.NewMilliQuantity(int64(float64(target.Value.MilliValue())*factor), resource.DecimalSI)
		}
		return resource.MustParse("1")
	}
	shared := float64(max(1, w.scale.StatusReplicas))
	switch {
	case spec.Pods != nil:
		out := autoscaling.Measured{Pods: map[string]resource.Quantity{}}
		for _, pod := range w.pods {
			if !w.once(12) {
				out.Pods[pod.Name] = value(spec.Pods.Target, 1)
			}
		}
		return out
	case spec.Object != nil:
		return autoscaling.Measured{Values: []resource.Quantity{value(spec.Object.Target, shared)}}
	case spec.External != nil && !w.once(20):
		values := []resource.Quantity{value(spec.External.Target, shared)}
		for w.once(3) {
			values = append(values, pick(w.rng, resource.MustParse("0"), resource.MustParse("-1"), resource.MustParse("10"), resource.MustParse("9Pi"), *resource.NewMilliQuantity(1<<62, resource.DecimalSI)))
		}
		return autoscaling.Measured{Values: values}
	}
	return autoscaling.Measured{}
}

// change lets time's other work happen: load, pods, edits, failures.
func (w *world) change() {
	if w.once(2) {
		w.settlePods()
	}
	if w.once(w.pace) {
		w.load()
	}
	switch w.rng.IntN(30) {
	case 0:
		w.behavior()
	case 1:
		w.ranges()
	case 2:
		w.scale.SpecReplicas = int32(w.rng.IntN(12))
	case 3:
		w.scale.Err = fmt.Errorf("deployments.apps \"target\" not found")
	case 4:
		w.scale.Selector = pick(w.rng, "", "app=web", "app in (", "app")
	case 5:
		w.hpa.Spec.ScaleTargetRef.APIVersion = pick(w.rng, "a/b/c", "apps/v1", "apps/v1")
	case 6:
		w.hpa.Generation++
	case 7:
		w.rivals = []autoscaling.Selecting{{Name: pick(w.rng, "another", "zweb"), Selector: pick(w.rng, "app=web", "app=other", "app", "app=nobody")}}
	default:
		w.scale.Err = nil
		if w.once(2) {
			w.scale.Selector, w.hpa.Spec.ScaleTargetRef.APIVersion, w.rivals = "app=web", "apps/v1", nil
		}
	}
	w.refused = nil
	if w.once(12) {
		w.refused = fmt.Errorf("admission webhook \"no\" denied the request")
	}
}

// input is the world for the core, of which nothing is shared.
func (w *world) input(state autoscaling.State) autoscaling.Input {
	in := autoscaling.Input{
		Autoscaler: w.hpa.DeepCopy(), Scale: w.scale, Others: w.rivals, UsageErr: w.usageErr, Measured: w.measured,
		Usage: w.usage, State: state,
	}
	for _, pod := range w.pods {
		in.Pods = append(in.Pods, pod.DeepCopy())
	}
	in.Scale.ResourceVersion = "7"
	return in
}

// index is the metric that a name stands for.
func (w *world) index(metric string) int {
	i, err := strconv.Atoi(strings.TrimPrefix(metric, "m"))
	if err != nil {
		panic(err)
	}
	return i
}
