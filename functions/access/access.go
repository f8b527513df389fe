// Package access is the function that keeps ClusterRoles that are made of others: a change of one in, the rules of those that
// it is a part of out. The decisions are those of core/access.
package access

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/access"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

const component = "clusterrole-aggregation-controller"

var clusterRoles = plan.ClusterRoles.GroupResource()

// Function returns the function.
func Function() consumer.Function {
	return consumer.Function{Name: "access", Groups: []string{kubestorage.ConfigGroup}, Handle: handle}
}

// handle decides every aggregated ClusterRole if any ClusterRole has changed: as upstream's, it does not know which are parts of which.
func handle(ctx context.Context, b *consumer.Batch) error {
	changed := false
	err := b.Gather(func() error { changed = true; return nil }, func(ev tablelog.Event) error {
		gr, _, _ := kubestorage.ParseKey(ev.Key)
		changed = changed || gr == clusterRoles
		return nil
	}, func(plan.Later) {})
	if err != nil || !changed {
		return err
	}
	roles, err := consumer.List[*rbacv1.ClusterRole](b.Snapshot, clusterRoles, "")
	if err != nil {
		return err
	}
	for _, role := range roles {
		if role.AggregationRule == nil {
			continue
		}
		if err := decide(ctx, b, role.Name); err != nil {
			return err
		}
	}
	return nil
}

func decide(ctx context.Context, b *consumer.Batch, name string) error {
	return consumer.Refused(b.Decide(ctx, component, func(s *consumer.Snapshot) (plan.Plan, error) {
		role, ok, err := consumer.Get[*rbacv1.ClusterRole](s, clusterRoles, "", name)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		all, err := consumer.List[*rbacv1.ClusterRole](s, clusterRoles, "")
		if err != nil {
			return plan.Plan{}, err
		}
		return access.Aggregate(role, all), nil
	}))
}
