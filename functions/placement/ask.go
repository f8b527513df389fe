package placement

import (
	"context"

	resourceapi "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/scheduling"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// Ask answers what would come of a change of a cluster as it is now, and changes nothing. It fails with ErrInvalid or
// ErrNoNode.
func Ask(ctx context.Context, c *consumer.Cluster, profiles []scheduling.Profile, q Question) (a Answer, err error) {
	think := func(ctx context.Context, b *consumer.Batch) error {
		w := &warm{profiles: profiles}
		if err := w.advance(ctx, b, b.Snapshot); err != nil {
			return err
		}
		priorities, err := consumer.List[*schedulingv1.PriorityClass](b.Snapshot, schedulingv1.Resource("priorityclasses"), "")
		if err != nil {
			return err
		}
		classes, err := consumer.List[*storagev1.StorageClass](b.Snapshot, storagev1.Resource("storageclasses"), "")
		if err != nil {
			return err
		}
		templates, err := consumer.List[*resourceapi.ResourceClaimTemplate](b.Snapshot, plan.ResourceClaimTemplates.GroupResource(), "")
		if err != nil {
			return err
		}
		k := newKnown(append(priorities, q.PriorityClasses...), classes, append(templates, q.ResourceClaimTemplates...), b.Now)
		a, err = q.ask(w.cluster, k, seed(b.Name, b.Snapshot))
		return err
	}
	err = c.Act(ctx, consumer.Function{Name: "placement", Groups: groups, Also: also, Handle: think})
	return a, err
}
