// Package placement is the function that gives each pending pod a node: a change of a pod or of a
// node in, bindings out. The decisions are those of core/scheduling.
package placement

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"log/slog"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/scheduling"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

const (
	// refusedKind names the due rows of pods for which the API refused a write.
	refusedKind = "refused"
	// maxRefused bounds the pods that are put off in one batch. When the first of them is due, others are looked at again.
	maxRefused = 16
)

// component is the user that kube-scheduler is.
const component = "system:kube-scheduler"

// groups are the logs whose changes may let a pod be placed: pods, nodes, claims and volumes, what is said about storage.
// also is one that only says which pods belong together.
var (
	groups = []string{kubestorage.PodsGroup, kubestorage.NodesGroup, kubestorage.ObjectsGroup, kubestorage.ConfigGroup}
	also   = []string{kubestorage.WorkloadsGroup}
)

var (
	budgets                = plan.DisruptionBudgets.GroupResource()
	namespaces             = plan.Namespaces.GroupResource()
	services               = corev1.Resource("services")
	replicationControllers = plan.ReplicationControllers.GroupResource()
	replicaSets            = plan.ReplicaSets.GroupResource()
	statefulSets           = appsv1.Resource("statefulsets")
	controllerKinds        = map[schema.GroupResource]string{
		replicationControllers: "ReplicationController", replicaSets: "ReplicaSet", statefulSets: "StatefulSet",
	}
)

// Function returns the function, which places pods by profiles, or by upstream's default if there are none. What it keeps
// between batches is a hint, and is made again from the snapshot whenever it does not fit.
func Function(profiles ...scheduling.Profile) consumer.Function {
	w := &warm{profiles: profiles}
	return consumer.Function{Name: "placement", Groups: groups, Also: also, Told: hashOf(profiles), Handle: w.handle}
}

// hashOf tells one configuration from another: pods that waited under the last one may be placed under this.
func hashOf(profiles []scheduling.Profile) uint64 {
	if len(profiles) == 0 {
		return 0
	}
	h := fnv.New64a()
	_ = json.NewEncoder(h).Encode(profiles) // of plain strings and numbers, maps in order of their keys
	return h.Sum64()
}

func (w *warm) handle(ctx context.Context, b *consumer.Batch) error {
	if !w.concerns(b) {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for range maxRefused {
		var result scheduling.Result
		out, err := b.Decide(ctx, component, func(s *consumer.Snapshot) (plan.Plan, error) {
			result = scheduling.Result{}
			if err := w.advance(ctx, b, s); err != nil || w.cluster.Settled(b.Now) {
				return plan.Plan{}, err
			}
			result = w.cluster.PlaceWoken(seed(b.Name, s), b.Now)
			return result.Plan, nil
		})
		if err != nil || out.Refused == nil {
			return err
		}
		w.leaveAlone(b, &result, out)
		if len(out.Committed) > 0 {
			return nil // that is a change: the others are decided on then
		}
	}
	return nil
}

// leaveAlone puts off the pod for which a write was refused, and has the function be called for it.
func (w *warm) leaveAlone(b *consumer.Batch, result *scheduling.Result, out planclient.Outcome) {
	pod := result.PodOf(out.Refused)
	again := w.cluster.Refused(pod, b.Now)
	slog.Warn("the API refused what was asked for a pod", "cluster", b.Name, "pod", keyOf(pod), "verb", out.Refused.Verb, "again", again, "error", out.Err)
	b.Later(plan.Later{
		At: again, Kind: refusedKind, Subject: plan.Ref{Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	})
}

// seed breaks ties. It is the same for the same snapshot of the same cluster.
func seed(cluster string, s *consumer.Snapshot) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(cluster))
	return h.Sum64() ^ s.States[kubestorage.PodsGroup].Rev
}

// warm is what placement knew of the cluster at some revisions.
type warm struct {
	profiles []scheduling.Profile
	mu       sync.Mutex
	cluster  *scheduling.Cluster
	at       map[string]uint64
}

// advance brings what is known to a snapshot, from the logs if they still hold what came between,
// from nothing if not.
func (w *warm) advance(ctx context.Context, b *consumer.Batch, s *consumer.Snapshot) error {
	if w.cluster != nil && w.replay(ctx, b, s) {
		return nil
	}
	w.cluster, w.at = scheduling.NewCluster(w.profiles...), map[string]uint64{}
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
	for g, state := range s.States {
		w.at[g] = state.Rev
	}
	if err := w.stock(s); err != nil {
		return err
	}
	return w.group(s)
}

// group tells which pods belong together, and which budgets they have.
func (w *warm) group(s *consumer.Snapshot) error {
	for _, gr := range []schema.GroupResource{namespaces, services, replicationControllers, replicaSets, statefulSets, budgets} {
		objects, err := consumer.List[metav1.Object](s, gr, "")
		if err != nil {
			return err
		}
		for _, obj := range objects {
			w.setGrouping(obj)
		}
	}
	return nil
}

// setGrouping takes a namespace, a Service, a controller or a budget.
func (w *warm) setGrouping(obj any) {
	switch o := obj.(type) {
	case *corev1.Namespace:
		w.cluster.SetNamespace(o)
	case *policyv1.PodDisruptionBudget:
		w.cluster.SetBudget(o)
	case *corev1.Service:
		w.cluster.SetService(o)
	case *corev1.ReplicationController:
		w.cluster.SetController("ReplicationController", o.Namespace, o.Name, &metav1.LabelSelector{MatchLabels: o.Spec.Selector})
	case *appsv1.ReplicaSet:
		w.cluster.SetController("ReplicaSet", o.Namespace, o.Name, o.Spec.Selector)
	case *appsv1.StatefulSet:
		w.cluster.SetController("StatefulSet", o.Namespace, o.Name, o.Spec.Selector)
	}
}

func (w *warm) replay(ctx context.Context, b *consumer.Batch, s *consumer.Snapshot) bool {
	for g, state := range s.States {
		if w.at[g] > state.Rev {
			return false
		}
		events, err := b.Logs[g].Between(ctx, w.at[g], state.Rev)
		if err != nil {
			return false
		}
		for _, ev := range events {
			if !w.apply(s, ev) {
				return false
			}
		}
		w.at[g] = state.Rev
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
	case storageKinds[gr] != nil:
		return w.restock(s, ev)
	default:
		return w.regroup(s, ev)
	}
	return true
}

// regroup applies a change of what tells which pods belong together, or of a budget; others are nothing to placement.
func (w *warm) regroup(s *consumer.Snapshot, ev tablelog.Event) bool {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	kind, controls := controllerKinds[gr]
	if gr != namespaces && gr != services && gr != budgets && !controls {
		return true
	}
	if ev.Entry == nil {
		switch {
		case controls:
			w.cluster.DeleteController(kind, namespace, name)
		case gr == services:
			w.cluster.DeleteService(namespace, name)
		case gr == budgets:
			w.cluster.DeleteBudget(namespace, name)
		default:
			w.cluster.DeleteNamespace(name)
		}
		return true
	}
	obj, ok, err := consumer.Read[metav1.Object](s, ev.Entry)
	if err != nil || !ok {
		return false
	}
	w.setGrouping(obj)
	return true
}
