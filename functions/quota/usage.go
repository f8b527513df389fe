package quota

import (
	"fmt"
	"strings"

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
	used, err := upstream.CalculateUsage(quota.Namespace, quota.Spec.Scopes, quota.Spec.Hard, registry(s, quota.Spec.Hard), quota.Spec.ScopeSelector)
	if err != nil {
		return nil, fmt.Errorf("counting what quota %s/%s limits: %w", quota.Namespace, quota.Name, err)
	}
	return used, nil
}

// registry returns the evaluators of what upstream evaluates by itself, and of every kind whose
// objects the quota counts.
func registry(s *consumer.Snapshot, hard corev1.ResourceList) upstream.Registry {
	of := func(gvr schema.GroupVersionResource) (cache.GenericLister, error) { //nolint:unparam // upstream's type
		return lister{s, gvr.GroupResource()}, nil
	}
	out := generic.NewRegistry([]upstream.Evaluator{
		core.NewPodEvaluator(of, clock.RealClock{}), core.NewServiceEvaluator(of), core.NewPersistentVolumeClaimEvaluator(of),
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
