package autoscaling

import (
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// proposal is what a metric asks for.
type proposal struct {
	replicas int32
	// metric as it is named in events and conditions.
	metric string
	status autoscalingv2.MetricStatus
}

// failure is why a metric asks for nothing.
type failure struct {
	// reason of the event and of the condition.
	reason string
	// cause is what they say, full what the sum of all failures says.
	cause, full error
}

// propose is the most that any metric asks for. If some cannot be read, that counts unless it is fewer
// replicas than there are. An error says that nothing can be proposed.
//
// Upstream: computeReplicasForMetrics (horizontal.go).
func (d *decision) propose() (proposal, error) {
	if err := d.choose(); err != nil {
		return proposal{}, err
	}
	specs := d.in.Autoscaler.Spec.Metrics
	d.metrics = make([]autoscalingv2.MetricStatus, len(specs))
	var most proposal
	var first *failure
	invalid := 0
	for i := range specs {
		p, failed := d.ask(i)
		if failed != nil {
			d.warn(failed.reason, failed.cause.Error())
			if invalid++; first == nil {
				first = failed
			}
			continue
		}
		d.metrics[i] = p.status
		if most.replicas == 0 || p.replicas > most.replicas {
			most = p
		}
	}
	if first != nil && (invalid == len(specs) || most.replicas < d.in.Scale.SpecReplicas) {
		d.condition(autoscalingv2.ScalingActive, corev1.ConditionFalse, first.reason, fmt.Sprintf("the HPA was unable to compute the replica count: %v", first.cause))
		return proposal{}, fmt.Errorf("invalid metrics (%v invalid out of %v), first error is: %w", invalid, len(specs), first.full)
	}
	d.condition(autoscalingv2.ScalingActive, corev1.ConditionTrue, "ValidMetricFound",
		fmt.Sprintf("the HPA was able to successfully calculate a replica count from %s", most.metric))
	return most, nil
}

// ask is what one metric of the spec asks for.
//
// Upstream: computeReplicasForMetric (horizontal.go).
func (d *decision) ask(i int) (proposal, *failure) {
	spec := d.in.Autoscaler.Spec.Metrics[i]
	var measured Measured
	if i < len(d.in.Measured) {
		measured = d.in.Measured[i]
	}
	switch {
	case spec.Type == autoscalingv2.ObjectMetricSourceType && spec.Object != nil:
		return d.object(spec.Object, measured)
	case spec.Type == autoscalingv2.PodsMetricSourceType && spec.Pods != nil:
		return d.perPod(spec.Pods, measured)
	case spec.Type == autoscalingv2.ResourceMetricSourceType && spec.Resource != nil:
		return d.resource(spec.Resource)
	case spec.Type == autoscalingv2.ContainerResourceMetricSourceType && spec.ContainerResource != nil:
		return d.containerResource(spec.ContainerResource)
	case spec.Type == autoscalingv2.ExternalMetricSourceType && spec.External != nil:
		return d.external(spec.External, measured)
	}
	err := fmt.Errorf("unknown metric source type %q", string(spec.Type))
	return proposal{}, &failure{"InvalidMetricSourceType", err, err}
}

// calculator is upstream's, over the pods that were chosen.
func (d *decision) calculator() Calculator {
	return Calculator{Pods: d.pods, Tolerance: tolerance(d.in.Autoscaler.Spec.Behavior), Now: d.in.Now}
}

// object follows computeStatusForObjectMetric (horizontal.go).
func (d *decision) object(spec *autoscalingv2.ObjectMetricSource, measured Measured) (proposal, *failure) {
	fail := func(cause, full error) (proposal, *failure) {
		return proposal{}, &failure{"FailedGetObjectMetric", cause, fmt.Errorf("failed to get object metric value: %w", full)}
	}
	if _, err := metav1.LabelSelectorAsSelector(spec.Metric.Selector); err != nil {
		return fail(err, err)
	}
	value, err := measured.object()
	if err != nil {
		err = fmt.Errorf("unable to get metric %s on %s %s/%s: %w", spec.Metric.Name, spec.DescribedObject.Kind, d.in.Autoscaler.Namespace, spec.DescribedObject.Name, err)
	}
	current := autoscalingv2.MetricValueStatus{}
	var replicas int32
	var metric string
	switch {
	case spec.Target.Type == autoscalingv2.ValueMetricType && spec.Target.Value != nil:
		if err == nil {
			replicas, err = d.calculator().Total(d.in.Scale.SpecReplicas, spec.Target.Value.MilliValue(), value)
		}
		if err != nil {
			return fail(err, err)
		}
		current.Value = resource.NewMilliQuantity(value, resource.DecimalSI)
		metric = fmt.Sprintf("%s metric %s", spec.DescribedObject.Kind, spec.Metric.Name)
	case spec.Target.Type == autoscalingv2.AverageValueMetricType && spec.Target.AverageValue != nil:
		if err != nil {
			return fail(err, fmt.Errorf("failed to get %s object metric: %w", spec.Metric.Name, err))
		}
		var average int64
		replicas, average = d.calculator().ObjectAverage(d.in.Scale.StatusReplicas, spec.Target.AverageValue.MilliValue(), value)
		current.AverageValue = resource.NewMilliQuantity(average, resource.DecimalSI)
		metric = fmt.Sprintf("external metric %s(%+v)", spec.Metric.Name, spec.Metric.Selector)
	default:
		err := fmt.Errorf("invalid object metric source: neither a value target nor an average value target was set")
		return fail(err, err)
	}
	return proposal{replicas, metric, autoscalingv2.MetricStatus{
		Type: autoscalingv2.ObjectMetricSourceType,
		Object: &autoscalingv2.ObjectMetricStatus{
			DescribedObject: spec.DescribedObject, Current: current,
			Metric: autoscalingv2.MetricIdentifier{Name: spec.Metric.Name, Selector: spec.Metric.Selector},
		},
	}}, nil
}

// perPod follows computeStatusForPodsMetric (horizontal.go).
func (d *decision) perPod(spec *autoscalingv2.PodsMetricSource, measured Measured) (proposal, *failure) {
	fail := func(err error) (proposal, *failure) {
		return proposal{}, &failure{"FailedGetPodsMetric", err, fmt.Errorf("failed to get pods metric value: %w", err)}
	}
	if _, err := metav1.LabelSelectorAsSelector(spec.Metric.Selector); err != nil {
		return fail(err)
	}
	if spec.Target.AverageValue == nil {
		return fail(fmt.Errorf("invalid pods metric source: no average value target was set"))
	}
	samples, err := d.podValues(measured)
	if err != nil {
		return fail(fmt.Errorf("unable to get metric %s: %w", spec.Metric.Name, err))
	}
	replicas, average, err := d.calculator().Average(d.in.Scale.SpecReplicas, spec.Target.AverageValue.MilliValue(), "", samples)
	if err != nil {
		return fail(err)
	}
	return proposal{replicas, "pods metric " + spec.Metric.Name, autoscalingv2.MetricStatus{
		Type: autoscalingv2.PodsMetricSourceType,
		Pods: &autoscalingv2.PodsMetricStatus{
			Metric:  autoscalingv2.MetricIdentifier{Name: spec.Metric.Name, Selector: spec.Metric.Selector},
			Current: autoscalingv2.MetricValueStatus{AverageValue: resource.NewMilliQuantity(average, resource.DecimalSI)},
		},
	}}, nil
}

// resource follows computeStatusForResourceMetric (horizontal.go).
func (d *decision) resource(spec *autoscalingv2.ResourceMetricSource) (proposal, *failure) {
	p, current, err := d.usage(spec.Name, "", spec.Target)
	if err != nil {
		return proposal{}, &failure{"FailedGetResourceMetric", err, fmt.Errorf("failed to get %s resource metric value: %w", spec.Name, err)}
	}
	p.status = autoscalingv2.MetricStatus{
		Type:     autoscalingv2.ResourceMetricSourceType,
		Resource: &autoscalingv2.ResourceMetricStatus{Name: spec.Name, Current: current},
	}
	return p, nil
}

// containerResource follows computeStatusForContainerResourceMetric (horizontal.go).
func (d *decision) containerResource(spec *autoscalingv2.ContainerResourceMetricSource) (proposal, *failure) {
	p, current, err := d.usage(spec.Name, spec.Container, spec.Target)
	if err != nil {
		return proposal{}, &failure{"FailedGetContainerResourceMetric", err, fmt.Errorf("failed to get %s container metric value: %w", spec.Container, err)}
	}
	p.status = autoscalingv2.MetricStatus{
		Type:              autoscalingv2.ContainerResourceMetricSourceType,
		ContainerResource: &autoscalingv2.ContainerResourceMetricStatus{Name: spec.Name, Container: spec.Container, Current: current},
	}
	return p, nil
}

// usage is what the usage of a resource asks for, of one container if it is named. An average value has
// precedence.
//
// Upstream: computeStatusForResourceMetricGeneric (horizontal.go).
func (d *decision) usage(name corev1.ResourceName, container string, target autoscalingv2.MetricTarget) (proposal, autoscalingv2.MetricValueStatus, error) {
	var p proposal
	var current autoscalingv2.MetricValueStatus
	if target.AverageValue == nil && target.AverageUtilization == nil {
		return p, current, fmt.Errorf("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")
	}
	samples, err := d.samples(name, container)
	if err != nil {
		err = fmt.Errorf("unable to get metrics for resource %s: %w", name, err)
	}
	var average int64
	if target.AverageValue != nil {
		if err == nil {
			p.replicas, average, err = d.calculator().Average(d.in.Scale.SpecReplicas, target.AverageValue.MilliValue(), name, samples)
		}
		if err != nil {
			return p, current, fmt.Errorf("failed to get %s usage: %w", name, err)
		}
		p.metric = fmt.Sprintf("%s resource", name)
	} else {
		var u Utilization
		if err == nil {
			u, err = d.calculator().Utilization(d.in.Scale.SpecReplicas, *target.AverageUtilization, name, container, samples)
		}
		if err != nil {
			return p, current, fmt.Errorf("failed to get %s utilization: %w", name, err)
		}
		p.replicas, average, current.AverageUtilization = u.Replicas, u.Average, &u.Percent
		p.metric = fmt.Sprintf("%s resource utilization (percentage of request)", name)
		if container != "" {
			p.metric = fmt.Sprintf("%s container resource utilization (percentage of request)", name)
		}
	}
	// Memory is written in the format in which the metrics server gives it. Upstream: buildQuantity.
	format := resource.DecimalSI
	if name == corev1.ResourceMemory {
		format = resource.BinarySI
	}
	current.AverageValue = resource.NewMilliQuantity(average, format)
	return p, current, nil
}

// external follows computeStatusForExternalMetric (horizontal.go). An average value has precedence.
func (d *decision) external(spec *autoscalingv2.ExternalMetricSource, measured Measured) (proposal, *failure) {
	name, namespace := spec.Metric.Name, d.in.Autoscaler.Namespace
	fail := func(cause, full error) (proposal, *failure) {
		return proposal{}, &failure{"FailedGetExternalMetric", cause, fmt.Errorf("failed to get %s external metric value: %w", name, full)}
	}
	_, err := metav1.LabelSelectorAsSelector(spec.Metric.Selector)
	var values []int64
	if err == nil {
		if values, err = measured.external(); err != nil {
			err = fmt.Errorf("unable to get external metric %s/%s/%+v: %w", namespace, name, spec.Metric.Selector, err)
		}
	}
	var replicas int32
	var current autoscalingv2.MetricValueStatus
	switch {
	case spec.Target.AverageValue != nil:
		if err != nil {
			return fail(err, fmt.Errorf("failed to get %s external metric: %w", name, err))
		}
		var average int64
		replicas, average = d.calculator().ExternalAverage(d.in.Scale.StatusReplicas, spec.Target.AverageValue.MilliValue(), values)
		current.AverageValue = resource.NewMilliQuantity(average, resource.DecimalSI)
	case spec.Target.Value != nil:
		total := Sum(values)
		if err == nil {
			replicas, err = d.calculator().Total(d.in.Scale.SpecReplicas, spec.Target.Value.MilliValue(), total)
		}
		if err != nil {
			return fail(err, fmt.Errorf("failed to get external metric %s: %w", name, err))
		}
		current.Value = resource.NewMilliQuantity(total, resource.DecimalSI)
	default:
		err := fmt.Errorf("invalid external metric source: neither a value target nor an average value target was set")
		return fail(err, err)
	}
	return proposal{replicas, fmt.Sprintf("external metric %s(%+v)", name, spec.Metric.Selector), autoscalingv2.MetricStatus{
		Type: autoscalingv2.ExternalMetricSourceType,
		External: &autoscalingv2.ExternalMetricStatus{
			Metric:  autoscalingv2.MetricIdentifier{Name: name, Selector: spec.Metric.Selector},
			Current: current,
		},
	}}, nil
}
