package autoscaling

import (
	"fmt"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/core/plan"
)

// The defaults of kube-controller-manager's flags. Upstream: config/v1alpha1/defaults.go.
const (
	syncPeriod              = 15 * time.Second
	downscaleStabilization  = 5 * time.Minute
	cpuInitialization       = 5 * time.Minute
	initialReadinessDelay   = 30 * time.Second
	defaultTolerance        = 0.1
	defaultMinReplicas      = 1
	component               = "horizontal-pod-autoscaler"
	failedGetScale          = "FailedGetScale"
	failedGetScaleCondition = "the HPA controller was unable to get the target's current scale: %v"
)

// Input is an autoscaler and all that is known about what it scales.
type Input struct {
	Autoscaler *autoscalingv2.HorizontalPodAutoscaler
	Scale      Scale
	// Pods of the autoscaler's namespace. Those that the scale's selector does not match may be left out.
	Pods []*corev1.Pod
	// Others are the other autoscalers of the namespace.
	Others []Selecting
	// Usage is what metrics.k8s.io has of the pods, by the pods' names, and UsageErr why it cannot be read.
	Usage    map[string]PodUsage
	UsageErr error
	// Measured has, for each metric of the autoscaler's spec by its index, what it was seen to be. It is
	// not looked at for resource metrics.
	Measured []Measured
	// State is what the last decision about this autoscaler left, zero if there was none.
	State State
	// Refused is why the server refused to write the scale, when the last decision was on this very
	// input and asked for that. That decision's State is not kept.
	Refused error
	Now     time.Time
}

// Scale is the scale subresource of the target.
type Scale struct {
	// Resource of the target, such as deployments of apps/v1.
	Resource schema.GroupVersionResource
	// ResourceVersion of the target.
	ResourceVersion string
	// SpecReplicas are asked for, StatusReplicas are there.
	SpecReplicas, StatusReplicas int32
	// Selector of the target's pods, as status.selector writes it.
	Selector string
	// Err says why there is no scale, such as that the target does not exist. nil if there is.
	Err error
}

// Selecting is another autoscaler, and the selector of its target as it writes it.
type Selecting struct {
	Name, Selector string
}

// PodUsage is the usage of a pod over a window of time that ends at Timestamp.
type PodUsage struct {
	Timestamp  time.Time
	Window     time.Duration
	Containers map[string]corev1.ResourceList
}

// Measured is the value of a metric that is not a resource.
type Measured struct {
	// Pods has the value for each pod, by name, of a Pods metric.
	Pods map[string]resource.Quantity
	// Values has the one value of an Object metric, or all those of an External metric.
	Values []resource.Quantity
	// Err says why the value cannot be read.
	Err error
}

// Decision is what is to be done about an autoscaler.
type Decision struct {
	Plan plan.Plan
	// State is what the next decision needs to know.
	State State
	// Replicas that the target is to have: those it has, if they are not to change.
	Replicas int32
}

// decision is a decision in the making.
type decision struct {
	in Input
	// changed is the autoscaler with its new status.
	changed *autoscalingv2.HorizontalPodAutoscaler
	state   State
	plan    plan.Plan
	// selector is the scale's, and pods are those that it matches.
	selector labels.Selector
	pods     []*corev1.Pod
	// metrics becomes status.currentMetrics.
	metrics []autoscalingv2.MetricStatus
	// reason for another number of replicas.
	reason string
}

// Decide says how many replicas the target of an autoscaler is to have, and what its status is then.
//
// Upstream: reconcileAutoscaler (horizontal.go).
func Decide(in Input) Decision {
	d := &decision{in: in, changed: in.Autoscaler.DeepCopy(), state: in.State.clone()}
	current := in.Scale.SpecReplicas
	d.plan.Reads = []plan.Read{{Resource: plan.Autoscalers, Namespace: in.Autoscaler.Namespace, Name: in.Autoscaler.Name}}

	// 1. The target.
	if err := in.scaleErr(); err != nil {
		d.warn(failedGetScale, err.Error())
		d.condition(autoscalingv2.AbleToScale, corev1.ConditionFalse, failedGetScale, fmt.Sprintf(failedGetScaleCondition, err))
		return d.done(current)
	}
	d.plan.Reads = append(d.plan.Reads, plan.Read{Resource: in.Scale.Resource, Namespace: in.Autoscaler.Namespace, Name: in.target()})
	d.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	d.state.begin(current, in.Now)

	// 2. How many replicas there should be.
	desired, err := d.desired()
	if err != nil {
		d.status(in.Autoscaler.Status.DesiredReplicas, false)
		d.warn("FailedComputeMetricsReplicas", err.Error())
		return d.done(current)
	}

	// 3. The scale and the status.
	rescale := desired != current
	switch {
	case rescale && in.Refused != nil:
		d.refused(desired)
		return d.done(current)
	case rescale:
		d.rescale(desired)
	}
	d.status(desired, rescale)
	return d.done(desired)
}

// scaleErr is why the target's scale cannot be told.
func (in Input) scaleErr() error {
	if _, err := schema.ParseGroupVersion(in.Autoscaler.Spec.ScaleTargetRef.APIVersion); err != nil {
		return err
	}
	return in.Scale.Err
}

func (in Input) target() string { return in.Autoscaler.Spec.ScaleTargetRef.Name }

func (in Input) minReplicas() int32 {
	if in.Autoscaler.Spec.MinReplicas == nil {
		return defaultMinReplicas
	}
	return *in.Autoscaler.Spec.MinReplicas
}

// desired is how many replicas there should be, within the limits. An error says that this cannot be
// told, and the conditions say so then.
func (d *decision) desired() (int32, error) {
	current, least, most := d.in.Scale.SpecReplicas, d.in.minReplicas(), d.in.Autoscaler.Spec.MaxReplicas
	asleep := scaledToZero(d.in.Autoscaler)
	switch {
	case current == 0 && (!asleep || least == 0 && !wakes(d.in.Autoscaler)):
		d.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
		return 0, nil
	case current > most:
		d.reason = "Current number of replicas above Spec.MaxReplicas"
		d.lookAgain()
		return most, nil
	case current != 0 && current < least:
		d.reason = "Current number of replicas below Spec.MinReplicas"
		d.lookAgain()
		return least, nil
	}
	proposed, err := d.propose()
	if err != nil {
		return 0, err
	}
	wanted := max(proposed.replicas, 0)
	switch {
	case wanted > current:
		d.reason = proposed.metric + " above target"
	case wanted < current:
		d.reason = "All metrics below target"
	}
	desired := d.limit(wanted)
	if current == 0 && desired < least {
		desired = least
		if d.reason == "" {
			d.reason = "Current number of replicas below Spec.MinReplicas"
		}
	}
	return desired, nil
}

// scaledToZero reports whether it was the autoscaler that took the last replica.
//
// Upstream: getScaledToZeroConditionStatus (horizontal.go).
func scaledToZero(a *autoscalingv2.HorizontalPodAutoscaler) bool {
	c := findCondition(a.Status.Conditions, autoscalingv2.ScaledToZero)
	return c != nil && c.Status == corev1.ConditionTrue
}

// wakes reports whether there is a metric that can be told of a target without pods.
//
// Upstream: hasObjectOrExternalMetrics (horizontal.go).
func wakes(a *autoscalingv2.HorizontalPodAutoscaler) bool {
	for _, metric := range a.Spec.Metrics {
		if metric.Type == autoscalingv2.ObjectMetricSourceType || metric.Type == autoscalingv2.ExternalMetricSourceType {
			return true
		}
	}
	return false
}
