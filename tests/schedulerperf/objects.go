package schedulerperf

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

const (
	// strict has the server refuse fields that it does not know.
	strict = metav1.FieldValidationStrict
	// anyTimeout bounds how long an object may be refused: its kind may have been made a moment before.
	anyTimeout = 20 * time.Second
	// anyInterval is the pause between two tries.
	anyInterval = time.Second
)

// createAny makes objects of any kind.
//
// Upstream: createAny in operations.go.
type createAny struct {
	code
	Namespace      string
	TemplatePath   string
	Count          int
	TemplateParams map[string]any
}

func (o *createAny) source() source {
	return source{path: o.TemplatePath, params: o.TemplateParams, count: o.Count}
}

func (o *createAny) run(ctx context.Context, e *executor, _ int) error {
	if o.Namespace != "" {
		if err := e.namespaceNamed(ctx, o.Namespace); err != nil {
			return err
		}
	}
	for i := range o.Count {
		object, err := o.source().decodeAny(e.w.dir, i)
		if err != nil {
			return err
		}
		resource, err := e.resource(object.GroupVersionKind(), o.Namespace)
		if err != nil {
			return err
		}
		if err := retried(ctx, func() error {
			_, err := resource.Create(ctx, object, metav1.CreateOptions{FieldValidation: strict})
			return err
		}); err != nil {
			return fmt.Errorf("creating %s of %s: %w", object.GetKind(), o.TemplatePath, err)
		}
	}
	return nil
}

func (o *createAny) objects(w *Workload) ([]runtime.Object, error) {
	object, err := o.source().decodeAny(w.dir, 0)
	return []runtime.Object{object}, err
}

// retried repeats a call that fails, for a while.
func retried(ctx context.Context, call func() error) error {
	ctx, cancel := context.WithTimeout(ctx, anyTimeout)
	defer cancel()
	for {
		err := call()
		if err == nil {
			return nil
		}
		if paused := pause(ctx, anyInterval); paused != nil {
			return err
		}
	}
}

// resource is where objects of a kind are.
func (e *executor) resource(kind schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, error) {
	mapping, err := e.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, fmt.Errorf("%s is not served: %w", kind, err)
	}
	namespaced := mapping.Scope.Name() == meta.RESTScopeNameNamespace
	switch {
	case namespaced && namespace == "":
		return nil, fmt.Errorf("%s needs a namespace", kind)
	case namespaced:
		return e.dynamic.Resource(mapping.Resource).Namespace(namespace), nil
	case namespace != "":
		return nil, fmt.Errorf("%s has no namespace", kind)
	default:
		return e.dynamic.Resource(mapping.Resource), nil
	}
}

// createPodGroups makes PodGroups. Upstream waits until its scheduler's cache has them; here each decision reads what is stored.
//
// Upstream: createPodGroups in operations.go.
type createPodGroups struct {
	code
	Namespace      string
	TemplatePath   string
	TemplateParams map[string]any
	Count          int
}

func (o *createPodGroups) group(w *Workload, i int) (*schedulingv1beta1.PodGroup, error) {
	group := &schedulingv1beta1.PodGroup{}
	// Upstream gives a template no Count here.
	err := (source{path: o.TemplatePath, params: o.TemplateParams}).decode(w.dir, i, group)
	// Whatever version the template names, it is this one that is made.
	group.SetGroupVersionKind(schedulingv1beta1.SchemeGroupVersion.WithKind("PodGroup"))
	return group, err
}

func (o *createPodGroups) run(ctx context.Context, e *executor, _ int) error {
	if err := e.namespaceNamed(ctx, o.Namespace); err != nil {
		return err
	}
	return paced(ctx, o.Count, 0, func(i int) error {
		group, err := o.group(e.w, i)
		if err != nil {
			return err
		}
		if group.Spec.Priority != nil {
			if err := e.class(ctx, *group.Spec.Priority); err != nil {
				return err
			}
		}
		classifyGroup(group)
		return retried(ctx, func() error {
			_, err := e.client.SchedulingV1beta1().PodGroups(o.Namespace).Create(ctx, group, metav1.CreateOptions{FieldValidation: strict})
			return err
		})
	})
}

func classifyGroup(group *schedulingv1beta1.PodGroup) {
	if group.Spec.Priority != nil {
		group.Spec.PriorityClassName = className(*group.Spec.Priority)
		group.Spec.Priority = nil
	}
}

func (o *createPodGroups) objects(w *Workload) ([]runtime.Object, error) {
	group, err := o.group(w, 0)
	return []runtime.Object{group}, err
}

// createResourceClaims makes claims of devices.
//
// Upstream: createResourceClaimsOp in dra.go.
type createResourceClaims struct {
	code
	Count        int
	Namespace    string
	TemplatePath string
}

func (o *createResourceClaims) claim(w *Workload) (*resourcev1.ResourceClaim, error) {
	claim := &resourcev1.ResourceClaim{}
	err := (source{path: o.TemplatePath, plain: true}).decode(w.dir, 0, claim)
	return claim, err
}

func (o *createResourceClaims) run(ctx context.Context, e *executor, _ int) error {
	claim, err := o.claim(e.w)
	if err != nil {
		return err
	}
	if err := e.namespaceNamed(ctx, o.Namespace); err != nil {
		return err
	}
	return parallel(ctx, o.Count, func(int) error {
		_, err := e.client.ResourceV1().ResourceClaims(o.Namespace).Create(ctx, claim.DeepCopy(), metav1.CreateOptions{})
		return err
	})
}

func (o *createResourceClaims) objects(w *Workload) ([]runtime.Object, error) {
	claim, err := o.claim(w)
	return []runtime.Object{claim}, err
}

// classifyAny is classify for objects of any kind.
func (e *executor) classifyAny(ctx context.Context, object *unstructured.Unstructured) error {
	value, found, err := unstructured.NestedInt64(object.Object, "spec", "priority")
	if err != nil || !found || object.GroupVersionKind() != corev1.SchemeGroupVersion.WithKind("Pod") {
		return err
	}
	if err := e.class(ctx, int32(value)); err != nil { //nolint:gosec // upstream's priorities are small
		return err
	}
	unstructured.RemoveNestedField(object.Object, "spec", "priority")
	return unstructured.SetNestedField(object.Object, className(int32(value)), "spec", "priorityClassName") //nolint:gosec // as above
}
