// Package nodes is the function that notices lost nodes, and pods whose node can do nothing for them: a
// change of a node, its lease or its pods in; conditions, taints, evictions and deletions out. The decisions
// are those of core/nodes.
package nodes

import (
	"context"
	"slices"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/nodes"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

const (
	nodeController = "node-controller"
	// evictController is the same user: upstream has no other for it (newTaintEvictionController of
	// cmd/kube-controller-manager/app/core.go).
	evictController = nodeController
	ttlController   = "ttl-controller"
	podCollector    = "pod-garbage-collector"
)

var (
	nodeResource  = plan.Nodes.GroupResource()
	podResource   = plan.Pods.GroupResource()
	leaseResource = plan.Leases.GroupResource()
)

// Function returns the function.
func Function() consumer.Function {
	return consumer.Function{
		Name: "nodes",
		// A snapshot's nodes are not older than its pods: no pod looks bound to a node that is yet to come.
		Groups: []string{kubestorage.PodsGroup, kubestorage.NodesGroup, kubestorage.LeasesGroup},
		Handle: handle,
	}
}

func handle(ctx context.Context, b *consumer.Batch) error {
	t, err := find(b)
	if err != nil {
		return err
	}
	if err := consumer.Each(ctx, t.unscheduled.Sorted(), func(ctx context.Context, n consumer.Named) error {
		return collect(ctx, b, n)
	}); err != nil {
		return err
	}
	if err := t.changes(ctx, b); err != nil {
		return err
	}
	if len(t.nodes) > 0 {
		byNode, err := PodsByNode(b.Snapshot, t.nodes)
		if err != nil {
			return err
		}
		if err := consumer.Each(ctx, t.nodes.Sorted(), func(ctx context.Context, n consumer.Named) error {
			return decide(ctx, b, n.Name, t.missing[n.Name], byNode)
		}); err != nil {
			return err
		}
	}
	if t.zones {
		// What was decided of single nodes just now comes as changes of its own.
		if err := consumer.Refused(b.Decide(ctx, nodeController, func(s *consumer.Snapshot) (plan.Plan, error) {
			all, err := consumer.List[*corev1.Node](s, nodeResource, "")
			if err != nil {
				return plan.Plan{}, err
			}
			return nodes.Zones(all, b.Now), nil
		})); err != nil {
			return err
		}
	}
	// Last, since nothing stored says that people were told: a batch that fails comes again.
	return consumer.Each(ctx, t.removed, func(ctx context.Context, gone *corev1.Node) error {
		return consumer.Refused(b.Decide(ctx, nodeController, func(*consumer.Snapshot) (plan.Plan, error) { return nodes.Removed(gone), nil }))
	})
}

// touched is what a batch is about.
type touched struct {
	// nodes that changed, whose lease did, that were put off, and those that a pod concerns.
	nodes consumer.Set
	// changed are the nodes that did so themselves, created those of them that are new, by name and as they were created, and
	// removed those that are gone.
	changed consumer.Set
	created map[string]*corev1.Node
	removed []*corev1.Node
	// missing are the nodes whose quarantine is over.
	missing map[string]bool
	// unscheduled pods go away and never had a node.
	unscheduled consumer.Set
	// zones is set when it may be another node's turn to be tainted, or a zone is in another state.
	zones bool
}

func find(b *consumer.Batch) (touched, error) {
	t := touched{
		nodes: consumer.Set{}, changed: consumer.Set{}, unscheduled: consumer.Set{},
		created: map[string]*corev1.Node{}, missing: map[string]bool{},
	}
	err := b.Gather(
		func() error { return t.everything(b.Snapshot) },
		func(ev tablelog.Event) error {
			switch gr, namespace, name := kubestorage.ParseKey(ev.Key); gr {
			case nodeResource:
				t.nodes.Add("", name)
				return t.node(b.Snapshot, ev)
			case leaseResource:
				if namespace == corev1.NamespaceNodeLease {
					t.nodes.Add("", name)
				}
			case podResource:
				pod, ok, err := consumer.Read[*corev1.Pod](b.Snapshot, ev.Entry)
				if err != nil || !ok {
					return err
				}
				return t.pod(b.Snapshot, pod)
			}
			return nil
		},
		func(l plan.Later) {
			switch {
			case l.Kind == nodes.ZonesKind:
				t.zones = true
			case l.Subject.Resource == plan.Nodes:
				t.nodes.Add("", l.Subject.Name)
				t.missing[l.Subject.Name] = t.missing[l.Subject.Name] || l.Kind == nodes.QuarantineKind
			}
		},
	)
	return t, err
}

// node notes what became of a node, and whether it matters to its zone.
func (t *touched) node(s *consumer.Snapshot, ev tablelog.Event) error {
	before, _, err := consumer.Read[*corev1.Node](s, ev.Prev)
	if err != nil {
		return err
	}
	after, _, err := consumer.Read[*corev1.Node](s, ev.Entry)
	if err != nil {
		return err
	}
	switch {
	case after == nil && before != nil:
		t.removed = append(t.removed, before)
	case after != nil:
		t.changed.Add("", after.Name)
		if before == nil {
			t.created[after.Name] = after
		}
	}
	t.zones = t.zones || nodes.MovesZones(before, after)
	return nil
}

func (t *touched) everything(s *consumer.Snapshot) error {
	t.zones = true
	all, err := consumer.List[*corev1.Node](s, nodeResource, "")
	if err != nil {
		return err
	}
	for _, n := range all {
		t.nodes.Add("", n.Name)
		t.changed.Add("", n.Name)
		if !nodes.Annotated(n) {
			t.created[n.Name] = n
		}
	}
	pods, err := consumer.List[*corev1.Pod](s, podResource, "")
	if err != nil {
		return err
	}
	for _, p := range pods {
		if err := t.pod(s, p); err != nil {
			return err
		}
	}
	return nil
}

// changes makes the plans for nodes that came or changed.
func (t *touched) changes(ctx context.Context, b *consumer.Batch) error {
	if len(t.changed) == 0 {
		return nil
	}
	count := consumer.Count(b.Snapshot, nodeResource)
	return consumer.Each(ctx, t.changed.Sorted(), func(ctx context.Context, n consumer.Named) error {
		return consumer.Refused(b.Decide(ctx, ttlController, func(s *consumer.Snapshot) (plan.Plan, error) {
			node, ok, err := consumer.Get[*corev1.Node](s, nodeResource, "", n.Name)
			if err != nil || !ok {
				return plan.Plan{}, err
			}
			return nodes.Changed(node, t.created[n.Name], count), nil
		}))
	})
}

// pod adds what a pod makes worth looking at: itself, or its node if that does not exist or has a taint
// that makes pods leave.
func (t *touched) pod(s *consumer.Snapshot, pod *corev1.Pod) error {
	if pod.Spec.NodeName == "" {
		if pod.DeletionTimestamp != nil {
			t.unscheduled.Add(pod.Namespace, pod.Name)
		}
		return nil
	}
	node, ok, err := consumer.Get[*corev1.Node](s, nodeResource, "", pod.Spec.NodeName)
	if err != nil {
		return err
	}
	if !ok || slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoExecute || t.Key == corev1.TaintNodeOutOfService
	}) {
		t.nodes.Add("", pod.Spec.NodeName)
	}
	return nil
}

