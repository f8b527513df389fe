package autoscaling_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"

	"github.com/zeroplane/zeroplane/core/autoscaling"
)

// answer is what a calculator says.
type answer struct {
	Replicas, Percent int32
	Value             int64
	Err               string
}

func answered(a answer, err error) answer {
	if err != nil {
		return answer{Err: err.Error()}
	}
	return a
}

// sampled is a metrics client of given values.
type sampled struct {
	metrics.MetricsClient
	samples map[string]autoscaling.Sample
	value   int64
	values  []int64
}

func (s sampled) info() metrics.PodMetricsInfo {
	out := metrics.PodMetricsInfo{}
	for name, sample := range s.samples {
		out[name] = metrics.PodMetric(sample)
	}
	return out
}

func (s sampled) GetResourceMetric(context.Context, corev1.ResourceName, string, labels.Selector, string) (metrics.PodMetricsInfo, time.Time, error) {
	return s.info(), time.Time{}, nil
}

func (s sampled) GetRawMetric(string, string, labels.Selector, labels.Selector) (metrics.PodMetricsInfo, time.Time, error) {
	return s.info(), time.Time{}, nil
}

func (s sampled) GetObjectMetric(string, string, *autoscalingv2.CrossVersionObjectReference, labels.Selector) (int64, time.Time, error) {
	return s.value, time.Time{}, nil
}

func (s sampled) GetExternalMetric(string, string, labels.Selector) ([]int64, time.Time, error) {
	return s.values, time.Time{}, nil
}

// question is one draw.
type question struct {
	ours      autoscaling.Calculator
	upstreams *podautoscaler.ReplicaCalculator
	// tolerances are upstream's, which has no way to make them.
	tolerances podautoscaler.Tolerances
	sampled    sampled
	current    int32
	percent    int32
	target     int64
	resource   corev1.ResourceName
	container  string
}

func ask(rng *rand.Rand) question {
	w := &world{rng: rng, hpa: &autoscalingv2.HorizontalPodAutoscaler{}}
	w.scale.SpecReplicas = int32(rng.IntN(12))
	w.settlePods()
	q := question{
		current: int32(rng.IntN(12)), percent: pick[int32](rng, 1, 50, 80, 100, 150, 1000), target: pick[int64](rng, 1, 100, 1000, 1_000_000, 1<<50),
		resource: pick(rng, corev1.ResourceCPU, corev1.ResourceMemory), container: pick(rng, "", "", "", "", "main", "main", "main", "side", "absent"),
	}
	factor := pick(rng, factors...)
	q.sampled.samples = map[string]autoscaling.Sample{}
	for _, pod := range w.pods {
		if w.once(10) {
			continue
		}
		request := pod.Spec.Containers[0].Resources.Requests[q.resource]
		value := pick(rng, float64(request.MilliValue())*float64(q.percent)/100, float64(request.MilliValue()), float64(q.target)) * factor
		q.sampled.samples[pod.Name] = autoscaling.Sample{Timestamp: time.Now().Add(-pick(rng, 0, time.Second, time.Minute)), Window: pick(rng, time.Second, time.Minute), Value: int64(value)}
	}
	q.sampled.value = int64(float64(q.target) * factor * float64(pick(rng, 1, 1, q.current)))
	q.sampled.values = []int64{q.sampled.value}
	for w.once(3) {
		q.sampled.values = append(q.sampled.values, pick[int64](rng, 0, -5, 1<<40, 1<<62, math.MaxInt64))
	}
	t := autoscaling.Tolerance{Down: pick(rng, 0.1, 0.1, 0, 0.3, 1), Up: pick(rng, 0.1, 0.1, 0, 0.3, 2)}
	field(&q.tolerances, "scaleDown").SetFloat(t.Down)
	field(&q.tolerances, "scaleUp").SetFloat(t.Up)
	q.ours = autoscaling.Calculator{Pods: w.pods, Tolerance: t, Now: time.Now()}
	q.upstreams = podautoscaler.NewReplicaCalculator(q.sampled, podLister{w: w}, cpuInitialization, readinessDelay)
	return q
}

