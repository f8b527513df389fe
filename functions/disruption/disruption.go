// Package disruption is the function that keeps PodDisruptionBudgets: a change of a budget or of a pod
// in; the budgets' status out. The decisions are those of core/disruption.
//
//	disruption.go which budgets and pods a batch is about
//	scale.go      how many pods the controller of a pod asks for
package disruption

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/disruption"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

const component = "disruption-controller"

var (
	budgets = plan.DisruptionBudgets.GroupResource()
	pods    = plan.Pods.GroupResource()
)

// Function returns the function.
func Function() consumer.Function {
	return consumer.Function{
		Name:   "disruption",
		Groups: []string{kubestorage.PodsGroup, kubestorage.WorkloadsGroup},
		Handle: handle,
	}
}

// touched collects the subjects of a batch.
type touched struct {
	*consumer.Batch
	budgets, pods consumer.Set
}

func handle(ctx context.Context, b *consumer.Batch) error {
	t := &touched{Batch: b, budgets: consumer.Set{}, pods: consumer.Set{}}
	err := b.Gather(t.everything, t.change, func(l plan.Later) {
		switch l.Subject.Resource {
		case plan.DisruptionBudgets:
			t.budgets.Add(l.Subject.Namespace, l.Subject.Name)
		case plan.Pods:
			t.pods.Add(l.Subject.Namespace, l.Subject.Name)
		}
	})
	if err != nil {
		return err
	}
	if err := consumer.Each(ctx, t.budgets.Sorted(), t.decideBudget); err != nil {
		return err
	}
	return consumer.Each(ctx, t.pods.Sorted(), t.decidePod)
}

func (t *touched) everything() error {
	all, err := consumer.List[*policyv1.PodDisruptionBudget](t.Snapshot, budgets, "")
	if err != nil {
		return err
	}
	for _, budget := range all {
		t.budgets.Add(budget.Namespace, budget.Name)
	}
	announcing, err := consumer.List[*corev1.Pod](t.Snapshot, pods, "")
	for _, pod := range announcing {
		if disruption.Announces(pod) {
			t.pods.Add(pod.Namespace, pod.Name)
		}
	}
	return err
}

func (t *touched) change(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	switch gr {
	case budgets:
		t.budgets.Add(namespace, name)
	case pods:
		for _, e := range []*tablelog.Entry{ev.Prev, ev.Entry} {
			if err := t.pod(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// pod adds the budgets that cover a pod, and the pod if it announces its disruption.
func (t *touched) pod(e *tablelog.Entry) error {
	pod, ok, err := consumer.Read[*corev1.Pod](t.Snapshot, e)
	if err != nil || !ok {
		return err
	}
	if disruption.Announces(pod) {
		t.pods.Add(pod.Namespace, pod.Name)
	}
	all, err := consumer.List[*policyv1.PodDisruptionBudget](t.Snapshot, budgets, pod.Namespace)
	for _, budget := range all {
		if covers(budget, pod) {
			t.budgets.Add(budget.Namespace, budget.Name)
		}
	}
	return err
}

// covers reports whether the budget's selector matches the pod. An empty one matches every pod, and a
// malformed one none.
func covers(budget *policyv1.PodDisruptionBudget, pod *corev1.Pod) bool {
	s, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
	return err == nil && s.Matches(labels.Set(pod.Labels))
}

func (t *touched) decideBudget(ctx context.Context, n consumer.Named) error {
	return consumer.Refused(t.Decide(ctx, component, func(s *consumer.Snapshot) (plan.Plan, error) {
		budget, ok, err := consumer.Get[*policyv1.PodDisruptionBudget](s, budgets, n.Namespace, n.Name)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		in := disruption.Input{Budget: budget, Controllers: map[types.UID]disruption.Controller{}, Now: t.Now}
		all, err := consumer.List[*corev1.Pod](s, pods, n.Namespace)
		if err != nil {
			return plan.Plan{}, err
		}
		finder := scaleFinder{Snapshot: s, api: t.Cluster}
		for _, pod := range all {
			if !covers(budget, pod) {
				continue
			}
			in.Pods = append(in.Pods, pod)
			if err := finder.add(in.Controllers, pod); err != nil {
				return plan.Plan{}, err
			}
		}
		return disruption.Budget(in), nil
	}))
}

func (t *touched) decidePod(ctx context.Context, n consumer.Named) error {
	return consumer.Refused(t.Decide(ctx, component, func(s *consumer.Snapshot) (plan.Plan, error) {
		pod, ok, err := consumer.Get[*corev1.Pod](s, pods, n.Namespace, n.Name)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		return disruption.Stale(pod, t.Now), nil
	}))
}
