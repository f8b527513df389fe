package autoscaling_test

import (
	"context"
	"fmt"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	autoscalingclient "k8s.io/client-go/kubernetes/typed/autoscaling/v2"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	autoscalinglisters "k8s.io/client-go/listers/autoscaling/v2"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/tools/cache"
	customapi "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalapi "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	metricsapi "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	resourceclient "k8s.io/metrics/pkg/client/clientset/versioned/typed/metrics/v1beta1"
	"k8s.io/metrics/pkg/client/custom_metrics"
	"k8s.io/metrics/pkg/client/external_metrics"
)

// podMetrics answers as metrics.k8s.io would: for the pods that there are and that have usage.
type podMetrics struct {
	resourceclient.PodMetricsInterface
	w *world
}

func (c podMetrics) PodMetricses(string) resourceclient.PodMetricsInterface { return c }

func (c podMetrics) List(_ context.Context, opts metav1.ListOptions) (*metricsapi.PodMetricsList, error) {
	if c.w.usageErr != nil {
		return nil, c.w.usageErr
	}
	out := &metricsapi.PodMetricsList{}
	for _, pod := range c.w.selected(opts.LabelSelector) {
		usage, ok := c.w.usage[pod.Name]
		if !ok {
			continue
		}
		item := metricsapi.PodMetrics{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod.Name},
			Timestamp:  metav1.NewTime(usage.Timestamp), Window: metav1.Duration{Duration: usage.Window},
		}
		for name, list := range usage.Containers {
			item.Containers = append(item.Containers, metricsapi.ContainerMetrics{Name: name, Usage: list})
		}
		out.Items = append(out.Items, item)
	}
	return out, nil
}

func (w *world) selected(selector string) []*corev1.Pod {
	parsed, err := labels.Parse(selector)
	if err != nil {
		panic(err)
	}
	var out []*corev1.Pod
	for _, pod := range w.pods {
		if parsed.Matches(labels.Set(pod.Labels)) {
			out = append(out, pod)
		}
	}
	return out
}

type customMetrics struct{ w *world }

func (c customMetrics) RootScopedMetrics() custom_metrics.MetricsInterface { return c }

func (c customMetrics) NamespacedMetrics(string) custom_metrics.MetricsInterface { return c }

func (c customMetrics) GetForObject(_ schema.GroupKind, _, metric string, _ labels.Selector) (*customapi.MetricValue, error) {
	m := c.w.measured[c.w.index(metric)]
	if m.Err != nil {
		return nil, m.Err
	}
	return &customapi.MetricValue{Value: m.Values[0]}, nil
}

func (c customMetrics) GetForObjects(_ schema.GroupKind, selector labels.Selector, metric string, _ labels.Selector) (*customapi.MetricValueList, error) {
	m := c.w.measured[c.w.index(metric)]
	if m.Err != nil {
		return nil, m.Err
	}
	out := &customapi.MetricValueList{}
	for _, pod := range c.w.selected(selector.String()) {
		if value, ok := m.Pods[pod.Name]; ok {
			out.Items = append(out.Items, customapi.MetricValue{DescribedObject: corev1.ObjectReference{Name: pod.Name}, Value: value})
		}
	}
	return out, nil
}

type externalMetrics struct{ w *world }

func (c externalMetrics) NamespacedMetrics(string) external_metrics.MetricsInterface { return c }

func (c externalMetrics) List(metric string, _ labels.Selector) (*externalapi.ExternalMetricValueList, error) {
	m := c.w.measured[c.w.index(metric)]
	if m.Err != nil {
		return nil, m.Err
	}
	out := &externalapi.ExternalMetricValueList{}
	for _, value := range m.Values {
		out.Items = append(out.Items, externalapi.ExternalMetricValue{MetricName: metric, Value: value})
	}
	return out, nil
}

// seen is what upstream's controller did in one look.
type seen struct {
	Looks    int
	Replicas *int32
	Status   *autoscalingv2.HorizontalPodAutoscalerStatus
	Events   []string
}

// api is the rest of the API server.
type api struct {
	apimeta.RESTMapper
	w    *world
	seen seen
}

