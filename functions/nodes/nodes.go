// Package nodes is the function that notices lost nodes: a change of a node, its lease or its pods
// in; conditions, taints and evictions out. The decisions are those of core/nodes.
package nodes

import (
	"context"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/core/nodes"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

const (
	nodeController = "node-controller"
	// evictController is the same user: upstream has no other for it (newTaintEvictionController of
	// cmd/kube-controller-manager/app/core.go).
	evictController = nodeController
)

var (
	nodeResource  = plan.Nodes.GroupResource()
	podResource   = plan.Pods.GroupResource()
	leaseResource = plan.Leases.GroupResource()
)

// Function returns the function.
func Function() consumer.Function {
	return consumer.Function{
		Name:   "nodes",
		Groups: []string{kubestorage.NodesGroup, kubestorage.LeasesGroup, kubestorage.PodsGroup},
		Handle: handle,
	}
}

func handle(ctx context.Context, b *consumer.Batch) error {
	check, err := touched(b)
	if err != nil {
		return err
	}
	if len(check) == 0 {
		return nil
	}
	byNode, err := PodsByNode(b.Snapshot, check)
	if err != nil {
		return err
	}
	return consumer.Each(ctx, check.Sorted(), func(ctx context.Context, n consumer.Named) error {
		return decide(ctx, b, n.Name, byNode)
	})
}

// touched returns the nodes that the batch is about: those that changed, whose lease did, that were
// put off, and tainted ones that a pod came to.
func touched(b *consumer.Batch) (consumer.Set, error) {
	set := consumer.Set{}
	if b.Resync {
		all, err := consumer.List[*corev1.Node](b.Snapshot, nodeResource, "")
		if err != nil {
			return nil, err
		}
		for _, n := range all {
			set.Add("", n.Name)
		}
	}
	for _, l := range b.Due {
		if l.Subject.Resource == plan.Nodes {
			set.Add("", l.Subject.Name)
		}
	}
	for _, ev := range b.Changes {
		gr, namespace, name := kubestorage.ParseKey(ev.Key)
		switch gr {
		case nodeResource:
			set.Add("", name)
		case leaseResource:
			if namespace == corev1.NamespaceNodeLease {
				set.Add("", name)
			}
		case podResource:
			pod, ok, err := consumer.Read[*corev1.Pod](b.Snapshot, ev.Entry)
			if err != nil {
				return nil, err
			}
			if ok && pod.Spec.NodeName != "" && evicts(b.Snapshot, pod.Spec.NodeName) {
				set.Add("", pod.Spec.NodeName)
			}
		}
	}
	return set, nil
}

func evicts(s *consumer.Snapshot, name string) bool {
	node, ok, err := consumer.Get[*corev1.Node](s, nodeResource, "", name)
	if err != nil || !ok {
		return false
	}
	for _, t := range node.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute {
			return true
		}
	}
	return false
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

func decide(ctx context.Context, b *consumer.Batch, name string, byNode map[string][]*corev1.Pod) error {
	load := func(s *consumer.Snapshot) (in nodes.Input, ok bool, err error) {
		in = nodes.Input{Now: b.Now, Pods: byNode[name]}
		if in.Node, ok, err = consumer.Get[*corev1.Node](s, nodeResource, "", name); err != nil || !ok {
			return in, false, err
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
		return in, err == nil, err
	}
	as := func(who string, decide func(nodes.Input) plan.Plan) error {
		return consumer.Refused(b.Decide(ctx, who, func(s *consumer.Snapshot) (plan.Plan, error) {
			in, ok, err := load(s)
			if err != nil || !ok {
				return plan.Plan{}, err
			}
			return decide(in), nil
		}))
	}
	if err := as(nodeController, nodes.Check); err != nil {
		return err
	}
	return as(evictController, func(in nodes.Input) plan.Plan { return nodes.Evict(in.Node, in.Pods, in.Now) })
}
