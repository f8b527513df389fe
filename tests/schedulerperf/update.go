package schedulerperf

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
)

// updateAny replaces objects, and their status.
//
// Upstream: updateAny in update.go.
type updateAny struct {
	code
	Namespace       string
	TemplatePath    string
	Count           int
	UpdatePerSecond int
	Subresources    []string
}

func (o *updateAny) object(w *Workload, i int) (*unstructured.Unstructured, error) {
	return source{path: o.TemplatePath, count: o.Count}.decodeAny(w.dir, i)
}

func (o *updateAny) run(ctx context.Context, e *executor, _ int) error {
	if o.Namespace != "" {
		if err := e.namespaceNamed(ctx, o.Namespace); err != nil {
			return err
		}
	}
	return paced(ctx, o.Count, o.UpdatePerSecond, func(i int) error {
		object, err := o.object(e.w, i)
		if err != nil {
			return err
		}
		resource, err := e.resource(object.GroupVersionKind(), o.Namespace)
		if err != nil {
			return err
		}
		if object.GroupVersionKind() == corev1.SchemeGroupVersion.WithKind("Pod") {
			if err := keepAccount(ctx, resource, object); err != nil {
				return err
			}
		}
		options := metav1.UpdateOptions{FieldValidation: strict}
		if _, err := resource.Update(ctx, object, options, o.Subresources...); err != nil {
			return fmt.Errorf("updating %s: %w", object.GetName(), err)
		}
		if _, err := resource.UpdateStatus(ctx, object, options); err != nil {
			return fmt.Errorf("updating the status of %s: %w", object.GetName(), err)
		}
		return nil
	})
}

// keepAccount gives a pod what admission gave it when it was created, and what may not be taken away: its account and the
// volume with the account's token.
func keepAccount(ctx context.Context, pods dynamic.ResourceInterface, object *unstructured.Unstructured) error {
	live, err := pods.Get(ctx, object.GetName(), metav1.GetOptions{})
	if err != nil {
		return err
	}
	var was, will corev1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &was); err != nil {
		return err
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &will); err != nil {
		return err
	}
	will.Spec.ServiceAccountName, will.Spec.DeprecatedServiceAccount = was.Spec.ServiceAccountName, was.Spec.DeprecatedServiceAccount
	will.Spec.Volumes = was.Spec.Volumes
	for i := range min(len(will.Spec.Containers), len(was.Spec.Containers)) {
		will.Spec.Containers[i].VolumeMounts = was.Spec.Containers[i].VolumeMounts
	}
	object.Object, err = runtime.DefaultUnstructuredConverter.ToUnstructured(&will)
	object.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	return err
}

func (o *updateAny) objects(*Workload) ([]runtime.Object, error) { return nil, nil }
