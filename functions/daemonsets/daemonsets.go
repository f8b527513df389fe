// Package daemonsets is the function that keeps DaemonSets: a change of one, of a pod or a revision of one, or of a node, in;
// the writes that bring the world closer to what was asked for, out. The decisions are those of core/daemonset.
package daemonsets

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/daemonset"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

var (
	daemonSets = plan.DaemonSets.GroupResource()
	revisions  = plan.Revisions.GroupResource()
	pods       = plan.Pods.GroupResource()
	nodes      = plan.Nodes.GroupResource()
)

// controller is in whose name it writes.
const controller = "daemon-set-controller"

// Function returns the function.
func Function() consumer.Function {
	return consumer.Function{
		Name:   "daemonsets",
		Groups: []string{kubestorage.WorkloadsGroup, kubestorage.PodsGroup, kubestorage.NodesGroup},
		Handle: handle,
	}
}

// handle decides every DaemonSet that the batch touches.
func handle(ctx context.Context, b *consumer.Batch) error {
	t := &touched{sets: consumer.Set{}, snapshot: b.Snapshot}
	err := b.Gather(t.everything, t.change, func(l plan.Later) { t.sets.Add(l.Subject.Namespace, l.Subject.Name) })
	if err != nil {
		return err
	}
	return consumer.Each(ctx, t.sets.Sorted(), func(ctx context.Context, n consumer.Named) error { return decide(ctx, b, n) })
}

// touched collects the subjects of a batch.
type touched struct {
	sets     consumer.Set
	snapshot *consumer.Snapshot
}

func (t *touched) everything() error {
	return consumer.AddAll[*appsv1.DaemonSet](t.snapshot, daemonSets, t.sets)
}

func (t *touched) matching(namespace string, matches func(*appsv1.DaemonSet) bool) error {
	return consumer.AddMatching(t.snapshot, daemonSets, namespace, t.sets, matches)
}

func (t *touched) change(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	switch gr {
	case daemonSets:
		t.sets.Add(namespace, name)
	case pods, revisions:
		return consumer.Owners(t.snapshot, ev, "DaemonSet", t.sets, t.selecting)
	case nodes:
		return t.node(ev)
	}
	return nil
}

// selecting adds the sets whose selector matches an object.
func (t *touched) selecting(obj metav1.Object) error {
	return t.matching(obj.GetNamespace(), func(set *appsv1.DaemonSet) bool { return consumer.Selects(set.Spec.Selector, obj) })
}

// node adds the sets that are to run on a node, or not to, since it changed. Most changes are of its status.
func (t *touched) node(ev tablelog.Event) error {
	before, _, err := consumer.Read[*corev1.Node](t.snapshot, ev.Prev)
	if err != nil {
		return err
	}
	after, _, err := consumer.Read[*corev1.Node](t.snapshot, ev.Entry)
	if err != nil {
		return err
	}
	return t.matching("", func(set *appsv1.DaemonSet) bool { return daemonset.Concerns(set, before, after) })
}

func decide(ctx context.Context, b *consumer.Batch, n consumer.Named) error {
	return consumer.Step[daemonset.Snapshot]{
		Load:   func(s *consumer.Snapshot) (daemonset.Snapshot, bool, error) { return load(ctx, b, s, n) },
		Decide: daemonset.Decide,
		Again: func(in daemonset.Snapshot) plan.Later {
			return consumer.Refusal(plan.DaemonSets, in.Set, b.Now, consumer.LastEdited(in.Set))
		},
		Failed: func(in daemonset.Snapshot, _ planclient.Outcome) plan.Plan { return daemonset.Failed(in) },
	}.Take(ctx, b, controller)
}

func load(ctx context.Context, b *consumer.Batch, s *consumer.Snapshot, n consumer.Named) (in daemonset.Snapshot, ok bool, err error) {
	in.Now = b.Now
	if in.Set, ok, err = consumer.Get[*appsv1.DaemonSet](s, daemonSets, n.Namespace, n.Name); err != nil || !ok {
		return in, false, err
	}
	if in.Pods, err = consumer.Claimable[*corev1.Pod](s, pods, in.Set, in.Set.Spec.Selector); err != nil {
		return in, false, err
	}
	if in.Revisions, err = consumer.List[*appsv1.ControllerRevision](s, revisions, n.Namespace); err != nil {
		return in, false, err
	}
	if in.Nodes, err = consumer.List[*corev1.Node](s, nodes, ""); err != nil {
		return in, false, err
	}
	subject := plan.Ref{Resource: plan.DaemonSets, Namespace: in.Set.Namespace, Name: in.Set.Name, UID: in.Set.UID}
	for _, kind := range daemonset.Backoffs(in.Set, in.Pods) {
		l, found, err := b.Pending(ctx, subject, kind)
		if err != nil {
			return in, false, err
		}
		if found {
			in.Backoffs = append(in.Backoffs, l)
		}
	}
	return in, true, nil
}
