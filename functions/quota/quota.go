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
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
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

// woken are the groups whose changes wake the function.
var woken = []string{kubestorage.PodsGroup, kubestorage.WorkloadsGroup, kubestorage.ConfigGroup, kubestorage.ObjectsGroup}

// Function returns the function. Endpoints and leases are counted like anything else, but change
// too often to count for that.
func Function() consumer.Function {
	return consumer.Function{
		Name:   "quota",
		Groups: woken,
		Also:   []string{kubestorage.EndpointsGroup, kubestorage.LeasesGroup},
		Handle: handle,
	}
}

// touched collects the quotas of a batch.
type touched struct {
	*consumer.Batch
	// count are those to count, charged those whose charges changed, and overdue those whose charges must have settled.
	count, charged, overdue consumer.Set
	// freeing are the changes that may give something back, by namespace.
	freeing map[string][]freeing
	// quotas are those of the namespaces that were asked for.
	quotas map[string][]*corev1.ResourceQuota
}

// freeing is an object before and after a change, nil for gone.
type freeing struct {
	resource      schema.GroupResource
	revision      uint64
	before, after runtime.Object
}

func handle(ctx context.Context, b *consumer.Batch) error {
	t := &touched{
		Batch: b, count: consumer.Set{}, charged: consumer.Set{}, overdue: consumer.Set{},
		freeing: map[string][]freeing{}, quotas: map[string][]*corev1.ResourceQuota{},
	}
	// What went while nobody knows of it is counted when charges have settled.
	everything := func() error {
		all, err := consumer.List[*corev1.ResourceQuota](t.Snapshot, quotas, "")
		for _, q := range all {
			t.count.Add(q.Namespace, q.Name)
			t.Later(quota.Settle(q, t.Now))
		}
		return err
	}
	err := b.Gather(everything, t.change, func(l plan.Later) {
		if l.Subject.Resource == plan.ResourceQuotas {
			t.count.Add(l.Subject.Namespace, l.Subject.Name)
			t.overdue.Add(l.Subject.Namespace, l.Subject.Name)
		}
	})
	if err != nil {
		return err
	}
	return consumer.Each(ctx, t.count.Sorted(), t.decide)
}

// of returns the quotas of a namespace: most have none, and then nothing of what changes there is looked at.
func (t *touched) of(namespace string) ([]*corev1.ResourceQuota, error) {
	all, known := t.quotas[namespace]
	if known {
		return all, nil
	}
	all, err := consumer.List[*corev1.ResourceQuota](t.Snapshot, quotas, namespace)
	if err != nil {
		return nil, err
	}
	t.quotas[namespace] = all
	return all, nil
}

func (t *touched) countAll(of []*corev1.ResourceQuota) {
	for _, q := range of {
		t.count.Add(q.Namespace, q.Name)
	}
}

func (t *touched) change(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	if namespace == "" {
		return nil
	}
	if gr == quotas && ev.Entry != nil {
		if err := t.quota(ev, namespace, name); err != nil || ev.Prev != nil {
			return err
		}
	}
	concerned, err := t.of(namespace)
	if err != nil || len(concerned) == 0 {
		return err
	}
	if ev.Prev == nil {
		t.countAll(concerned) // it may not have been charged
		return nil
	}
	return t.frees(ev, gr, concerned)
}

// quota counts a quota that is new or has other limits, or whose status somebody gave other limits than it has. One that was
// charged is put off, so that what never came is given back.
//
// Upstream does not look at the status before it counts all quotas, every five minutes (resyncPeriod): here nothing does that,
// so it is put right at once.
func (t *touched) quota(ev tablelog.Event, namespace, name string) error {
	before, existed, err := consumer.Read[*corev1.ResourceQuota](t.Snapshot, ev.Prev)
	if err != nil {
		return err
	}
	after, ok, err := consumer.Read[*corev1.ResourceQuota](t.Snapshot, ev.Entry)
	if err != nil || !ok {
		return err
	}
	altered := existed && !apiequality.Semantic.DeepEqual(before.Status.Hard, after.Status.Hard) &&
		!apiequality.Semantic.DeepEqual(after.Status.Hard, after.Spec.Hard)
	if !existed || altered || !apiequality.Semantic.DeepEqual(before.Spec, after.Spec) {
		t.count.Add(namespace, name)
	}
	if existed && !apiequality.Semantic.DeepEqual(before.Status.Used, after.Status.Used) {
		t.charged.Add(namespace, name)
		t.Later(quota.Settle(after, t.Now))
	}
	return nil
}

// frees notes an object that is gone, or may use less than before. One that is to go soon is counted again later, since it
// counts no more when it does not go in time.
func (t *touched) frees(ev tablelog.Event, gr schema.GroupResource, concerned []*corev1.ResourceQuota) error {
	if ev.Entry != nil && !changesUse[gr] {
		return nil
	}
	before, err := t.object(ev.Prev)
	if err != nil {
		return err
	}
	after, err := t.object(ev.Entry)
	if err != nil {
		return err
	}
	if terminates(before, after) {
		for _, q := range concerned {
			t.Later(quota.Settle(q, t.Now))
		}
	}
	namespace := concerned[0].Namespace
	t.freeing[namespace] = append(t.freeing[namespace], freeing{gr, ev.Rev, before, after})
	if after == nil || replenishes(gr.WithVersion("v1"), before, after) {
		t.countAll(concerned)
	}
	return nil
}

// terminates reports whether a pod begins to go.
func terminates(before, after runtime.Object) bool {
	was, isPod := before.(*corev1.Pod)
	is, stays := after.(*corev1.Pod)
	return isPod && stays && was.DeletionTimestamp == nil && is.DeletionTimestamp != nil
}

func (t *touched) object(e *tablelog.Entry) (runtime.Object, error) {
	obj, _, err := consumer.Read[runtime.Object](t.Snapshot, e)
	return obj, err
}

func (t *touched) decide(ctx context.Context, n consumer.Named) error {
	return consumer.Refused(t.Decide(ctx, component, func(s *consumer.Snapshot) (plan.Plan, error) {
		q, ok, err := consumer.Get[*corev1.ResourceQuota](s, quotas, n.Namespace, n.Name)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		in := quota.Input{Quota: q, Until: revisions(t.Snapshot), At: revisions(s), Unheard: unheard(q)}
		if in.Settled, err = t.settled(n, q); err != nil {
			return plan.Plan{}, err
		}
		if in.Used, err = usage(s, q); err != nil {
			return plan.Plan{}, err
		}
		if in.Freed, err = t.freed(s, q); err != nil {
			return plan.Plan{}, err
		}
		return quota.Status(in), nil
	}))
}

// settled reports whether a quota's charges are all old: its time has come, and it was not charged since.
func (t *touched) settled(n consumer.Named, now *corev1.ResourceQuota) (bool, error) {
	if !t.overdue[n] || t.charged[n] {
		return false, nil
	}
	then, _, err := consumer.Get[*corev1.ResourceQuota](t.Snapshot, quotas, n.Namespace, n.Name)
	return err == nil && then != nil && then.ResourceVersion == now.ResourceVersion, err
}

// revisions returns those of the logs that wake this function.
func revisions(s *consumer.Snapshot) quota.Mark {
	m := quota.Mark{}
	for _, group := range woken {
		m[group] = s.States[group].Rev
	}
	return m
}
