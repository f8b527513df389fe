package signals

import (
	"context"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/departure"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// DrainFunction drains the nodes whose machines go: a node that was announced in, evictions out. A budget that refuses one
// wakes it again when it allows some; at a node's deadline it is called for what is left.
func DrainFunction() consumer.Function {
	return consumer.Function{
		Name:   "departures",
		Groups: []string{kubestorage.NodesGroup, kubestorage.WorkloadsGroup}, Also: []string{kubestorage.PodsGroup},
		Handle: drain,
	}
}

var (
	podResource    = plan.Pods.GroupResource()
	budgetResource = plan.DisruptionBudgets.GroupResource()
)

// departing collects the nodes that a batch is about.
type departing struct {
	*consumer.Batch
	nodes consumer.Set
}

func drain(ctx context.Context, b *consumer.Batch) error {
	d := &departing{Batch: b, nodes: consumer.Set{}}
	err := b.Gather(d.everything, d.change, func(l plan.Later) {
		if l.Subject.Resource == plan.Nodes {
			d.nodes.Add("", l.Subject.Name)
		}
	})
	if err != nil || len(d.nodes) == 0 {
		return err
	}
	for _, n := range d.nodes.Sorted() {
		if err := d.drain(ctx, n.Name); err != nil {
			return err
		}
	}
	return nil
}

func (d *departing) everything() error {
	all, err := consumer.List[*corev1.Node](d.Snapshot, nodeResource, "")
	for _, n := range all {
		if departure.Departing(n) {
			d.nodes.Add("", n.Name)
		}
	}
	return err
}

func (d *departing) change(ev tablelog.Event) error {
	switch gr, _, name := kubestorage.ParseKey(ev.Key); gr {
	case nodeResource:
		node, ok, err := consumer.Read[*corev1.Node](d.Snapshot, ev.Entry)
		if err == nil && ok && departure.Departing(node) {
			d.nodes.Add("", name)
		}
		return err
	case budgetResource:
		budget, ok, err := consumer.Read[*policyv1.PodDisruptionBudget](d.Snapshot, ev.Entry)
		if err != nil || ok && budget.Status.DisruptionsAllowed == 0 {
			return err
		}
		return d.everything() // one that is gone protects nothing any more
	}
	return nil
}

// drain has the pods of a node leave it.
func (d *departing) drain(ctx context.Context, name string) error {
	node, there, err := consumer.Get[*corev1.Node](d.Snapshot, nodeResource, "", name)
	if err != nil || !there {
		return err
	}
	pods, err := consumer.List[*corev1.Pod](d.Snapshot, podResource, "")
	if err != nil {
		return err
	}
	out := departure.Drain(node, pods, d.Now)
	if out.Later != nil {
		d.Later(*out.Later)
	}
	// One after the other: those that one budget covers would be in each other's way.
	for _, p := range out.Pods {
		if err := d.evict(ctx, name, p); err != nil {
			return err
		}
	}
	return nil
}

func (d *departing) evict(ctx context.Context, node string, p departure.PodPlan) error {
	outcome, err := d.Decide(ctx, Component, func(s *consumer.Snapshot) (plan.Plan, error) {
		if s == d.Snapshot {
			return p.Plan, nil
		}
		// Decided again: the pod, or the node, may have gone.
		n, there, err := consumer.Get[*corev1.Node](s, nodeResource, "", node)
		if err != nil || !there {
			return plan.Plan{}, err
		}
		pod, there, err := consumer.Get[*corev1.Pod](s, podResource, p.Namespace, p.Name)
		if err != nil || !there {
			return plan.Plan{}, err
		}
		if again := departure.Drain(n, []*corev1.Pod{pod}, d.Now).Pods; len(again) > 0 {
			return again[0].Plan, nil
		}
		return plan.Plan{}, nil
	})
	if err != nil || outcome.Refused == nil {
		return err
	}
	if apierrors.IsTooManyRequests(outcome.Err) || permanent(outcome.Err) || outcome.Refused.Verb == plan.Evict && apierrors.IsInternalError(outcome.Err) {
		slog.Info("a pod stays on a node whose machine goes", "cluster", d.Name, "node", node, "namespace", p.Namespace, "pod", p.Name, "error", outcome.Err)
		return nil // its budget, or the deadline, calls again
	}
	return outcome.Err
}
