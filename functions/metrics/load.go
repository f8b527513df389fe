package metrics

import (
	"context"
	"errors"
	"sync"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keeper "github.com/zeroplane/zeroplane/adapters/samples"
	"github.com/zeroplane/zeroplane/core/autoscaling"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/samples"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

var (
	autoscalers = plan.Autoscalers.GroupResource()
	pods        = plan.Pods.GroupResource()
)

// errNoCustomMetrics is what upstream's client says where nobody serves custom.metrics.k8s.io
// (k8s.io/metrics/pkg/client/custom_metrics/discovery.go).
var errNoCustomMetrics = errors.New("no custom metrics API (custom.metrics.k8s.io) registered")

// loader loads what autoscalers are decided on. Samples are read once for a batch.
type loader struct {
	*consumer.Batch
	samples *keeper.Keeper

	mu       sync.Mutex
	readings *keeper.Readings
	pods     map[string]podUsage
	external map[string]values
}

type (
	podUsage = map[string]autoscaling.PodUsage
	values   = samples.Values
)

// input returns what an autoscaler is decided on, without its state, or false if there is none.
func (l *loader) input(ctx context.Context, s *consumer.Snapshot, n consumer.Named) (in autoscaling.Input, ok bool, err error) {
	in.Now = l.Now
	if in.Autoscaler, ok, err = consumer.Get[*autoscalingv2.HorizontalPodAutoscaler](s, autoscalers, n.Namespace, n.Name); err != nil || !ok {
		return in, false, err
	}
	if in.Scale, err = l.scale(ctx, s, in.Autoscaler); err != nil || in.Scale.Err != nil {
		return in, err == nil, err
	}
	if in.Pods, err = consumer.List[*corev1.Pod](s, pods, n.Namespace); err != nil {
		return in, false, err
	}
	if in.Others, err = l.others(ctx, s, n); err != nil {
		return in, false, err
	}
	err = l.measure(ctx, &in)
	return in, err == nil, err
}

// others are the other autoscalers of the namespace, with the selectors of their targets.
func (l *loader) others(ctx context.Context, s *consumer.Snapshot, n consumer.Named) ([]autoscaling.Selecting, error) {
	all, err := consumer.List[*autoscalingv2.HorizontalPodAutoscaler](s, autoscalers, n.Namespace)
	if err != nil {
		return nil, err
	}
	var out []autoscaling.Selecting
	for _, a := range all {
		if a.Name == n.Name {
			continue
		}
		scale, err := l.scale(ctx, s, a)
		if err != nil {
			return nil, err
		}
		out = append(out, autoscaling.Selecting{Name: a.Name, Selector: scale.Selector})
	}
	return out, nil
}

// measure adds the samples that the metrics of an autoscaler ask for.
func (l *loader) measure(ctx context.Context, in *autoscaling.Input) (err error) {
	specs := in.Autoscaler.Spec.Metrics
	in.Measured = make([]autoscaling.Measured, len(specs))
	for i, spec := range specs {
		switch spec.Type {
		case autoscalingv2.ResourceMetricSourceType, autoscalingv2.ContainerResourceMetricSourceType:
			if in.Usage, err = l.usage(ctx, in.Autoscaler.Namespace); err != nil {
				return err
			}
		case autoscalingv2.ExternalMetricSourceType:
			if in.Measured[i], err = l.externalValues(ctx, in.Autoscaler.Namespace, spec.External); err != nil {
				return err
			}
		case autoscalingv2.PodsMetricSourceType, autoscalingv2.ObjectMetricSourceType:
			in.Measured[i].Err = errNoCustomMetrics
		}
	}
	return nil
}

// usage is what the pods of a namespace use.
func (l *loader) usage(ctx context.Context, namespace string) (podUsage, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.pods[namespace]; ok {
		return known, nil
	}
	if l.readings == nil {
		readings, err := l.samples.Read(ctx)
		if err != nil {
			return nil, err
		}
		l.readings = readings
	}
	measured, err := l.readings.Pods(namespace)
	if err != nil {
		return nil, err
	}
	out := podUsage{}
	for name, m := range measured {
		out[name] = autoscaling.PodUsage{Timestamp: m.Timestamp, Window: m.Window, Containers: m.Containers}
	}
	l.pods[namespace] = out
	return out, nil
}

// externalValues are those that those of a namespace may read of an external metric. A selector that is none is
// the core's to refuse.
func (l *loader) externalValues(ctx context.Context, namespace string, spec *autoscalingv2.ExternalMetricSource) (autoscaling.Measured, error) {
	var m autoscaling.Measured
	if spec == nil {
		return m, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(orAll(spec.Metric.Selector))
	if err != nil {
		return m, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	all, read := l.external[spec.Metric.Name]
	if !read {
		if all, err = l.samples.External(ctx, spec.Metric.Name); err != nil {
			return m, err
		}
		l.external[spec.Metric.Name] = all
	}
	m.Values = all.Select(namespace, spec.Metric.Name, selector, l.Now)
	return m, nil
}

// orAll is a selector, or the one that matches everything if there is none.
func orAll(s *metav1.LabelSelector) *metav1.LabelSelector {
	if s == nil {
		return &metav1.LabelSelector{}
	}
	return s
}