// PodsByNode returns the pods that are bound to each node of a set.
func PodsByNode(s *consumer.Snapshot, set consumer.Set) (map[string][]*corev1.Pod, error) {
	all, err := consumer.List[*corev1.Pod](s, podResource, "")
	if err != nil {
		return nil, err
	}
	out := map[string][]*corev1.Pod{}
	for _, p := range all {
		if p.Spec.NodeName != "" && set[consumer.Named{Name: p.Spec.NodeName}] {
			out[p.Spec.NodeName] = append(out[p.Spec.NodeName], p)
		}
	}
	return out, nil
}

// decide makes the plans for one node, which may be missing; over says that its quarantine is over.
func decide(ctx context.Context, b *consumer.Batch, name string, over bool, byNode map[string][]*corev1.Pod) error {
	load := func(s *consumer.Snapshot) (nodes.Input, error) {
		in := nodes.Input{Name: name, QuarantineOver: over, Now: b.Now, Pods: byNode[name]}
		node, found, err := consumer.Get[*corev1.Node](s, nodeResource, "", name)
		if err != nil {
			return in, err
		}
		if found {
			in.Node = node
			if in.Expiry, _, err = b.Pending(ctx, nodes.Expiry(node), nodes.ExpiryKind); err != nil {
				return in, err
			}
		}
		lease, found, err := consumer.Get[*coordinationv1.Lease](s, leaseResource, corev1.NamespaceNodeLease, name)
		if found {
			in.Lease = lease
		}
		if s != b.Snapshot && err == nil { // decided again: the pods may have moved too
			var now map[string][]*corev1.Pod
			now, err = PodsByNode(s, consumer.Set{{Name: name}: true})
			in.Pods = now[name]
		}
		return in, err
	}
	for _, step := range []struct {
		who    string
		decide func(nodes.Input) plan.Plan
	}{{nodeController, nodes.Check}, {evictController, nodes.Evict}, {podCollector, nodes.Collect}} {
		if err := consumer.Refused(b.Decide(ctx, step.who, func(s *consumer.Snapshot) (plan.Plan, error) {
			in, err := load(s)
			if err != nil {
				return plan.Plan{}, err
			}
			return step.decide(in), nil
		})); err != nil {
			return err
		}
	}
	return nil
}

// collect makes the plan for one pod without a node.
func collect(ctx context.Context, b *consumer.Batch, n consumer.Named) error {
	return consumer.Refused(b.Decide(ctx, podCollector, func(s *consumer.Snapshot) (plan.Plan, error) {
		pod, ok, err := consumer.Get[*corev1.Pod](s, podResource, n.Namespace, n.Name)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		return nodes.CollectUnscheduled(pod), nil
	}))
}
