package signals

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/registry"
	"github.com/zeroplane/zeroplane/events/foreign"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// follow rolls out a pushed image in the workloads that follow its tag.
func follow(ctx context.Context, b *consumer.Batch, m foreign.RegistryChange) error {
	push := registry.Push{Registry: m.Registry, Repository: m.Repository, Tag: m.Tag, Digest: m.Digest, At: m.Time, ID: m.ID}
	if err := followIn[*appsv1.Deployment](ctx, b, plan.Deployments, push); err != nil {
		return err
	}
	if err := followIn[*appsv1.StatefulSet](ctx, b, plan.StatefulSets, push); err != nil {
		return err
	}
	return followIn[*appsv1.DaemonSet](ctx, b, plan.DaemonSets, push)
}

func followIn[T interface {
	runtime.Object
	metav1.Object
}](ctx context.Context, b *consumer.Batch, resource schema.GroupVersionResource, push registry.Push) error {
	all, err := consumer.List[T](b.Snapshot, resource.GroupResource(), "")
	if err != nil {
		return err
	}
	var names []consumer.Named
	for _, w := range all {
		if registry.Follows(w) {
			names = append(names, consumer.Named{Namespace: w.GetNamespace(), Name: w.GetName()})
		}
	}
	return consumer.Each(ctx, names, func(ctx context.Context, n consumer.Named) error {
		return decide(ctx, b, planned(
			func(s *consumer.Snapshot) (T, bool, error) {
				return consumer.Get[T](s, resource.GroupResource(), n.Namespace, n.Name)
			},
			func(w T) plan.Plan { return registry.Follow(w, push) }))
	})
}