// kinds are the metrics, each with upstream's answer and ours.
var kinds = map[string]func(ctx context.Context, q question) (want, got answer){
	"utilization": func(ctx context.Context, q question) (answer, answer) {
		replicas, percent, raw, _, err := q.upstreams.GetResourceReplicas(ctx, q.current, q.percent, q.resource, q.tolerances, namespace, labels.Everything(), q.container)
		u, ourErr := q.ours.Utilization(q.current, q.percent, q.resource, q.container, q.sampled.samples)
		return answered(answer{Replicas: replicas, Percent: percent, Value: raw}, err), answered(answer{Replicas: u.Replicas, Percent: u.Percent, Value: u.Average}, ourErr)
	},
	"usage": func(ctx context.Context, q question) (answer, answer) {
		replicas, usage, _, err := q.upstreams.GetRawResourceReplicas(ctx, q.current, q.target, q.resource, q.tolerances, namespace, labels.Everything(), q.container)
		r, v, ourErr := q.ours.Average(q.current, q.target, q.resource, q.sampled.samples)
		return answered(answer{Replicas: replicas, Value: usage}, err), answered(answer{Replicas: r, Value: v}, ourErr)
	},
	"pods": func(_ context.Context, q question) (answer, answer) {
		replicas, usage, _, err := q.upstreams.GetMetricReplicas(q.current, q.target, "m", q.tolerances, namespace, labels.Everything(), labels.Everything())
		r, v, ourErr := q.ours.Average(q.current, q.target, "", q.sampled.samples)
		return answered(answer{Replicas: replicas, Value: usage}, err), answered(answer{Replicas: r, Value: v}, ourErr)
	},
	"object": func(_ context.Context, q question) (answer, answer) {
		replicas, usage, _, err := q.upstreams.GetObjectMetricReplicas(q.current, q.target, "m", q.tolerances, namespace, &autoscalingv2.CrossVersionObjectReference{}, labels.Everything(), labels.Everything())
		r, ourErr := q.ours.Total(q.current, q.target, q.sampled.value)
		return answered(answer{Replicas: replicas, Value: usage}, err), answered(answer{Replicas: r, Value: q.sampled.value}, ourErr)
	},
	"object average": func(_ context.Context, q question) (answer, answer) {
		replicas, usage, _, err := q.upstreams.GetObjectPerPodMetricReplicas(q.current, q.target, "m", q.tolerances, namespace, &autoscalingv2.CrossVersionObjectReference{}, labels.Everything())
		r, v := q.ours.ObjectAverage(q.current, q.target, q.sampled.value)
		return answered(answer{Replicas: replicas, Value: usage}, err), answer{Replicas: r, Value: v}
	},
	"external": func(_ context.Context, q question) (answer, answer) {
		replicas, usage, _, err := q.upstreams.GetExternalMetricReplicas(q.current, q.target, "m", q.tolerances, namespace, nil, labels.Everything())
		total := autoscaling.Sum(q.sampled.values)
		r, ourErr := q.ours.Total(q.current, q.target, total)
		return answered(answer{Replicas: replicas, Value: usage}, err), answered(answer{Replicas: r, Value: total}, ourErr)
	},
	"external average": func(_ context.Context, q question) (answer, answer) {
		replicas, usage, _, err := q.upstreams.GetExternalPerPodMetricReplicas(q.current, q.target, "m", q.tolerances, namespace, nil)
		r, v := q.ours.ExternalAverage(q.current, q.target, q.sampled.values)
		return answered(answer{Replicas: replicas, Value: usage}, err), answer{Replicas: r, Value: v}
	},
}

func TestEveryMetricAsksForTheReplicasThatUpstreamsDoes(t *testing.T) {
	total := decisions(t)
	for kind, compare := range kinds {
		t.Run(kind, func(t *testing.T) {
			failed, changed := 0, 0
			synctest.Test(t, func(t *testing.T) {
				for i := range total {
					q := ask(rand.New(rand.NewPCG(*seed, uint64(i))))
					want, got := compare(t.Context(), q)
					if diff := cmp.Diff(want, got); diff != "" {
						t.Fatalf("-autoscaling.seed=%d, question %d (-upstream +core):\n%s", *seed, i, diff)
					}
					if want.Err != "" {
						failed++
					} else if want.Replicas != q.current {
						changed++
					}
				}
			})
			t.Logf("of %d: %d errors, %d other than the replicas that there are", total, failed, changed)
		})
	}
}
