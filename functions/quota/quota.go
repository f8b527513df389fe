// Package quota is the function that keeps ResourceQuotas: objects that come and go in; the quotas'
// limits and what is used of them out. The decisions are those of core/quota.
//
//	quota.go  which quotas a batch is about
//	usage.go  what the objects of a namespace use
package quota

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/kubernetes/pkg/quota/v1/install"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/quota"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

const component = "resourcequota-controller"

var quotas = plan.ResourceQuotas.GroupResource()

// replenishes reports whether an update of an object gives back what it used.
var replenishes = install.DefaultUpdateFilter()

// Function returns the function. Endpoints and leases are counted like anything else, but change
// too often to count for that.
func Function() consumer.Function {
	return consumer.Function{
		Name:   "quota",
		Groups: []string{kubestorage.PodsGroup, kubestorage.WorkloadsGroup, kubestorage.ConfigGroup, kubestorage.ObjectsGroup},
		Also:   []string{kubestorage.EndpointsGroup, kubestorage.LeasesGroup},
		Handle: handle,
	}
}

// touched collects the quotas of a batch: those to count, and those to which objects were only added.
type touched struct {
	*consumer.Batch
	count, added consumer.Set
}

func handle(ctx context.Context, b *consumer.Batch) error {
	t := &touched{Batch: b, count: consumer.Set{}, added: consumer.Set{}}
	everything := func() error { return t.namespace(t.count, "") }
	err := b.Gather(everything, t.change, func(l plan.Later) {
		if l.Subject.Resource == plan.ResourceQuotas {
			t.count.Add(l.Subject.Namespace, l.Subject.Name)
		}
	})
	if err != nil {
		return err
	}
	if err := consumer.Each(ctx, t.count.Sorted(), func(ctx context.Context, n consumer.Named) error { return t.decide(ctx, n, false) }); err != nil {
		return err
	}
	return consumer.Each(ctx, t.added.Sorted(), func(ctx context.Context, n consumer.Named) error {
		if t.count[n] {
			return nil
		}
		return t.decide(ctx, n, true)
	})
}

// namespace adds the quotas of a namespace, or of all, to a set.
func (t *touched) namespace(set consumer.Set, namespace string) error {
	all, err := consumer.List[*corev1.ResourceQuota](t.Snapshot, quotas, namespace)
	for _, q := range all {
		set.Add(q.Namespace, q.Name)
	}
	return err
}

func (t *touched) change(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	switch {
	case namespace == "":
		return nil
	case gr == quotas && ev.Entry != nil:
		return t.quota(ev, namespace, name)
	case ev.Entry == nil:
		return t.namespace(t.count, namespace)
	case ev.Prev == nil:
		return t.namespace(t.added, namespace)
	}
	return t.update(ev, namespace)
}

// quota counts a quota that is new or has other limits. One that was charged is put off, so that what
// never came is given back.
func (t *touched) quota(ev tablelog.Event, namespace, name string) error {
	before, existed, err := consumer.Read[*corev1.ResourceQuota](t.Snapshot, ev.Prev)
	if err != nil {
		return err
	}
	after, ok, err := consumer.Read[*corev1.ResourceQuota](t.Snapshot, ev.Entry)
	if err != nil || !ok {
		return err
	}
	switch {
	case !existed:
		t.count.Add(namespace, name)
		return t.namespace(t.added, namespace) // quotas are counted too
	case !apiequality.Semantic.DeepEqual(before.Spec, after.Spec):
		t.count.Add(namespace, name)
	case !apiequality.Semantic.DeepEqual(before.Status.Used, after.Status.Used):
		t.Later(quota.Settle(after, t.Now))
	}
	return nil
}

// update counts the quotas of a namespace in which an object changed so that it uses less.
func (t *touched) update(ev tablelog.Event, namespace string) error {
	gr, _, _ := kubestorage.ParseKey(ev.Key)
	if !changesUse[gr] {
		return nil
	}
	before, err := t.object(ev.Prev)
	if err != nil {
		return err
	}
	after, err := t.object(ev.Entry)
	if err != nil || !replenishes(gr.WithVersion("v1"), before, after) {
		return err
	}
	return t.namespace(t.count, namespace)
}

func (t *touched) object(e *tablelog.Entry) (any, error) {
	obj, _, err := consumer.Read[any](t.Snapshot, e)
	return obj, err
}

func (t *touched) decide(ctx context.Context, n consumer.Named, added bool) error {
	return consumer.Refused(t.Decide(ctx, component, func(s *consumer.Snapshot) (plan.Plan, error) {
		q, ok, err := consumer.Get[*corev1.ResourceQuota](s, quotas, n.Namespace, n.Name)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		used, err := usage(s, q)
		if err != nil {
			return plan.Plan{}, err
		}
		return quota.Status(quota.Input{Quota: q, Used: used, Added: added}), nil
	}))
}
