package autoscaling

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/core/plan"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// cpuAt is an autoscaler between 1 and 10 replicas that keeps processors at 50% of the requests, and a
// target of ready pods that request 100m and use some thousandths each.
func cpuAt(usage ...int64) Input {
	in := Input{
		Autoscaler: &autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u", Generation: 3, ResourceVersion: "9"},
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"},
				MinReplicas:    new(int32(1)), MaxReplicas: 10,
				Metrics: []autoscalingv2.MetricSpec{{
					Type: autoscalingv2.ResourceMetricSourceType,
					Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{
						Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(50)),
					}},
				}},
			},
		},
		Scale: Scale{
			Resource: schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, ResourceVersion: "7",
			SpecReplicas: int32(len(usage)), StatusReplicas: int32(len(usage)), Selector: "app=web",
		},
		Usage: map[string]PodUsage{}, Now: now,
	}
	for i, value := range usage {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("p%d", i), Labels: map[string]string{"app": "web"}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")},
			}}}},
			Status: corev1.PodStatus{
				Phase: corev1.PodRunning, StartTime: new(metav1.NewTime(now.Add(-time.Hour))),
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-time.Hour))}},
			},
		}
		in.Pods = append(in.Pods, pod)
		in.Usage[pod.Name] = PodUsage{Timestamp: now, Window: 30 * time.Second, Containers: map[string]corev1.ResourceList{
			"main": {corev1.ResourceCPU: *resource.NewMilliQuantity(value, resource.DecimalSI)},
		}}
	}
	return in
}

// external replaces the metrics by an external one, of which there shall be one for each replica.
func external(in Input, values ...string) Input {
	in.Autoscaler.Spec.Metrics = []autoscalingv2.MetricSpec{{
		Type: autoscalingv2.ExternalMetricSourceType,
		External: &autoscalingv2.ExternalMetricSource{
			Metric: autoscalingv2.MetricIdentifier{Name: "jobs"},
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("1"))},
		},
	}}
	in.Measured = make([]Measured, 1)
	for _, value := range values {
		in.Measured[0].Values = append(in.Measured[0].Values, resource.MustParse(value))
	}
	return in
}

func with(in Input, change func(*Input)) Input {
	change(&in)
	return in
}

// reasons are those of the conditions that a decision leaves, with their status.
func reasons(in Input, d Decision) string {
	status := in.Autoscaler.Status
	for _, write := range d.Plan.Writes {
		if write.Verb == plan.UpdateStatus {
			status = write.Object.(*autoscalingv2.HorizontalPodAutoscaler).Status
		}
	}
	var out []string
	for _, c := range status.Conditions {
		out = append(out, fmt.Sprintf("%s=%s:%s", c.Type, c.Status, c.Reason))
	}
	return strings.Join(out, " ")
}

func events(d Decision) []string {
	var out []string
	for _, n := range d.Plan.Notices {
		out = append(out, n.Reason+": "+n.Message)
	}
	for _, write := range d.Plan.Writes {
		if write.OnSuccess != nil {
			out = append(out, write.OnSuccess.Reason+": "+write.OnSuccess.Message)
		}
	}
	return out
}

