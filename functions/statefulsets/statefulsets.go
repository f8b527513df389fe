// Package statefulsets is the function that keeps StatefulSets: a change of one, or of a pod, a revision or a volume claim
// of one, in; the writes that bring the world closer to what was asked for, out. The decisions are those of
// core/statefulset.
package statefulsets

import (
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/apps/install" // what the API server fills in

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/statefulset"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

var (
	statefulSets = plan.StatefulSets.GroupResource()
	revisions    = plan.Revisions.GroupResource()
	pods         = plan.Pods.GroupResource()
	claims       = plan.Claims.GroupResource()
)

const controller = "statefulset-controller"

// Function returns the function.
func Function() consumer.Function {
	return consumer.Function{
		Name:   "statefulsets",
		Groups: []string{kubestorage.WorkloadsGroup, kubestorage.PodsGroup, kubestorage.ObjectsGroup},
		Handle: handle,
	}
}

// handle decides every StatefulSet that the batch touches.
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
	return consumer.AddAll[*appsv1.StatefulSet](t.snapshot, statefulSets, t.sets)
}

func (t *touched) matching(namespace string, matches func(*appsv1.StatefulSet) bool) error {
	return consumer.AddMatching(t.snapshot, statefulSets, namespace, t.sets, matches)
}

func (t *touched) change(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	switch gr {
	case statefulSets:
		t.sets.Add(namespace, name)
	case pods:
		if err := t.named(namespace, statefulset.SetOf(name)); err != nil {
			return err
		}
		fallthrough
	case revisions:
		return consumer.Owners(t.snapshot, ev, "StatefulSet", t.sets, t.selecting)
	case claims:
		return t.matching(namespace, func(set *appsv1.StatefulSet) bool { return statefulset.HasClaim(set, name) })
	}
	return nil
}

// named adds a set if there is one of the name: a pod may have stood in its way.
func (t *touched) named(namespace, name string) error {
	_, exists, err := consumer.Get[*appsv1.StatefulSet](t.snapshot, statefulSets, namespace, name)
	if exists {
		t.sets.Add(namespace, name)
	}
	return err
}

// selecting adds the sets whose selector matches an object.
func (t *touched) selecting(obj metav1.Object) error {
	return t.matching(obj.GetNamespace(), func(set *appsv1.StatefulSet) bool { return consumer.Selects(set.Spec.Selector, obj) })
}

func decide(ctx context.Context, b *consumer.Batch, n consumer.Named) error {
	return consumer.Step[statefulset.Snapshot]{
		Load:   func(s *consumer.Snapshot) (statefulset.Snapshot, bool, error) { return load(s, n, b.Now) },
		Decide: statefulset.Decide,
		Again: func(in statefulset.Snapshot) plan.Later {
			return consumer.Refusal(plan.StatefulSets, in.Set, b.Now, consumer.LastEdited(in.Set))
		},
		Failed: func(in statefulset.Snapshot, out planclient.Outcome) plan.Plan {
			return statefulset.Failed(in, *out.Refused, out.Err.Error())
		},
	}.Take(ctx, b, controller)
}

func load(s *consumer.Snapshot, n consumer.Named, now time.Time) (in statefulset.Snapshot, ok bool, err error) {
	in.Now, in.Default = now, func(set *appsv1.StatefulSet) { legacyscheme.Scheme.Default(set) }
	if in.Set, ok, err = consumer.Get[*appsv1.StatefulSet](s, statefulSets, n.Namespace, n.Name); err != nil || !ok {
		return in, false, err
	}
	if in.Pods, err = consumer.Claimable[*corev1.Pod](s, pods, in.Set, in.Set.Spec.Selector); err != nil {
		return in, false, err
	}
	if err := loadNamed(s, &in); err != nil {
		return in, false, err
	}
	in.Revisions, err = consumer.List[*appsv1.ControllerRevision](s, revisions, n.Namespace)
	return in, err == nil, err
}

// loadNamed adds the pods and the claims of the names that a set has for them.
func loadNamed(s *consumer.Snapshot, in *statefulset.Snapshot) error {
	there := map[string]bool{}
	for _, pod := range in.Pods {
		there[pod.Name] = true
	}
	for _, name := range statefulset.PodNames(in.Set) {
		pod, exists, err := consumer.Get[*corev1.Pod](s, pods, in.Set.Namespace, name)
		if err != nil {
			return err
		}
		if exists && !there[name] {
			in.Pods = append(in.Pods, pod)
		}
	}
	for _, name := range statefulset.ClaimNames(in.Set, in.Pods) {
		claim, exists, err := consumer.Get[*corev1.PersistentVolumeClaim](s, claims, in.Set.Namespace, name)
		if err != nil {
			return err
		}
		if exists {
			in.Claims = append(in.Claims, claim)
		}
	}
	return nil
}
