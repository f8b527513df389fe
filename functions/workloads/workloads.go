// Package workloads is the function that keeps Deployments and ReplicaSets: a change of one, or of a
// pod of one, in; the writes that bring the world closer to what was asked for, out. The decisions
// are those of core/rollout.
package workloads

import (
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/rollout"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

var (
	deployments = plan.Deployments.GroupResource()
	replicaSets = plan.ReplicaSets.GroupResource()
	pods        = plan.Pods.GroupResource()
)

const (
	deploymentController = "deployment-controller"
	replicaSetController = "replicaset-controller"
	// refusedKind is what a subject waits for whose write the API refused.
	refusedKind = "refused"
	// minRefusedPause and maxRefusedPause bound the pause after a refusal, which doubles.
	minRefusedPause = time.Second
	maxRefusedPause = 5 * time.Minute
)

// Function returns the function.
func Function() consumer.Function {
	return consumer.Function{
		Name:   "workloads",
		Groups: []string{kubestorage.WorkloadsGroup, kubestorage.PodsGroup},
		Handle: handle,
	}
}

// handle decides every ReplicaSet and then every Deployment that the batch touches.
func handle(ctx context.Context, b *consumer.Batch) error {
	t := &touched{deployments: consumer.Set{}, replicaSets: consumer.Set{}, snapshot: b.Snapshot}
	err := b.Gather(t.everything, t.change, func(l plan.Later) {
		switch l.Subject.Resource {
		case plan.Deployments:
			t.deployments.Add(l.Subject.Namespace, l.Subject.Name)
		case plan.ReplicaSets:
			t.replicaSets.Add(l.Subject.Namespace, l.Subject.Name)
		}
	})
	if err != nil {
		return err
	}
	err = consumer.Each(ctx, t.replicaSets.Sorted(), func(ctx context.Context, n consumer.Named) error {
		return decideReplicaSet(ctx, b, n)
	})
	if err != nil {
		return err
	}
	return consumer.Each(ctx, t.deployments.Sorted(), func(ctx context.Context, n consumer.Named) error {
		return decideDeployment(ctx, b, n)
	})
}

// touched collects the subjects of a batch.
type touched struct {
	deployments, replicaSets consumer.Set
	snapshot                 *consumer.Snapshot
}

func (t *touched) everything() error {
	ds, err := consumer.List[*appsv1.Deployment](t.snapshot, deployments, "")
	if err != nil {
		return err
	}
	for _, d := range ds {
		t.deployments.Add(d.Namespace, d.Name)
	}
	sets, err := consumer.List[*appsv1.ReplicaSet](t.snapshot, replicaSets, "")
	for _, rs := range sets {
		t.replicaSets.Add(rs.Namespace, rs.Name)
	}
	return err
}

func (t *touched) change(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	switch gr {
	case deployments:
		t.deployments.Add(namespace, name)
	case replicaSets:
		t.replicaSets.Add(namespace, name)
		return t.owners(ev, namespace, "Deployment", t.deployments, t.matchingDeployments)
	case pods:
		return t.owners(ev, namespace, "ReplicaSet", t.replicaSets, t.matchingReplicaSets)
	}
	return nil
}

// owners adds the controllers of an object before and after a change, or, if it has none, those
// whose selector matches it.
func (t *touched) owners(ev tablelog.Event, namespace, kind string, set consumer.Set, matching func(metav1.Object) error) error {
	for _, e := range []*tablelog.Entry{ev.Prev, ev.Entry} {
		obj, ok, err := consumer.Read[metav1.Object](t.snapshot, e)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if c := metav1.GetControllerOf(obj); c != nil {
			if c.Kind == kind {
				set.Add(namespace, c.Name)
			}
			continue
		}
		if err := matching(obj); err != nil {
			return err
		}
	}
	return nil
}

func (t *touched) matchingDeployments(obj metav1.Object) error {
	all, err := consumer.List[*appsv1.Deployment](t.snapshot, deployments, obj.GetNamespace())
	for _, d := range all {
		if selects(d.Spec.Selector, obj) {
			t.deployments.Add(d.Namespace, d.Name)
		}
	}
	return err
}

func (t *touched) matchingReplicaSets(obj metav1.Object) error {
	all, err := consumer.List[*appsv1.ReplicaSet](t.snapshot, replicaSets, obj.GetNamespace())
	for _, rs := range all {
		if selects(rs.Spec.Selector, obj) {
			t.replicaSets.Add(rs.Namespace, rs.Name)
		}
	}
	return err
}

func selects(selector *metav1.LabelSelector, obj metav1.Object) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && !s.Empty() && s.Matches(labels.Set(obj.GetLabels()))
}

// claimable returns the objects of a resource that an owner controls, and those that its selector
// matches and nobody controls.
func claimable[T metav1.Object](s *consumer.Snapshot, gr schema.GroupResource, owner metav1.Object, selector *metav1.LabelSelector) ([]T, error) {
	owned, err := consumer.OwnedBy[T](s, gr, owner.GetUID())
	if err != nil {
		return nil, err
	}
	out := owned[:0:0]
	for _, o := range owned {
		if metav1.IsControlledBy(o, owner) {
			out = append(out, o)
		}
	}
	all, err := consumer.List[T](s, gr, owner.GetNamespace())
	for _, o := range all {
		if metav1.GetControllerOf(o) == nil && selects(selector, o) {
			out = append(out, o)
		}
	}
	return out, err
}

