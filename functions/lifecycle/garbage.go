package lifecycle

import (
	"context"
	"sort"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/lifecycle"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// graphChange adds the objects that garbage collection must decide because of a change.
func (b *batch) graphChange(ev tablelog.Event) error {
	if ev.Prev == nil && ev.Entry == nil {
		return nil
	}
	g := b.graph(b.Snapshot)
	before, err := g.object(ev.Prev)
	if err != nil {
		return err
	}
	after, err := g.object(ev.Entry)
	if err != nil || before == nil && after == nil {
		return err
	}
	affected := lifecycle.Affects(before, after)
	if affected.Dependent {
		b.dependents[ev.Key] = true
	}
	if affected.Owner {
		b.owners[ev.Key] = true
	}
	if affected.Gone {
		b.gone = append(b.gone, *before)
	}
	either := after
	if either == nil {
		either = before
	}
	for _, ref := range affected.Owners {
		if key, _, known := g.resolve(ref, either.Ref.Namespace); known {
			b.owners[key] = true
		}
	}
	return nil
}

// collect decides them: owners that are gone first, since most garbage follows from those.
func (b *batch) collect(ctx context.Context) error {
	if err := consumer.Each(ctx, b.gone, b.decideGone); err != nil {
		return err
	}
	if err := consumer.Each(ctx, keys(b.dependents), b.decideDependent); err != nil {
		return err
	}
	return consumer.Each(ctx, keys(b.owners), b.decideOwner)
}

func keys(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func (b *batch) decideGone(ctx context.Context, owner lifecycle.Object) error {
	return consumer.Refused(b.Decide(ctx, garbageCollector, func(s *consumer.Snapshot) (plan.Plan, error) {
		g := b.graph(s)
		nodes, err := g.dependentNodes(&owner)
		if err != nil {
			return plan.Plan{}, err
		}
		return lifecycle.Gone(owner, nodes), nil
	}))
}

func (b *batch) decideDependent(ctx context.Context, key string) error {
	return consumer.Refused(b.Decide(ctx, garbageCollector, func(s *consumer.Snapshot) (plan.Plan, error) {
		g := b.graph(s)
		obj, err := g.at(key)
		if err != nil || obj == nil {
			return plan.Plan{}, err
		}
		n, err := g.node(obj)
		if err == nil {
			err = g.lookElsewhere(n)
		}
		if err != nil {
			return plan.Plan{}, err
		}
		return lifecycle.Dependent(n), nil
	}))
}

func (b *batch) decideOwner(ctx context.Context, key string) error {
	return consumer.Refused(b.Decide(ctx, garbageCollector, func(s *consumer.Snapshot) (plan.Plan, error) {
		g := b.graph(s)
		obj, err := g.at(key)
		if err != nil || obj == nil {
			return plan.Plan{}, err
		}
		nodes, err := g.dependentNodes(obj)
		if err != nil {
			return plan.Plan{}, err
		}
		return lifecycle.Owner(*obj, nodes), nil
	}))
}
