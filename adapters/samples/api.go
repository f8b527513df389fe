package samples

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/metrics/pkg/apis/metrics"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/samples"
)

// PodMetrics returns what was measured of the running pods of a namespace, of all if it is empty, in their order.
// Labels are the pods'.
func (k *Keeper) PodMetrics(ctx context.Context, namespace string) ([]metrics.PodMetrics, error) {
	r, err := k.Read(ctx)
	if err != nil {
		return nil, err
	}
	pods, err := r.world.listPods(namespace)
	if err != nil {
		return nil, err
	}
	return r.podMetrics(pods)
}

// PodMetricsOf returns what was measured of one pod, nil if nothing was, and whether there is such a pod.
func (k *Keeper) PodMetricsOf(ctx context.Context, namespace, name string) (*metrics.PodMetrics, bool, error) {
	ctx = begin(ctx)
	w, err := k.look(ctx)
	if err != nil {
		return nil, false, err
	}
	pod, err := w.pod(namespace, name)
	if err != nil || pod == nil {
		return nil, false, err
	}
	r, err := k.readOne(ctx, pod.Spec.NodeName)
	if err != nil {
		return nil, true, err
	}
	out, err := r.podMetrics([]*corev1.Pod{pod})
	if err != nil || len(out) == 0 {
		return nil, true, err
	}
	return &out[0], true, nil
}

// NodeMetrics returns what was measured of the nodes, in their order. Labels are the nodes'.
func (k *Keeper) NodeMetrics(ctx context.Context) ([]metrics.NodeMetrics, error) {
	r, err := k.Read(ctx)
	if err != nil {
		return nil, err
	}
	nodes, err := r.world.listNodes()
	if err != nil {
		return nil, err
	}
	return r.nodeMetrics(nodes)
}

// NodeMetricsOf returns what was measured of one node, nil if nothing was, and whether there is such a node.
func (k *Keeper) NodeMetricsOf(ctx context.Context, name string) (*metrics.NodeMetrics, bool, error) {
	r, err := k.readOne(begin(ctx), name)
	if err != nil {
		return nil, false, err
	}
	node, err := r.world.node(name)
	if err != nil || node == nil {
		return nil, false, err
	}
	out, err := r.nodeMetrics([]*corev1.Node{node})
	if err != nil || len(out) == 0 {
		return nil, true, err
	}
	return &out[0], true, nil
}

// begin lets one look at a log's tail be enough for all that a request reads of it, such as for a batch of events.
func begin(ctx context.Context) context.Context {
	if tablelog.Begun(ctx) {
		return ctx
	}
	return tablelog.Begin(ctx)
}

// podMetrics follows getMetrics of the metrics server (pkg/api/pod.go): pods that do not run have none.
func (r *Readings) podMetrics(pods []*corev1.Pod) ([]metrics.PodMetrics, error) {
	measured := map[string]map[string]samples.Measured{}
	for namespace, some := range byNamespace(pods) {
		of, err := r.of(namespace, some)
		if err != nil {
			return nil, err
		}
		measured[namespace] = of
	}
	out := []metrics.PodMetrics{}
	for _, pod := range pods {
		m, ok := measured[pod.Namespace][pod.Name]
		if !ok || pod.Status.Phase != corev1.PodRunning {
			continue
		}
		item := metrics.PodMetrics{
			ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, Labels: pod.Labels, CreationTimestamp: metav1.NewTime(r.now)},
			Timestamp:  metav1.NewTime(m.Timestamp), Window: metav1.Duration{Duration: m.Window},
		}
		for _, name := range slices.Sorted(maps.Keys(m.Containers)) {
			item.Containers = append(item.Containers, metrics.ContainerMetrics{Name: name, Usage: m.Containers[name]})
		}
		out = append(out, item)
	}
	return out, nil
}

func byNamespace(pods []*corev1.Pod) map[string][]*corev1.Pod {
	out := map[string][]*corev1.Pod{}
	for _, pod := range pods {
		out[pod.Namespace] = append(out[pod.Namespace], pod)
	}
	return out
}

func (r *Readings) nodeMetrics(nodes []*corev1.Node) ([]metrics.NodeMetrics, error) {
	measured, err := r.measuredNodes(nodes)
	if err != nil {
		return nil, err
	}
	out := []metrics.NodeMetrics{}
	for _, node := range nodes {
		m, ok := measured[node.Name]
		if !ok {
			continue
		}
		out = append(out, metrics.NodeMetrics{
			ObjectMeta: metav1.ObjectMeta{Name: node.Name, Labels: node.Labels, CreationTimestamp: metav1.NewTime(r.now)},
			Timestamp:  metav1.NewTime(m.Timestamp), Window: metav1.Duration{Duration: m.Window}, Usage: m.Containers[""],
		})
	}
	return out, nil
}
