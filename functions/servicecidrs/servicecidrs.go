// Package servicecidrs is the function that keeps the ranges of Services' addresses: a range or an address that comes or goes in,
// finalizers and conditions out. The decisions are those of core/servicecidrs.
package servicecidrs

import (
	"context"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/servicecidrs"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// component is the controller of kube-system in whose name the function acts.
const component = "service-cidrs-controller"

// longestPause bounds the pause after a refused write (maxRetries of upstream's controller: its fifteenth is 82 seconds).
const longestPause = 82 * time.Second

var (
	rangeResource   = plan.ServiceRanges.GroupResource()
	addressResource = plan.Addresses.GroupResource()
)

// Function returns the function.
func Function() consumer.Function {
	return consumer.Function{Name: "servicecidrs", Groups: []string{kubestorage.ConfigGroup}, Handle: handle}
}

// handle decides all ranges if one has changed, and those that are being deleted if an address has come or gone. There are few.
func handle(ctx context.Context, b *consumer.Batch) error {
	ranges, addresses := false, false
	err := b.Gather(func() error { ranges = true; return nil }, func(ev tablelog.Event) error {
		gr, _, _ := kubestorage.ParseKey(ev.Key)
		ranges = ranges || gr == rangeResource
		addresses = addresses || gr == addressResource && ev.Type != tablelog.Updated
		return nil
	}, func(plan.Later) { ranges = true })
	if err != nil || !ranges && !addresses {
		return err
	}
	all, err := consumer.List[*networkingv1.ServiceCIDR](b.Snapshot, rangeResource, "")
	if err != nil {
		return err
	}
	for _, r := range all {
		if !ranges && r.DeletionTimestamp == nil {
			continue
		}
		if err := decide(ctx, b, r.Name); err != nil {
			return err
		}
	}
	return nil
}

func decide(ctx context.Context, b *consumer.Batch, name string) error {
	return consumer.Step[servicecidrs.Input]{
		Load:   func(s *consumer.Snapshot) (servicecidrs.Input, bool, error) { return load(s, name, b.Now) },
		Decide: servicecidrs.Reconcile,
		Again: func(in servicecidrs.Input) plan.Later {
			ref := plan.Ref{Resource: plan.ServiceRanges, Name: name, UID: in.Range.UID}
			return consumer.TryAgain(ref, b.Now, consumer.LastEdited(in.Range), longestPause)
		},
	}.Take(ctx, b, component)
}

func load(s *consumer.Snapshot, name string, now time.Time) (in servicecidrs.Input, ok bool, err error) {
	in.Now = now
	if in.Range, ok, err = consumer.Get[*networkingv1.ServiceCIDR](s, rangeResource, "", name); err != nil || !ok {
		return in, false, err
	}
	if in.Range.DeletionTimestamp == nil {
		return in, true, nil
	}
	if in.Ranges, err = consumer.List[*networkingv1.ServiceCIDR](s, rangeResource, ""); err != nil {
		return in, false, err
	}
	in.Addresses, err = consumer.List[*networkingv1.IPAddress](s, addressResource, "")
	return in, err == nil, err
}
