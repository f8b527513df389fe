package quota

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	upstream "k8s.io/apiserver/pkg/quota/v1"
	"k8s.io/apiserver/pkg/quota/v1/generic"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/quota/v1/evaluator/core"
	"k8s.io/kubernetes/pkg/quota/v1/install"
	"k8s.io/utils/clock"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/core/quota"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// countPrefix begins the names of quotas on the number of objects.
const countPrefix = "count/"

// changesUse are the resources whose objects can come to use less by an update.
var changesUse = map[schema.GroupResource]bool{
	{Resource: "pods"}: true, {Resource: "services"}: true, {Resource: "persistentvolumeclaims"}: true,
}

// aliases are the older names of quotas on numbers of objects: legacyObjectCountAliases of
// pkg/quota/v1/evaluator/core/registry.go.
var aliases = map[string]corev1.ResourceName{
	"configmaps":             corev1.ResourceConfigMaps,
	"resourcequotas":         corev1.ResourceQuotas,
	"replicationcontrollers": corev1.ResourceReplicationControllers,
	"secrets":                corev1.ResourceSecrets,
}

// usage returns what the objects of a quota's namespace use of what the quota limits, counted by
// upstream's evaluators.
func usage(s *consumer.Snapshot, quota *corev1.ResourceQuota) (corev1.ResourceList, error) {
	used, err := upstream.CalculateUsage(quota.Namespace, quota.Spec.Scopes, quota.Spec.Hard, registry(s, quota.Spec.Hard, clock.RealClock{}), quota.Spec.ScopeSelector)
	if err != nil {
		return nil, fmt.Errorf("counting what quota %s/%s limits: %w", quota.Namespace, quota.Name, err)
	}
	return used, nil
}

// freed returns what the changes of a batch give back of what a quota limits, but for those that it has counted.
func (t *touched) freed(s *consumer.Snapshot, q *corev1.ResourceQuota) (corev1.ResourceList, error) {
	out := corev1.ResourceList{}
	mark := quota.MarkOf(q)
	evaluators := registry(s, q.Spec.Hard, early{})
	for _, f := range t.freeing[q.Namespace] {
		evaluator := evaluators.Get(f.resource)
		if evaluator == nil || mark.Covers(kubestorage.GroupOf(f.resource), f.revision) {
			continue
		}
		before, err := use(evaluator, q, f.before)
		if err != nil {
			return nil, err
		}
		after, err := use(evaluator, q, f.after)
		if err != nil {
			return nil, err
		}
		less := upstream.SubtractWithNonNegativeResult(before, after)
		out = upstream.Add(out, upstream.Mask(less, upstream.ResourceNames(q.Spec.Hard)))
	}
	return out, nil
}

// unheard returns what a quota limits of kinds whose changes do not wake this function.
func unheard(q *corev1.ResourceQuota) map[corev1.ResourceName]bool {
	out := map[corev1.ResourceName]bool{}
	for name := range q.Spec.Hard {
		kind, ok := strings.CutPrefix(string(name), countPrefix)
		out[name] = ok && !slices.Contains(woken, kubestorage.GroupOf(schema.ParseGroupResource(kind)))
	}
	return out
}

// use returns what an object uses of a quota, nothing if the quota is not about it.
func use(evaluator upstream.Evaluator, quota *corev1.ResourceQuota, object runtime.Object) (corev1.ResourceList, error) {
	if object == nil {
		return nil, nil
	}
	is, err := evaluator.Matches(quota, object)
	if err != nil || !is {
		return nil, err
	}
	return evaluator.Usage(object)
}

// early is a clock by which no pod is late in going: one that went late may have been given back before, which is put right when
// charges have settled.
type early struct{ clock.RealClock }

// Now implements clock.PassiveClock.
func (early) Now() time.Time { return time.Time{} }

// registry returns the evaluators of what upstream evaluates by itself, and of every kind whose
// objects the quota counts.
func registry(s *consumer.Snapshot, hard corev1.ResourceList, now clock.Clock) upstream.Registry {
	of := func(gvr schema.GroupVersionResource) (cache.GenericLister, error) { //nolint:unparam // upstream's type
		return lister{s, gvr.GroupResource()}, nil
	}
	out := generic.NewRegistry([]upstream.Evaluator{
		core.NewPodEvaluator(of, now), core.NewServiceEvaluator(of), core.NewPersistentVolumeClaimEvaluator(of),
	})
	count := func(gr schema.GroupResource, alias corev1.ResourceName) {
		if _, ignored := install.DefaultIgnoredResources()[gr]; !ignored && out.Get(gr) == nil {
			out.Add(generic.NewObjectCountEvaluator(gr, generic.ListResourceUsingListerFunc(of, gr.WithVersion("v1")), alias))
		}
	}
	for resource, alias := range aliases {
		count(schema.GroupResource{Resource: resource}, alias)
	}
	for name := range hard {
		if kind, ok := strings.CutPrefix(string(name), countPrefix); ok {
			count(schema.ParseGroupResource(kind), "")
		}
	}
	return out
}

// lister lists the objects of a resource in a snapshot.
type lister struct {
	*consumer.Snapshot
	resource schema.GroupResource
}

var _ cache.GenericLister = lister{}

// List implements cache.GenericLister.
func (l lister) List(selector labels.Selector) ([]runtime.Object, error) { return l.in("", selector) }

// Get implements cache.GenericLister.
func (l lister) Get(name string) (runtime.Object, error) { return l.get("", name) }

// ByNamespace implements cache.GenericLister.
func (l lister) ByNamespace(namespace string) cache.GenericNamespaceLister {
	return namespaceLister{l, namespace}
}

func (l lister) in(namespace string, selector labels.Selector) ([]runtime.Object, error) {
	all, err := consumer.List[runtime.Object](l.Snapshot, l.resource, namespace)
	if err != nil || selector.Empty() {
		return all, err
	}
	out := all[:0:0]
	for _, obj := range all {
		if m, ok := obj.(metav1.Object); ok && selector.Matches(labels.Set(m.GetLabels())) {
			out = append(out, obj)
		}
	}
	return out, nil
}

func (l lister) get(namespace, name string) (runtime.Object, error) {
	obj, ok, err := consumer.Get[runtime.Object](l.Snapshot, l.resource, namespace, name)
	if err == nil && !ok {
		err = apierrors.NewNotFound(l.resource, name)
	}
	return obj, err
}

// namespaceLister lists those of one namespace.
type namespaceLister struct {
	of        lister
	namespace string
}

// List implements cache.GenericNamespaceLister.
func (l namespaceLister) List(selector labels.Selector) ([]runtime.Object, error) {
	return l.of.in(l.namespace, selector)
}

// Get implements cache.GenericNamespaceLister.
func (l namespaceLister) Get(name string) (runtime.Object, error) { return l.of.get(l.namespace, name) }
