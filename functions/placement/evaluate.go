package placement

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/scheduling"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// ErrNotFound is returned for a pod that does not exist.
var ErrNotFound = errors.New("there is no such pod")

// Evaluate tells how the nodes look to a pod in the present state of a cluster, what would make it fit if no node takes it, and
// which node it is on, empty for none.
// One that is on a node is judged as if it were to be placed anew: it is not in its own way. It fails with ErrNotFound.
func Evaluate(
	ctx context.Context, c *consumer.Cluster, profiles []scheduling.Profile, namespace, name string,
) (e scheduling.Evaluation, hints []scheduling.Hint, node string, err error) {
	look := func(ctx context.Context, b *consumer.Batch) error {
		pod, ok, err := consumer.Get[*corev1.Pod](b.Snapshot, plan.Pods.GroupResource(), namespace, name)
		if err == nil && !ok {
			err = fmt.Errorf("pod %s/%s: %w", namespace, name, ErrNotFound)
		}
		if err != nil {
			return err
		}
		w := &warm{profiles: profiles}
		if err := w.advance(ctx, b, b.Snapshot); err != nil {
			return err
		}
		w.cluster.DeletePod(namespace, name)
		e, node = w.cluster.Evaluate(pod, b.Now), pod.Spec.NodeName
		hints = w.cluster.Hints(pod, e, b.Now)
		if why := whyAside(pod); e.Message == "" && node == "" && why != "" {
			e.Message = why
		}
		return nil
	}
	err = c.Act(ctx, consumer.Function{Name: "placement", Groups: groups, Also: also, Handle: look})
	return e, hints, node, err
}
