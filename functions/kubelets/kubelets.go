// Package kubelets is the function that stands for the kubelets of simulated nodes: a pod bound to
// one in, its status out. The decisions are those of core/kubelet.
package kubelets

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
	"github.com/zeroplane/zeroplane/functions/nodes"
)

const (
	// Component is the user that simulated kubelets are.
	Component = consumer.SimulatedKubelet
	// podsAtOnce in one plan, about: a plan that is stale is decided again as a whole. Pods of one node
	// are in one plan, since they share its addresses.
	podsAtOnce = 250
)

var (
	nodeResource = plan.Nodes.GroupResource()
	podResource  = plan.Pods.GroupResource()
)

// Function returns the function.
func Function() consumer.Function {
	return consumer.Function{
		Name:   "kubelets",
		Groups: []string{kubestorage.PodsGroup, kubestorage.NodesGroup},
		Handle: handle,
	}
}

func handle(ctx context.Context, b *consumer.Batch) error {
	t, err := find(b)
	if err != nil {
		return err
	}
	for _, n := range t.nodes.Sorted() {
		if err := consumer.Refused(b.Decide(ctx, Component, func(s *consumer.Snapshot) (plan.Plan, error) {
			node, ok, err := consumer.Get[*corev1.Node](s, nodeResource, "", n.Name)
			if err != nil || !ok || !kubelet.IsSimulated(node) {
				return plan.Plan{}, err
			}
			return kubelet.Node(node, b.Now), nil
		})); err != nil {
			return err
		}
	}
	chunks, err := t.chunks(b.Snapshot)
	if err != nil {
		return err
	}
	for _, chunk := range chunks {
		if err := consumer.Refused(b.Decide(ctx, Component, func(s *consumer.Snapshot) (plan.Plan, error) { return decide(b, s, chunk) })); err != nil {
			return err
		}
	}
	return nil
}

// chunks divides the pods into plans, node by node.
func (t touched) chunks(s *consumer.Snapshot) ([][]consumer.Named, error) {
	byNode := map[string][]consumer.Named{}
	for _, n := range t.pods.Sorted() {
		pod, ok, err := consumer.Get[*corev1.Pod](s, podResource, n.Namespace, n.Name)
		if err != nil {
			return nil, err
		}
		if ok {
			byNode[pod.Spec.NodeName] = append(byNode[pod.Spec.NodeName], n)
		}
	}
	var out [][]consumer.Named
	var chunk []consumer.Named
	for _, node := range slices.Sorted(maps.Keys(byNode)) {
		if chunk = append(chunk, byNode[node]...); len(chunk) >= podsAtOnce {
			out = append(out, chunk)
			chunk = nil
		}
	}
	if len(chunk) > 0 {
		out = append(out, chunk)
	}
	return out, nil
}

// touched are the pods and nodes that a batch is about.
type touched struct{ pods, nodes consumer.Set }

func find(b *consumer.Batch) (touched, error) {
	t := touched{pods: consumer.Set{}, nodes: consumer.Set{}}
	for _, ev := range b.Changes {
		switch gr, namespace, name := kubestorage.ParseKey(ev.Key); gr {
		case podResource:
			pod, ok, err := consumer.Read[*corev1.Pod](b.Snapshot, ev.Entry)
			if err != nil {
				return t, err
			}
			if ok && pod.Spec.NodeName != "" {
				t.pods.Add(namespace, name)
			}
		case nodeResource:
			if ev.Entry != nil {
				t.nodes.Add("", name)
			}
		}
	}
	for _, l := range b.Due {
		if l.Subject.Resource == plan.Pods {
			t.pods.Add(l.Subject.Namespace, l.Subject.Name)
		}
	}
	return t, t.podsOf(b)
}

// podsOf adds the pods of the nodes that changed, and everything after a resync.
func (t *touched) podsOf(b *consumer.Batch) error {
	if b.Resync {
		all, err := consumer.List[*corev1.Node](b.Snapshot, nodeResource, "")
		if err != nil {
			return err
		}
		for _, n := range all {
			t.nodes.Add("", n.Name)
		}
	}
	if len(t.nodes) == 0 {
		return nil
	}
	byNode, err := nodes.PodsByNode(b.Snapshot, t.nodes)
	for _, pods := range byNode {
		for _, p := range pods {
			t.pods.Add(p.Namespace, p.Name)
		}
	}
	return err
}

// decide makes one plan for a number of pods. Those of one node share its addresses.
func decide(b *consumer.Batch, s *consumer.Snapshot, chunk []consumer.Named) (plan.Plan, error) {
	var pods []*corev1.Pod
	simulated := map[string]*corev1.Node{}
	on := consumer.Set{}
	for _, n := range chunk {
		pod, ok, err := consumer.Get[*corev1.Pod](s, podResource, n.Namespace, n.Name)
		if err != nil {
			return plan.Plan{}, err
		}
		if !ok || pod.Spec.NodeName == "" {
			continue
		}
		node, ok, err := consumer.Get[*corev1.Node](s, nodeResource, "", pod.Spec.NodeName)
		if err != nil {
			return plan.Plan{}, err
		}
		if ok && kubelet.IsSimulated(node) {
			pods = append(pods, pod)
			simulated[node.Name] = node
			on.Add("", node.Name)
		}
	}
	// Where every node has a kubelet of its own, all pods are not looked at for nothing.
	if len(pods) == 0 {
		return plan.Plan{}, nil
	}
	byNode, err := nodes.PodsByNode(s, on)
	if err != nil {
		return plan.Plan{}, err
	}
	addresses := map[string]*kubelet.Addresses{}
	var p plan.Plan
	for _, pod := range pods {
		node := simulated[pod.Spec.NodeName]
		if addresses[node.Name] == nil {
			addresses[node.Name] = kubelet.NewAddresses(node, byNode[node.Name])
		}
		p.Merge(kubelet.Pod(kubelet.PodInput{Pod: pod, Node: node, Now: b.Now, Addresses: addresses[node.Name]}))
	}
	return p, nil
}
