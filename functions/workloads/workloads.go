// Package workloads is the function that keeps Deployments, ReplicaSets and ReplicationControllers: a change of one, or of a
// pod of one, in; the writes that bring the world closer to what was asked for, out. The decisions
// are those of core/rollout.
package workloads

import (
	"context"
	"errors"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	controllers = plan.ReplicationControllers.GroupResource()
	pods        = plan.Pods.GroupResource()
)

const (
	deploymentController = "deployment-controller"
	replicaSetController = "replicaset-controller"
	controllerController = "replication-controller"
)

// Function returns the function.
func Function() consumer.Function {
	return consumer.Function{
		Name:   "workloads",
		Groups: []string{kubestorage.WorkloadsGroup, kubestorage.PodsGroup},
		Handle: handle,
	}
}

// handle decides every ReplicationController, every ReplicaSet and then every Deployment that the batch touches.
func handle(ctx context.Context, b *consumer.Batch) error {
	t := &touched{deployments: consumer.Set{}, replicaSets: consumer.Set{}, controllers: consumer.Set{}, snapshot: b.Snapshot}
	err := b.Gather(t.everything, t.change, func(l plan.Later) {
		switch l.Subject.Resource {
		case plan.Deployments:
			t.deployments.Add(l.Subject.Namespace, l.Subject.Name)
		case plan.ReplicaSets:
			t.replicaSets.Add(l.Subject.Namespace, l.Subject.Name)
		case plan.ReplicationControllers:
			t.controllers.Add(l.Subject.Namespace, l.Subject.Name)
		}
	})
	if err != nil {
		return err
	}
	err = consumer.Each(ctx, t.controllers.Sorted(), func(ctx context.Context, n consumer.Named) error {
		return decideController(ctx, b, n)
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
	deployments, replicaSets, controllers consumer.Set

	snapshot *consumer.Snapshot
}

func (t *touched) everything() error {
	return errors.Join(
		consumer.AddAll[*appsv1.Deployment](t.snapshot, deployments, t.deployments),
		consumer.AddAll[*appsv1.ReplicaSet](t.snapshot, replicaSets, t.replicaSets),
		consumer.AddAll[*corev1.ReplicationController](t.snapshot, controllers, t.controllers))
}

func (t *touched) change(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	switch gr {
	case deployments:
		t.deployments.Add(namespace, name)
	case replicaSets:
		t.replicaSets.Add(namespace, name)
		return consumer.Owners(t.snapshot, ev, "Deployment", t.deployments, t.matchingDeployments)
	case controllers:
		t.controllers.Add(namespace, name)
	case pods:
		if err := consumer.Owners(t.snapshot, ev, "ReplicationController", t.controllers, t.matchingControllers); err != nil {
			return err
		}
		return consumer.Owners(t.snapshot, ev, "ReplicaSet", t.replicaSets, t.matchingReplicaSets)
	}
	return nil
}

func (t *touched) matchingDeployments(obj metav1.Object) error {
	return consumer.AddMatching(t.snapshot, deployments, obj.GetNamespace(), t.deployments, func(d *appsv1.Deployment) bool {
		return consumer.Selects(d.Spec.Selector, obj)
	})
}

func (t *touched) matchingReplicaSets(obj metav1.Object) error {
	return consumer.AddMatching(t.snapshot, replicaSets, obj.GetNamespace(), t.replicaSets, func(rs *appsv1.ReplicaSet) bool {
		return consumer.Selects(rs.Spec.Selector, obj)
	})
}

func (t *touched) matchingControllers(obj metav1.Object) error {
	return consumer.AddMatching(t.snapshot, controllers, obj.GetNamespace(), t.controllers, func(rc *corev1.ReplicationController) bool {
		return consumer.Selects(&metav1.LabelSelector{MatchLabels: rc.Spec.Selector}, obj)
	})
}

func decideReplicaSet(ctx context.Context, b *consumer.Batch, n consumer.Named) error {
	return consumer.Step[rollout.ReplicaSetSnapshot]{
		Load: func(s *consumer.Snapshot) (rollout.ReplicaSetSnapshot, bool, error) {
			return loadReplicaSet(s, n, b.Now)
		},
		Decide: rollout.ReplicaSet,
		Again: func(in rollout.ReplicaSetSnapshot) plan.Later {
			return consumer.Refusal(plan.ReplicaSets, in.ReplicaSet, b.Now, refusedSince(in.ReplicaSet))
		},
		Failed: func(in rollout.ReplicaSetSnapshot, out planclient.Outcome) plan.Plan {
			return rollout.ReplicaSetFailed(in, out.Err.Error())
		},
	}.Take(ctx, b, replicaSetController)
}

func loadReplicaSet(s *consumer.Snapshot, n consumer.Named, now time.Time) (in rollout.ReplicaSetSnapshot, ok bool, err error) {
	in.Now = now
	if in.ReplicaSet, ok, err = consumer.Get[*appsv1.ReplicaSet](s, replicaSets, n.Namespace, n.Name); err != nil || !ok {
		return in, false, err
	}
	if in.Pods, err = consumer.Claimable[*corev1.Pod](s, pods, in.ReplicaSet, in.ReplicaSet.Spec.Selector); err != nil {
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
	return consumer.Step[rollout.DeploymentSnapshot]{
		Load: func(s *consumer.Snapshot) (rollout.DeploymentSnapshot, bool, error) {
			return loadDeployment(s, n, b.Now)
		},
		Decide: rollout.Deployment,
		Again: func(in rollout.DeploymentSnapshot) plan.Later {
			return consumer.Refusal(plan.Deployments, in.Deployment, b.Now, in.Deployment.CreationTimestamp.Time)
		},
		Failed: func(in rollout.DeploymentSnapshot, out planclient.Outcome) plan.Plan {
			if out.Refused.Verb != plan.Create {
				return plan.Plan{}
			}
			return rollout.NewReplicaSetRefused(in, out.Err.Error())
		},
	}.Take(ctx, b, deploymentController)
}

func loadDeployment(s *consumer.Snapshot, n consumer.Named, now time.Time) (in rollout.DeploymentSnapshot, ok bool, err error) {
	in.Now = now
	if in.Deployment, ok, err = consumer.Get[*appsv1.Deployment](s, deployments, n.Namespace, n.Name); err != nil || !ok {
		return in, false, err
	}
	d := in.Deployment
	if in.ReplicaSets, err = consumer.Claimable[*appsv1.ReplicaSet](s, replicaSets, d, d.Spec.Selector); err != nil {
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
