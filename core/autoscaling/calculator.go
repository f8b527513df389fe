package autoscaling

import (
	"fmt"
	"maps"
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// Calculator says how many replicas a metric asks for. Values and targets are in thousandths of the
// metric's unit.
//
// Upstream: ReplicaCalculator (replica_calculator.go).
type Calculator struct {
	// Pods of the target.
	Pods      []*corev1.Pod
	Tolerance Tolerance
	Now       time.Time
}

// Tolerance is how far usage may be below and above its target, as a part of the target, without
// consequence.
type Tolerance struct {
	Down, Up float64
}

func (t Tolerance) covers(ratio float64) bool { return 1-t.Down <= ratio && ratio <= 1+t.Up }

// tolerance of an autoscaler.
//
// Upstream: tolerancesForHpa (horizontal.go).
func tolerance(behavior *autoscalingv2.HorizontalPodAutoscalerBehavior) Tolerance {
	t := Tolerance{defaultTolerance, defaultTolerance}
	if behavior == nil {
		return t
	}
	if rules := behavior.ScaleDown; rules != nil && rules.Tolerance != nil {
		t.Down = rules.Tolerance.AsApproximateFloat64()
	}
	if rules := behavior.ScaleUp; rules != nil && rules.Tolerance != nil {
		t.Up = rules.Tolerance.AsApproximateFloat64()
	}
	return t
}

// Utilization is how much of what they request pods use, and what follows.
type Utilization struct {
	Replicas int32
	// Percent of the requests, and Average usage of a pod.
	Percent int32
	Average int64
}

// Utilization asks for as many replicas as bring the usage of a resource to a target percentage of what
// the pods request, or one container of each if it is named.
//
// Upstream: GetResourceReplicas (replica_calculator.go).
func (c Calculator) Utilization(current, target int32, name corev1.ResourceName, container string, samples map[string]Sample) (Utilization, error) {
	if len(c.Pods) == 0 {
		return Utilization{}, errNoPods()
	}
	g, err := c.group(name, samples)
	if err != nil {
		return Utilization{}, err
	}
	requested, err := requests(c.Pods, container, name)
	if err != nil {
		return Utilization{}, err
	}
	seen, err := utilization(g.samples, requested)
	if err != nil {
		return Utilization{}, err
	}
	// A target above 100% is the worst that a pod is taken for.
	fallback := int64(max(100, target))
	seen.Replicas = c.settle(current, g, func(samples map[string]Sample) float64 {
		// The pods of g stay, so there are requests.
		u, _ := utilization(samples, requested)
		return float64(u.Percent) / float64(target)
	}, func(pod string) int64 { return requested[pod] * fallback / 100 })
	return seen, nil
}

// utilization follows GetResourceUtilizationRatio (metrics/utilization.go).
func utilization(samples map[string]Sample, requests map[string]int64) (Utilization, error) {
	var used, requested, pods int64
	for name, sample := range samples {
		if request, ok := requests[name]; ok {
			used += sample.Value
			requested += request
			pods++
		}
	}
	if requested == 0 {
		return Utilization{}, fmt.Errorf("no metrics returned matched known pods")
	}
	//nolint:gosec // Upstream cuts it too.
	return Utilization{Percent: int32(used * 100 / requested), Average: used / pods}, nil
}

// Average asks for as many replicas as bring the average of a metric to a target. It returns the average
// too. The name is that of the resource, empty if the metric is none.
//
// Upstream: calcPlainMetricReplicas (replica_calculator.go), GetMetricUsageRatio (metrics/utilization.go).
func (c Calculator) Average(current int32, target int64, name corev1.ResourceName, samples map[string]Sample) (int32, int64, error) {
	if len(c.Pods) == 0 {
		return 0, 0, errNoPods()
	}
	g, err := c.group(name, samples)
	if err != nil {
		return 0, 0, err
	}
	replicas := c.settle(current, g, func(samples map[string]Sample) float64 {
		return float64(average(samples)) / float64(target)
	}, func(string) int64 { return target })
	return replicas, average(g.samples), nil
}

func average(samples map[string]Sample) int64 {
	var total int64
	for _, sample := range samples {
		total += sample.Value
	}
	return total / int64(len(samples))
}

// settle is how many replicas a ratio of usage to target asks for. If what pods without a sample may be
// doing makes the change small or turns it round, there is none.
func (c Calculator) settle(current int32, g grouped, ratio func(map[string]Sample) float64, full func(pod string) int64) int32 {
	before := ratio(g.samples)
	if len(g.missing) == 0 && (len(g.unready) == 0 || before <= 1) {
		if c.Tolerance.covers(before) {
			return current
		}
		return int32(math.Ceil(before * float64(g.ready)))
	}
	filled := g.fill(before, full)
	after := ratio(filled)
	if c.Tolerance.covers(after) || before < 1 && after > 1 || before > 1 && after < 1 {
		return current
	}
	replicas := int32(math.Ceil(after * float64(len(filled))))
	if after < 1 && replicas > current || after > 1 && replicas < current {
		return current
	}
	return replicas
}

// fill takes pods without a sample for what works against a change: those that miss it for full on the
// way down and for idle on the way up, those that are not ready for idle on the way up.
func (g grouped) fill(ratio float64, full func(pod string) int64) map[string]Sample {
	filled := maps.Clone(g.samples)
	for pod := range g.missing {
		switch {
		case ratio < 1:
			filled[pod] = Sample{Value: full(pod)}
		case ratio > 1:
			filled[pod] = Sample{}
		}
	}
	if ratio > 1 {
		for pod := range g.unready {
			filled[pod] = Sample{}
		}
	}
	return filled
}

// Total asks for as many replicas as bring a value that the pods share to a target. The ready pods count,
// so a target without replicas gets as many as the value is times the target.
//
// Upstream: GetObjectMetricReplicas, GetExternalMetricReplicas, getUsageRatioReplicaCount
// (replica_calculator.go).
func (c Calculator) Total(current int32, target, value int64) (int32, error) {
	ratio := float64(value) / float64(target)
	if current == 0 {
		return int32(math.Ceil(ratio)), nil
	}
	if c.Tolerance.covers(ratio) {
		return current, nil
	}
	if len(c.Pods) == 0 {
		return 0, fmt.Errorf("unable to calculate ready pods: %w", errNoPods())
	}
	return replicas(ratio * float64(c.ready())), nil
}

// ObjectAverage asks for as many replicas as bring a value, shared out to the replicas that there are, to
// a target. It returns each one's share too.
//
// Upstream: GetObjectPerPodMetricReplicas (replica_calculator.go).
func (c Calculator) ObjectAverage(current int32, target, value int64) (int32, int64) {
	out := current
	if !c.Tolerance.covers(float64(value) / (float64(target) * float64(current))) {
		out = int32(math.Ceil(float64(value) / float64(target)))
	}
	return out, int64(math.Ceil(float64(value) / float64(current)))
}

// ExternalAverage is ObjectAverage of a sum.
//
// Upstream: GetExternalPerPodMetricReplicas (replica_calculator.go).
func (c Calculator) ExternalAverage(current int32, target int64, values []int64) (int32, int64) {
	var total int64
	for _, value := range values {
		if total += value; total < 0 {
			total = math.MaxInt64
			break
		}
	}
	out := current
	if !c.Tolerance.covers(float64(total) / (float64(target) * float64(current))) {
		out = replicas(float64(total) / float64(target))
	}
	if float64(total) >= math.MaxInt64 {
		return out, math.MaxInt64
	}
	return out, int64(math.Ceil(float64(total) / float64(current)))
}

// Sum adds the values of an external metric, up to the greatest number there is.
//
// Upstream: GetExternalMetricReplicas (replica_calculator.go).
func Sum(values []int64) int64 {
	var total int64
	for _, value := range values {
		if value > 0 && total > math.MaxInt64-value {
			return math.MaxInt64
		}
		total += value
	}
	return total
}

// replicas rounds up to a number of replicas.
func replicas(n float64) int32 {
	if n > math.MaxInt32 {
		return math.MaxInt32
	}
	return int32(math.Ceil(n))
}

func errNoPods() error {
	return fmt.Errorf("no pods returned by selector while calculating replica count")
}