func (a *api) RESTMappings(kind schema.GroupKind, _ ...string) ([]*apimeta.RESTMapping, error) {
	return []*apimeta.RESTMapping{{Resource: deployments, GroupVersionKind: kind.WithVersion("v1")}}, nil
}

func (a *api) Scales(string) scale.ScaleInterface { return scales{a: a} }

type scales struct {
	scale.ScaleInterface
	a *api
}

func (s scales) Get(context.Context, schema.GroupResource, string, metav1.GetOptions) (*autoscalingv1.Scale, error) {
	w := s.a.w
	if w.scale.Err != nil {
		return nil, w.scale.Err
	}
	return &autoscalingv1.Scale{
		Spec:   autoscalingv1.ScaleSpec{Replicas: w.scale.SpecReplicas},
		Status: autoscalingv1.ScaleStatus{Replicas: w.scale.StatusReplicas, Selector: w.scale.Selector},
	}, nil
}

func (s scales) Update(_ context.Context, _ schema.GroupResource, scale *autoscalingv1.Scale, _ metav1.UpdateOptions) (*autoscalingv1.Scale, error) {
	if s.a.w.refused != nil {
		return nil, s.a.w.refused
	}
	s.a.seen.Replicas = new(scale.Spec.Replicas)
	return scale, nil
}

func (a *api) HorizontalPodAutoscalers(string) autoscalingclient.HorizontalPodAutoscalerInterface {
	return autoscalers{a: a}
}

type autoscalers struct {
	autoscalingclient.HorizontalPodAutoscalerInterface
	a *api
}

func (h autoscalers) UpdateStatus(_ context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, _ metav1.UpdateOptions) (*autoscalingv2.HorizontalPodAutoscaler, error) {
	h.a.seen.Status = hpa.Status.DeepCopy()
	return hpa, nil
}

// Event and the others record what upstream's recorder is told.
func (a *api) Event(_ runtime.Object, kind, reason, message string) {
	a.seen.Events = append(a.seen.Events, kind+" "+reason+" "+message)
}

func (a *api) Eventf(object runtime.Object, kind, reason, format string, args ...any) {
	a.Event(object, kind, reason, fmt.Sprintf(format, args...))
}

func (a *api) AnnotatedEventf(object runtime.Object, _ map[string]string, kind, reason, format string, args ...any) {
	a.Eventf(object, kind, reason, format, args...)
}

// noEvents is where upstream's own recorder would write, if it was not replaced.
type noEvents struct{ coreclient.EventInterface }

func (noEvents) Events(string) coreclient.EventInterface { return noEvents{} }

// informer is one that has synced and is never run: a test fills its store and calls its handler.
type informer struct {
	cache.SharedIndexInformer
	store   cache.Indexer
	handler cache.ResourceEventHandler
}

func newInformer() *informer {
	return &informer{store: cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})}
}

func (i *informer) HasSynced() bool { return true }

func (i *informer) GetStore() cache.Store { return i.store }

func (i *informer) AddEventHandlerWithResyncPeriod(handler cache.ResourceEventHandler, _ time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	i.handler = handler
	return nil, nil
}

type autoscalerInformer struct{ *informer }

func (i autoscalerInformer) Informer() cache.SharedIndexInformer { return i.informer }

func (i autoscalerInformer) Lister() autoscalinglisters.HorizontalPodAutoscalerLister {
	return autoscalinglisters.NewHorizontalPodAutoscalerLister(i.store)
}

// podInformer has the pods in the order of the world: of several without a request, an error names the first.
type podInformer struct {
	*informer
	w *world
}

func (i podInformer) Informer() cache.SharedIndexInformer { return i.informer }

func (i podInformer) Lister() corelisters.PodLister { return podLister{w: i.w} }

type podLister struct {
	corelisters.PodLister
	corelisters.PodNamespaceLister
	w *world
}

func (l podLister) Pods(string) corelisters.PodNamespaceLister { return l }

func (l podLister) List(selector labels.Selector) ([]*corev1.Pod, error) {
	return l.w.selected(selector.String()), nil
}
