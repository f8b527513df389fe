// Package placement is the function that gives each pending pod a node: a change of a pod or of a
// node in, bindings out. The decisions are those of core/scheduling.
package placement

import (
	"context"
	"hash/fnv"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/scheduling"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// component is the user that kube-scheduler is.
const component = "system:kube-scheduler"

var groups = []string{kubestorage.PodsGroup, kubestorage.NodesGroup}

// Function returns the function. What it keeps between batches is a hint, and is made again from
// the snapshot whenever it does not fit.
func Function() consumer.Function {
	w := &warm{}
	return consumer.Function{Name: "placement", Groups: groups, Handle: w.handle}
}

func (w *warm) handle(ctx context.Context, b *consumer.Batch) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := b.Decide(ctx, component, func(s *consumer.Snapshot) (plan.Plan, error) {
		if err := w.advance(ctx, b, s); err != nil {
			return plan.Plan{}, err
		}
		if w.cluster.Pending() == 0 {
			return plan.Plan{}, nil
		}
		return w.cluster.Place(seed(b.Name, s), b.Now).Plan, nil
	})
	return err
}

// seed breaks ties. It is the same for the same snapshot of the same cluster.
func seed(cluster string, s *consumer.Snapshot) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(cluster))
	return h.Sum64() ^ s.States[kubestorage.PodsGroup].Rev
}

// warm is what placement knew of the cluster at some revisions.
type warm struct {
	mu      sync.Mutex
	cluster *scheduling.Cluster
	at      map[string]uint64
}

// advance brings what is known to a snapshot, from the logs if they still hold what came between,
// from nothing if not.
func (w *warm) advance(ctx context.Context, b *consumer.Batch, s *consumer.Snapshot) error {
	if w.cluster != nil && w.replay(ctx, b, s) {
		return nil
	}
	w.cluster, w.at = scheduling.NewCluster(), map[string]uint64{}
	nodes, err := consumer.List[*corev1.Node](s, plan.Nodes.GroupResource(), "")
	if err != nil {
		return err
	}
	for _, n := range nodes {
		w.cluster.SetNode(n)
	}
	pods, err := consumer.List[*corev1.Pod](s, plan.Pods.GroupResource(), "")
	if err != nil {
		return err
	}
	for _, p := range pods {
		w.cluster.SetPod(p)
	}
	for _, g := range groups {
		w.at[g] = s.States[g].Rev
	}
	return nil
}

func (w *warm) replay(ctx context.Context, b *consumer.Batch, s *consumer.Snapshot) bool {
	for _, g := range groups {
		if w.at[g] > s.States[g].Rev {
			return false
		}
		events, err := b.Logs[g].Between(ctx, w.at[g], s.States[g].Rev)
		if err != nil {
			return false
		}
		for _, ev := range events {
			if !w.apply(s, ev) {
				return false
			}
		}
		w.at[g] = s.States[g].Rev
	}
	return true
}

func (w *warm) apply(s *consumer.Snapshot, ev tablelog.Event) bool {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	switch {
	case gr == plan.Pods.GroupResource() && ev.Entry == nil:
		w.cluster.DeletePod(namespace, name)
	case gr == plan.Pods.GroupResource():
		pod, ok, err := consumer.Read[*corev1.Pod](s, ev.Entry)
		if err != nil || !ok {
			return false
		}
		w.cluster.SetPod(pod)
	case gr == plan.Nodes.GroupResource() && ev.Entry == nil:
		w.cluster.DeleteNode(name)
	case gr == plan.Nodes.GroupResource():
		node, ok, err := consumer.Read[*corev1.Node](s, ev.Entry)
		if err != nil || !ok {
			return false
		}
		w.cluster.SetNode(node)
	}
	return true
}