func TestDecisions(t *testing.T) {
	starting := func(in *Input) {
		in.Pods[1].Status.StartTime = new(metav1.NewTime(now.Add(-time.Minute)))
		in.Pods[1].Status.Conditions[0].LastTransitionTime = metav1.NewTime(now.Add(-10 * time.Second))
	}
	const (
		rescaled = "AbleToScale=True:SucceededRescale ScalingActive=True:ValidMetricFound ScalingLimited=False:DesiredWithinRange ScaledToZero=False:NotScaledToZero"
		limited  = "AbleToScale=True:SucceededRescale ScalingActive=True:ValidMetricFound ScalingLimited=True:%s ScaledToZero=False:NotScaledToZero"
		steady   = "AbleToScale=True:ReadyForNewScale ScalingActive=True:ValidMetricFound ScalingLimited=False:DesiredWithinRange"
		unable   = "AbleToScale=True:SucceededGetScale ScalingActive=False:%s"
	)
	above := func(n int) []string {
		return []string{fmt.Sprintf("SuccessfulRescale: New size: %d; reason: cpu resource utilization (percentage of request) above target", n)}
	}
	tests := map[string]struct {
		in       Input
		replicas int32
		reasons  string
		events   []string
	}{
		"usage above target asks for more":            {cpuAt(100, 100), 4, rescaled, above(4)},
		"usage within 10% of the target changes none": {cpuAt(55, 55), 2, steady, nil},
		"an autoscaler may be more exact": {with(cpuAt(55, 55), func(in *Input) {
			in.Autoscaler.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscalingv2.HPAScalingRules{Tolerance: new(resource.MustParse("0.05"))}}
		}), 3, rescaled, above(3)},
		"usage below target takes none away for five minutes": {
			cpuAt(10, 10, 10), 3,
			"AbleToScale=True:ScaleDownStabilized ScalingActive=True:ValidMetricFound ScalingLimited=False:DesiredWithinRange", nil,
		},
		"and then does": {
			with(cpuAt(10, 10, 10), func(in *Input) {
				in.State.Recommendations = []Recommendation{{3, now.Add(-5*time.Minute - time.Second)}}
			}), 1, rescaled, []string{"SuccessfulRescale: New size: 1; reason: All metrics below target"},
		},
		"four or twice as many in one step": {cpuAt(500), 4, fmt.Sprintf(limited, "ScaleUpLimit"), above(4)},
		"no more than the maximum":          {cpuAt(100, 100, 100, 100, 100, 100), 10, fmt.Sprintf(limited, "TooManyReplicas"), above(10)},
		"a policy allows one pod a minute": {with(cpuAt(100, 100), func(in *Input) {
			in.Autoscaler.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscalingv2.HPAScalingRules{
				Policies: []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: 1, PeriodSeconds: 60}},
			}}
		}), 3, fmt.Sprintf(limited, "ScaleUpLimit"), above(3)},
		"a pod without a sample counts as idle on the way up":       {with(cpuAt(100, 100), func(in *Input) { delete(in.Usage, "p1") }), 2, steady, nil},
		"a pod that starts counts as idle on the way up":            {with(cpuAt(100, 100), starting), 2, steady, nil},
		"a pod that goes does not count":                            {with(cpuAt(100, 100), func(in *Input) { in.Pods[1].DeletionTimestamp = new(metav1.NewTime(now)) }), 2, steady, nil},
		"more than the maximum is cut without a look at metrics":    {with(cpuAt(1), func(in *Input) { in.Scale.SpecReplicas = 12 }), 10, "AbleToScale=True:SucceededRescale ScaledToZero=False:NotScaledToZero", []string{"SuccessfulRescale: New size: 10; reason: Current number of replicas above Spec.MaxReplicas"}},
		"less than the minimum is raised without a look at metrics": {with(cpuAt(1), func(in *Input) { in.Autoscaler.Spec.MinReplicas = new(int32(2)) }), 2, "AbleToScale=True:SucceededRescale ScaledToZero=False:NotScaledToZero", []string{"SuccessfulRescale: New size: 2; reason: Current number of replicas below Spec.MinReplicas"}},
		"a target set to zero by hand stays there":                  {external(cpuAt(), "9"), 0, "AbleToScale=True:SucceededGetScale ScalingActive=False:ScalingDisabled", nil},
		"no jobs, no replicas": {
			with(external(cpuAt(1), "0"), func(in *Input) {
				in.Autoscaler.Spec.MinReplicas = new(int32(0))
				in.State.Recommendations = []Recommendation{{1, now.Add(-time.Hour)}}
			}), 0,
			"AbleToScale=True:SucceededRescale ScalingActive=True:ValidMetricFound ScalingLimited=False:DesiredWithinRange ScaledToZero=True:ScaledToZero",
			[]string{"SuccessfulRescale: New size: 0; reason: All metrics below target"},
		},
		"jobs wake what had none": {
			with(external(cpuAt(), "3"), func(in *Input) {
				in.Autoscaler.Status.Conditions = []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.ScaledToZero, Status: corev1.ConditionTrue}}
			}), 3,
			"ScaledToZero=False:NotScaledToZero AbleToScale=True:SucceededRescale ScalingActive=True:ValidMetricFound ScalingLimited=False:DesiredWithinRange",
			[]string{"SuccessfulRescale: New size: 3; reason: external metric jobs(nil) above target"},
		},
		"no samples": {with(cpuAt(1), func(in *Input) { in.Usage = nil }), 1, fmt.Sprintf(unable, "FailedGetResourceMetric"), []string{
			"FailedGetResourceMetric: failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API",
			"FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API",
		}},
		"a metric that fails does not keep others from asking for more": {with(cpuAt(100, 100), func(in *Input) {
			in.Autoscaler.Spec.Metrics = append(in.Autoscaler.Spec.Metrics, external(cpuAt()).Autoscaler.Spec.Metrics...)
			in.Measured = []Measured{{}, {Err: fmt.Errorf("gone")}}
		}), 4, rescaled, append([]string{"FailedGetExternalMetric: unable to get external metric shop/jobs/nil: unable to fetch metrics from external metrics API: gone"}, above(4)...)},
		"no request": {with(cpuAt(1), func(in *Input) { in.Pods[0].Spec.Containers[0].Resources.Requests = nil }), 1, fmt.Sprintf(unable, "FailedGetResourceMetric"), []string{
			"FailedGetResourceMetric: failed to get cpu utilization: missing request for cpu in container main of Pod p0",
			"FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization: missing request for cpu in container main of Pod p0",
		}},
		"no selector": {with(cpuAt(1), func(in *Input) { in.Scale.Selector = "" }), 1, fmt.Sprintf(unable, "InvalidSelector"), []string{
			"SelectorRequired: selector is required", "FailedComputeMetricsReplicas: selector is required",
		}},
		"two autoscalers of one pod": {with(cpuAt(1), func(in *Input) { in.Others = []Selecting{{"api", "app"}} }), 1, fmt.Sprintf(unable, "AmbiguousSelector"), []string{
			"AmbiguousSelector: pods by selector app=web are controlled by more than one HPA (e.g. [shop/api shop/web])",
			"FailedComputeMetricsReplicas: pods by selector app=web are controlled by more than one HPA (e.g. [shop/api shop/web])",
		}},
		"no target": {with(cpuAt(1), func(in *Input) { in.Scale.Err = fmt.Errorf(`deployments.apps "web" not found`) }), 1, "AbleToScale=False:FailedGetScale", []string{
			`FailedGetScale: deployments.apps "web" not found`,
		}},
		"a scale that cannot be written": {with(cpuAt(100, 100), func(in *Input) { in.Refused = fmt.Errorf("denied") }), 2, "AbleToScale=False:FailedUpdateScale ScalingActive=True:ValidMetricFound ScalingLimited=False:DesiredWithinRange", []string{
			"FailedRescale: New size: 4; reason: cpu resource utilization (percentage of request) above target; error: denied",
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := Decide(test.in)
			if d.Replicas != test.replicas {
				t.Errorf("%d replicas, want %d", d.Replicas, test.replicas)
			}
			if diff := cmp.Diff(test.reasons, reasons(test.in, d)); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.events, events(d)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAScaleIsWrittenOnTheVersionDecidedOn(t *testing.T) {
	in := cpuAt(100, 100)
	in.State.Recommendations = []Recommendation{{2, now.Add(-time.Minute)}}
	d := Decide(in)
	if len(d.Plan.Writes) != 2 {
		t.Fatalf("%d writes, want the scale's and the status's", len(d.Plan.Writes))
	}
	scale, status := d.Plan.Writes[0], d.Plan.Writes[1]
	if scale.Verb != plan.Update || scale.Subresource != plan.Scale {
		t.Errorf("%s %s, want an update of the scale", scale.Verb, scale.Subresource)
	}
	if diff := cmp.Diff(&autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", ResourceVersion: "7"}, Spec: autoscalingv1.ScaleSpec{Replicas: 4},
	}, scale.Object); diff != "" {
		t.Errorf("the scale (-want +got):\n%s", diff)
	}
	got := status.Object.(*autoscalingv2.HorizontalPodAutoscaler).Status
	got.Conditions = nil
	want := autoscalingv2.HorizontalPodAutoscalerStatus{
		ObservedGeneration: new(int64(3)), LastScaleTime: new(metav1.NewTime(now)), CurrentReplicas: 2, DesiredReplicas: 4,
		CurrentMetrics: []autoscalingv2.MetricStatus{{
			Type: autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricStatus{Name: corev1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{
				AverageUtilization: new(int32(100)), AverageValue: resource.NewMilliQuantity(100, resource.DecimalSI),
			}},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(State{Recommendations: []Recommendation{{2, now.Add(-time.Minute)}, {4, now}}}, d.State); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

func TestAStatusThatStandsIsNotWritten(t *testing.T) {
	in := cpuAt(50)
	first := Decide(in)
	in.Autoscaler = first.Plan.Writes[0].Object.(*autoscalingv2.HorizontalPodAutoscaler)
	in.State, in.Now = first.State, now.Add(15*time.Second)
	if second := Decide(in); !second.Plan.Empty() {
		t.Errorf("a settled autoscaler gets %+v", second.Plan)
	}
}

func TestTheWindowsEndIsDue(t *testing.T) {
	in := cpuAt(10, 10, 10)
	in.State.Recommendations = []Recommendation{{3, now.Add(-2 * time.Minute)}, {2, now.Add(-time.Minute)}}
	due := func(in Input) (Decision, time.Time) {
		d := Decide(in)
		if len(d.Plan.Later) != 1 {
			t.Fatalf("%+v is due, want one", d.Plan.Later)
		}
		return d, d.Plan.Later[0].At
	}
	d, at := due(in)
	if want := now.Add(3*time.Minute + past); d.Replicas != 3 || !at.Equal(want) {
		t.Fatalf("%d replicas until %s, want 3 until %s", d.Replicas, at, want)
	}
	in.State, in.Now = d.State, at
	d, at = due(in)
	if want := now.Add(4*time.Minute + past); d.Replicas != 2 || !at.Equal(want) {
		t.Fatalf("%d replicas until %s, want 2 until %s", d.Replicas, at, want)
	}
	in.State, in.Now = d.State, at
	if d, at = due(in); d.Replicas != 1 || !at.IsZero() {
		t.Fatalf("%d replicas until %s, want 1, and what is due taken back", d.Replicas, at)
	}
}
