package apiserver

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/metrics/pkg/apis/metrics"
	metricsinstall "k8s.io/metrics/pkg/apis/metrics/install"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// Measurements are what metrics.k8s.io answers from. Lists are in the order of the objects. Of one object there is
// nil if nothing was measured; exists says whether the object is there.
type Measurements interface {
	PodMetrics(ctx context.Context, namespace string) ([]metrics.PodMetrics, error)
	PodMetricsOf(ctx context.Context, namespace, name string) (m *metrics.PodMetrics, exists bool, err error)
	NodeMetrics(ctx context.Context) ([]metrics.NodeMetrics, error)
	NodeMetricsOf(ctx context.Context, name string) (m *metrics.NodeMetrics, exists bool, err error)
}

var (
	metricsScheme = newMetricsScheme()
	metricsCodecs = serializer.NewCodecFactory(metricsScheme)
)

func newMetricsScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	metricsinstall.Install(s)
	v1 := schema.GroupVersion{Version: "v1"}
	metav1.AddToGroupVersion(s, v1)
	s.AddUnversionedTypes(v1, &metav1.Status{}, &metav1.APIVersions{}, &metav1.APIGroupList{}, &metav1.APIGroup{}, &metav1.APIResourceList{})
	return s
}

// metricsGroup provides metrics.k8s.io, which upstream leaves to an extension, as the metrics server does
// (sigs.k8s.io/metrics-server/pkg/api).
type metricsGroup struct{ measured Measurements }

// GroupName implements controlplane's RESTStorageProvider.
func (metricsGroup) GroupName() string { return metrics.GroupName }

// NewRESTStorage implements controlplane's RESTStorageProvider.
func (g metricsGroup) NewRESTStorage(source serverstorage.APIResourceConfigSource, _ generic.RESTOptionsGetter) (genericapiserver.APIGroupInfo, error) {
	info := genericapiserver.NewDefaultAPIGroupInfo(metrics.GroupName, metricsScheme, metav1.ParameterCodec, metricsCodecs)
	gv := metricsv1beta1.SchemeGroupVersion
	if g.measured == nil || !source.ResourceEnabled(gv.WithResource("pods")) {
		return info, nil
	}
	// The types have a v1 that nobody serves yet, and it would be the preferred version.
	info.PrioritizedVersions = []schema.GroupVersion{gv}
	info.VersionedResourcesStorageMap[gv.Version] = map[string]rest.Storage{"pods": podMetrics(g), "nodes": nodeMetrics(g)}
	return info, nil
}

// podMetrics serves what was measured of pods.
type podMetrics struct{ measured Measurements }

var _ interface {
	rest.Getter
	rest.Lister
	rest.Scoper
	rest.KindProvider
	rest.SingularNameProvider
} = podMetrics{}

// New implements rest.Storage.
func (podMetrics) New() runtime.Object { return &metrics.PodMetrics{} }

// Destroy implements rest.Storage.
func (podMetrics) Destroy() {}

// NewList implements rest.Lister.
func (podMetrics) NewList() runtime.Object { return &metrics.PodMetricsList{} }

// Kind implements rest.KindProvider.
func (podMetrics) Kind() string { return "PodMetrics" }

// NamespaceScoped implements rest.Scoper.
func (podMetrics) NamespaceScoped() bool { return true }

// GetSingularName implements rest.SingularNameProvider. The metrics server's is empty, and kubectl then knows only
// pods by their singular.
func (podMetrics) GetSingularName() string { return "" }

// Get implements rest.Getter.
func (p podMetrics) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	namespace := request.NamespaceValue(ctx)
	m, exists, err := p.measured.PodMetricsOf(ctx, namespace, name)
	switch {
	case err != nil:
		return nil, err
	case !exists:
		return nil, apierrors.NewNotFound(corev1.Resource("pods"), name)
	case m == nil:
		return nil, apierrors.NewNotFound(metrics.Resource("podmetrics"), fmt.Sprintf("%s/%s", namespace, name))
	}
	return m, nil
}

// List implements rest.Lister.
func (p podMetrics) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	all, err := p.measured.PodMetrics(ctx, request.NamespaceValue(ctx))
	if err != nil {
		return nil, err
	}
	out := &metrics.PodMetricsList{Items: []metrics.PodMetrics{}}
	for i := range all {
		if selects(options, &all[i].ObjectMeta, true) {
			out.Items = append(out.Items, all[i])
		}
	}
	return out, nil
}

// ConvertToTable implements rest.TableConvertor.
func (podMetrics) ConvertToTable(_ context.Context, object, _ runtime.Object) (*metav1.Table, error) {
	table := &metav1.Table{}
	switch m := object.(type) {
	case *metrics.PodMetrics:
		addPods(table, *m)
	case *metrics.PodMetricsList:
		table.ResourceVersion, table.Continue = m.ResourceVersion, m.Continue
		addPods(table, m.Items...)
	}
	return table, nil
}

