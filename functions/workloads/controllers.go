package workloads

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/rollout"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

func decideController(ctx context.Context, b *consumer.Batch, n consumer.Named) error {
	return consumer.Step[rollout.ReplicaSetSnapshot]{
		Load: func(s *consumer.Snapshot) (rollout.ReplicaSetSnapshot, bool, error) {
			return loadController(s, n, b.Now)
		},
		Decide: rollout.ReplicationController,
		Again: func(in rollout.ReplicaSetSnapshot) plan.Later {
			return consumer.Refusal(plan.ReplicationControllers, in.ReplicaSet, b.Now, refusedSince(in.ReplicaSet))
		},
		Failed: func(in rollout.ReplicaSetSnapshot, out planclient.Outcome) plan.Plan {
			return rollout.ReplicationControllerFailed(in, out.Err.Error())
		},
	}.Take(ctx, b, controllerController)
}

// loadController loads a ReplicationController as the ReplicaSet that it is like.
func loadController(s *consumer.Snapshot, n consumer.Named, now time.Time) (in rollout.ReplicaSetSnapshot, ok bool, err error) {
	in.Now = now
	rc, ok, err := consumer.Get[*corev1.ReplicationController](s, controllers, n.Namespace, n.Name)
	if err != nil || !ok {
		return in, false, err
	}
	in.ReplicaSet = rollout.ReplicaSetLike(rc)
	in.Pods, err = consumer.Claimable[*corev1.Pod](s, pods, rc, in.ReplicaSet.Spec.Selector)
	return in, err == nil, err
}
