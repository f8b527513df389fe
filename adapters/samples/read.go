package samples

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/samples"
)

// Readings are what was measured of a cluster, as of one moment.
type Readings struct {
	world world
	now   time.Time
	// nodes has the samples of nodes, pods those of pods by namespace.
	nodes samples.Set
	pods  map[string]samples.Set
}

// Read returns what was measured of all nodes and pods. It reads the row of every node that has reported.
func (k *Keeper) Read(ctx context.Context) (*Readings, error) {
	return k.readings(ctx, func(ctx context.Context, yield func(table.Row) bool) error {
		return table.All(ctx, k.store, k.partition, table.Query{From: nodeClass, To: nodeEnd}, yield)
	})
}

// readOne returns what was measured of one node and its pods.
func (k *Keeper) readOne(ctx context.Context, node string) (*Readings, error) {
	return k.readings(ctx, func(ctx context.Context, yield func(table.Row) bool) error {
		row, err := k.store.Get(ctx, k.partition, nodeKey(node))
		if errors.Is(err, table.ErrNotFound) {
			return nil
		}
		if err == nil {
			yield(row)
		}
		return err
	})
}

func (k *Keeper) readings(ctx context.Context, rows func(context.Context, func(table.Row) bool) error) (*Readings, error) {
	ctx = begin(ctx)
	w, err := k.look(ctx)
	if err != nil {
		return nil, err
	}
	r := &Readings{world: w, now: k.now(), nodes: samples.Set{}, pods: map[string]samples.Set{}}
	all := samples.Set{}
	var broken error
	err = rows(ctx, func(row table.Row) bool {
		broken = decodeNode(row, all)
		return broken == nil
	})
	if err := errors.Join(err, broken); err != nil {
		return nil, fmt.Errorf("reading samples: %w", err)
	}
	for id, s := range all {
		if id.Pod == "" {
			r.nodes[id] = s
			continue
		}
		if r.pods[id.Namespace] == nil {
			r.pods[id.Namespace] = samples.Set{}
		}
		r.pods[id.Namespace][id] = s
	}
	return r, nil
}

// Pods returns what was measured of the pods of a namespace, by their names. Of a pod on a simulated node that
// nobody has measured, it is what the simulated kubelet would measure now.
func (r *Readings) Pods(namespace string) (map[string]samples.Measured, error) {
	pods, err := r.world.listPods(namespace)
	if err != nil {
		return nil, err
	}
	return r.of(namespace, pods)
}

// of returns what was measured of some pods of a namespace.
func (r *Readings) of(namespace string, pods []*corev1.Pod) (map[string]samples.Measured, error) {
	byName := map[string]*corev1.Pod{}
	for _, pod := range pods {
		byName[pod.Name] = pod
	}
	current := samples.Set{}
	for id, s := range r.pods[namespace] {
		// Not those of an earlier pod of the name.
		if pod := byName[id.Pod]; pod != nil && pod.Spec.NodeName == id.Node && !s.Timestamp.Before(pod.CreationTimestamp.Time) {
			current[id] = s
		}
	}
	out := current.Pods(namespace, r.now)
	simulated := map[string]*corev1.Node{}
	for _, pod := range pods {
		if _, measured := out[pod.Name]; measured || pod.Spec.NodeName == "" {
			continue
		}
		node, seen := simulated[pod.Spec.NodeName]
		if !seen {
			var err error
			if node, err = r.world.node(pod.Spec.NodeName); err != nil {
				return nil, err
			}
			simulated[pod.Spec.NodeName] = node
		}
		if node == nil {
			continue
		}
		if used, ok := kubelet.PodUsage(pod, node, r.now); ok {
			out[pod.Name] = samples.Measured{Timestamp: r.now, Window: used.Window, Containers: used.Containers}
		}
	}
	return out, nil
}

// measuredNodes returns what was measured of nodes, by their names.
func (r *Readings) measuredNodes(nodes []*corev1.Node) (map[string]samples.Measured, error) {
	out := r.nodes.Nodes(r.now)
	var byNode map[string][]*corev1.Pod
	for _, node := range nodes {
		if _, measured := out[node.Name]; measured || !kubelet.IsSimulated(node) {
			continue
		}
		if byNode == nil {
			pods, err := r.world.listPods("")
			if err != nil {
				return nil, err
			}
			byNode = map[string][]*corev1.Pod{}
			for _, pod := range pods {
				byNode[pod.Spec.NodeName] = append(byNode[pod.Spec.NodeName], pod)
			}
		}
		if used, window, ok := kubelet.NodeUsage(node, byNode[node.Name], r.now); ok {
			out[node.Name] = samples.Measured{Timestamp: r.now, Window: window, Containers: map[string]corev1.ResourceList{"": used}}
		}
	}
	return out, nil
}

// External returns the values of external metrics that are stored with one, that one among them.
func (k *Keeper) External(ctx context.Context, metric string) (samples.Values, error) {
	row, err := k.store.Get(ctx, k.partition, externalKey(metric))
	if errors.Is(err, table.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the external metric %q: %w", metric, err)
	}
	return decodeExternal(row)
}

// node returns a node, nil if there is none.
func (w world) node(name string) (*corev1.Node, error) {
	e := w.nodes.Get(kubestorage.KeyOf(plan.Nodes.GroupResource(), "", name))
	if e == nil {
		return nil, nil
	}
	return object[*corev1.Node](w.decoder, e)
}

// listPods returns the pods of a namespace, of all if it is empty, in order.
func (w world) listPods(namespace string) ([]*corev1.Pod, error) {
	prefix := kubestorage.Prefix(plan.Pods.GroupResource()) + "/"
	if namespace != "" {
		prefix += namespace + "/"
	}
	return list[*corev1.Pod](w.decoder, w.pods, prefix)
}

func (w world) listNodes() ([]*corev1.Node, error) {
	return list[*corev1.Node](w.decoder, w.nodes, kubestorage.Prefix(plan.Nodes.GroupResource())+"/")
}

func list[T any](d kubestorage.Decoder, s *tablelog.State, prefix string) ([]T, error) {
	var out []T
	var err error
	s.Ascend(prefix, "", func(e *tablelog.Entry) bool {
		var one T
		if one, err = object[T](d, e); err == nil {
			out = append(out, one)
		}
		return err == nil
	})
	return out, err
}
