package schedulerperf

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
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

func (o *updateAny) objects(*Workload) ([]runtime.Object, error) { return nil, nil }