func decideReplicaSet(ctx context.Context, b *consumer.Batch, n consumer.Named) error {
	var in rollout.ReplicaSetSnapshot
	out, err := b.Decide(ctx, replicaSetController, func(s *consumer.Snapshot) (plan.Plan, error) {
		var ok bool
		var err error
		if in, ok, err = loadReplicaSet(s, n, b.Now); err != nil || !ok {
			return plan.Plan{}, err
		}
		return rollout.ReplicaSet(in), nil
	})
	if err != nil || out.Refused == nil || planclient.Terminating(out.Err) {
		return err
	}
	b.Later(later(plan.ReplicaSets, in.ReplicaSet, b.Now, refusedSince(in.ReplicaSet)))
	_, err = b.Decide(ctx, replicaSetController, func(s *consumer.Snapshot) (plan.Plan, error) {
		in, ok, err := loadReplicaSet(s, n, b.Now)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		return rollout.ReplicaSetFailed(in, out.Err.Error()), nil
	})
	return err
}

func loadReplicaSet(s *consumer.Snapshot, n consumer.Named, now time.Time) (in rollout.ReplicaSetSnapshot, ok bool, err error) {
	in.Now = now
	if in.ReplicaSet, ok, err = consumer.Get[*appsv1.ReplicaSet](s, replicaSets, n.Namespace, n.Name); err != nil || !ok {
		return in, false, err
	}
	if in.Pods, err = claimable[*corev1.Pod](s, pods, in.ReplicaSet, in.ReplicaSet.Spec.Selector); err != nil {
		return in, false, err
	}
	if rs := in.ReplicaSet; rs.Spec.Replicas != nil && len(in.Pods) > int(*rs.Spec.Replicas) {
		in.SiblingPods, err = siblings(s, rs)
	}
	return in, err == nil, err
}

// siblings returns the pods of the other ReplicaSets of the same Deployment.
func siblings(s *consumer.Snapshot, rs *appsv1.ReplicaSet) ([]*corev1.Pod, error) {
	controller := metav1.GetControllerOf(rs)
	if controller == nil {
		return nil, nil
	}
	sets, err := consumer.OwnedBy[*appsv1.ReplicaSet](s, replicaSets, controller.UID)
	if err != nil {
		return nil, err
	}
	var out []*corev1.Pod
	for _, other := range sets {
		if other.UID == rs.UID {
			continue
		}
		some, err := consumer.OwnedBy[*corev1.Pod](s, pods, other.UID)
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	return out, nil
}

func decideDeployment(ctx context.Context, b *consumer.Batch, n consumer.Named) error {
	var in rollout.DeploymentSnapshot
	out, err := b.Decide(ctx, deploymentController, func(s *consumer.Snapshot) (plan.Plan, error) {
		var ok bool
		var err error
		if in, ok, err = loadDeployment(s, n, b.Now); err != nil || !ok {
			return plan.Plan{}, err
		}
		return rollout.Deployment(in), nil
	})
	if err != nil || out.Refused == nil || planclient.Terminating(out.Err) {
		return err
	}
	b.Later(later(plan.Deployments, in.Deployment, b.Now, in.Deployment.CreationTimestamp.Time))
	if out.Refused.Verb != plan.Create {
		return nil
	}
	_, err = b.Decide(ctx, deploymentController, func(s *consumer.Snapshot) (plan.Plan, error) {
		in, ok, err := loadDeployment(s, n, b.Now)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		return rollout.NewReplicaSetRefused(in, out.Err.Error()), nil
	})
	return err
}

func loadDeployment(s *consumer.Snapshot, n consumer.Named, now time.Time) (in rollout.DeploymentSnapshot, ok bool, err error) {
	in.Now = now
	if in.Deployment, ok, err = consumer.Get[*appsv1.Deployment](s, deployments, n.Namespace, n.Name); err != nil || !ok {
		return in, false, err
	}
	d := in.Deployment
	if in.ReplicaSets, err = claimable[*appsv1.ReplicaSet](s, replicaSets, d, d.Spec.Selector); err != nil {
		return in, false, err
	}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		for _, rs := range in.ReplicaSets {
			some, err := consumer.OwnedBy[*corev1.Pod](s, pods, rs.UID)
			if err != nil {
				return in, false, err
			}
			in.Pods = append(in.Pods, some...)
		}
	}
	named, exists, err := consumer.Get[*appsv1.ReplicaSet](s, replicaSets, n.Namespace, rollout.NewReplicaSetName(d))
	if exists {
		in.SameName = named
	}
	return in, err == nil, err
}

// refusedSince is when the API began to refuse what a ReplicaSet asks for.
func refusedSince(rs *appsv1.ReplicaSet) time.Time {
	for _, c := range rs.Status.Conditions {
		if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// later puts off the next attempt of a refused write for as long again as it has been refused.
func later(resource schema.GroupVersionResource, obj metav1.Object, now, since time.Time) plan.Later {
	pause := minRefusedPause
	if !since.IsZero() {
		pause = min(max(now.Sub(since), minRefusedPause), maxRefusedPause)
	}
	ref := plan.Ref{Resource: resource, Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID()}
	return plan.Later{At: now.Add(pause), Subject: ref, Kind: refusedKind}
}