func addPods(table *metav1.Table, pods ...metrics.PodMetrics) {
	for _, pod := range pods {
		sum := corev1.ResourceList{}
		for _, c := range pod.Containers {
			for name, used := range c.Usage {
				total := sum[name]
				total.Add(used)
				sum[name] = total
			}
		}
		addRow(table, measuredRow{pod.Name, sum, pod.Window, &pod})
	}
}

// nodeMetrics serves what was measured of nodes.
type nodeMetrics struct{ measured Measurements }

var _ interface {
	rest.Getter
	rest.Lister
	rest.Scoper
	rest.KindProvider
	rest.SingularNameProvider
} = nodeMetrics{}

// New implements rest.Storage.
func (nodeMetrics) New() runtime.Object { return &metrics.NodeMetrics{} }

// Destroy implements rest.Storage.
func (nodeMetrics) Destroy() {}

// NewList implements rest.Lister.
func (nodeMetrics) NewList() runtime.Object { return &metrics.NodeMetricsList{} }

// Kind implements rest.KindProvider.
func (nodeMetrics) Kind() string { return "NodeMetrics" }

// NamespaceScoped implements rest.Scoper.
func (nodeMetrics) NamespaceScoped() bool { return false }

// GetSingularName implements rest.SingularNameProvider, as podMetrics does.
func (nodeMetrics) GetSingularName() string { return "" }

// Get implements rest.Getter.
func (n nodeMetrics) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	m, exists, err := n.measured.NodeMetricsOf(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case !exists:
		return nil, apierrors.NewNotFound(corev1.Resource("nodes"), name)
	case m == nil:
		return nil, apierrors.NewNotFound(metrics.Resource("nodemetrics"), name)
	}
	return m, nil
}

// List implements rest.Lister.
func (n nodeMetrics) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	all, err := n.measured.NodeMetrics(ctx)
	if err != nil {
		return nil, err
	}
	out := &metrics.NodeMetricsList{Items: []metrics.NodeMetrics{}}
	for i := range all {
		if selects(options, &all[i].ObjectMeta, false) {
			out.Items = append(out.Items, all[i])
		}
	}
	return out, nil
}

// ConvertToTable implements rest.TableConvertor.
func (nodeMetrics) ConvertToTable(_ context.Context, object, _ runtime.Object) (*metav1.Table, error) {
	table := &metav1.Table{}
	add := func(n *metrics.NodeMetrics) { addRow(table, measuredRow{n.Name, n.Usage, n.Window, n}) }
	switch m := object.(type) {
	case *metrics.NodeMetrics:
		add(m)
	case *metrics.NodeMetricsList:
		table.ResourceVersion, table.Continue = m.ResourceVersion, m.Continue
		for i := range m.Items {
			add(&m.Items[i])
		}
	}
	return table, nil
}

// selects reports whether the selectors of a list match the object that was measured.
func selects(options *metainternalversion.ListOptions, o *metav1.ObjectMeta, namespaced bool) bool {
	if options == nil {
		return true
	}
	if options.LabelSelector != nil && !options.LabelSelector.Matches(labels.Set(o.Labels)) {
		return false
	}
	return options.FieldSelector == nil || options.FieldSelector.Matches(generic.AddObjectMetaFieldsSet(fields.Set{}, o, namespaced))
}

// measuredRow is a line of a table.
type measuredRow struct {
	name   string
	usage  corev1.ResourceList
	window metav1.Duration
	object runtime.Object
}

// addRow adds a line; the first one says what the columns are, as in the metrics server (pkg/api/table.go).
func addRow(table *metav1.Table, r measuredRow) {
	names := slices.Sorted(maps.Keys(r.usage))
	if len(table.Rows) == 0 {
		table.ColumnDefinitions = []metav1.TableColumnDefinition{{Name: "Name", Type: "string", Format: "name", Description: "Name of the resource"}}
		for _, name := range names {
			table.ColumnDefinitions = append(table.ColumnDefinitions, metav1.TableColumnDefinition{Name: string(name), Type: "string", Format: "quantity"})
		}
		table.ColumnDefinitions = append(table.ColumnDefinitions, metav1.TableColumnDefinition{Name: "Window", Type: "string", Format: "duration"})
	}
	cells := []any{r.name}
	for _, column := range table.ColumnDefinitions[1 : len(table.ColumnDefinitions)-1] {
		used := r.usage[corev1.ResourceName(column.Name)]
		cells = append(cells, used.String())
	}
	table.Rows = append(table.Rows, metav1.TableRow{
		Cells: append(cells, r.window.Duration.String()), Object: runtime.RawExtension{Object: r.object},
	})
}
