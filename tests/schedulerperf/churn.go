package schedulerperf

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
)

// churnInterval is the pause between two changes if none is given.
const churnInterval = 500

// churn makes objects, and deletes them again, beside what follows.
//
// Upstream: churnOp in operations.go, runChurnOp in executor.go.
type churn struct {
	code
	Mode                 string
	Number               int
	IntervalMilliseconds int64
	Namespace            *string
	TemplatePaths        []string
}

// churned is one kind of object that comes and goes.
type churned struct {
	object   *unstructured.Unstructured
	resource dynamic.ResourceInterface
	// names are those that are there, in a ring.
	names []string
}

func (o *churn) run(ctx context.Context, e *executor, index int) error {
	namespace := fmt.Sprintf("namespace-%d", index)
	if o.Namespace != nil {
		namespace = *o.Namespace
	}
	if err := e.namespaceNamed(ctx, namespace); err != nil {
		return err
	}
	all := make([]*churned, 0, len(o.TemplatePaths))
	for _, path := range o.TemplatePaths {
		c, err := o.prepare(ctx, e, namespace, path)
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	var step func(c *churned, n int) error
	limit := math.MaxInt
	switch o.Mode {
	case "create":
		limit = cmp.Or(o.Number, math.MaxInt)
		step = func(c *churned, _ int) error { _, err := c.create(ctx); return err }
	case "recreate":
		step = func(c *churned, n int) error { return c.turn(ctx, n%o.Number) }
	default:
		return fmt.Errorf("mode %q is unknown", o.Mode)
	}
	e.inBackground(ctx, func() error {
		ticker := time.NewTicker(time.Duration(cmp.Or(o.IntervalMilliseconds, churnInterval)) * time.Millisecond)
		defer ticker.Stop()
		for n := 0; n < limit; n++ {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
			for _, c := range all {
				if err := step(c, n); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return nil
}

func (o *churn) prepare(ctx context.Context, e *executor, namespace, path string) (*churned, error) {
	object, err := (source{path: path, plain: true}).decodeAny(e.w.dir, 0)
	if err != nil {
		return nil, err
	}
	c := &churned{object: object, names: make([]string, max(o.Number, 1))}
	if err := e.classifyAny(ctx, c.object); err != nil {
		return nil, err
	}
	kind := c.object.GroupVersionKind()
	mapping, err := e.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		namespace = ""
	}
	c.resource, err = e.resource(kind, namespace)
	return c, err
}

func (c *churned) create(ctx context.Context) (name string, err error) {
	live, err := c.resource.Create(ctx, c.object, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return live.GetName(), nil
}

// turn deletes the object at a place of the ring, or makes one if there is none.
func (c *churned) turn(ctx context.Context, at int) error {
	var err error
	if c.names[at] == "" {
		c.names[at], err = c.create(ctx)
		return err
	}
	err = c.resource.Delete(ctx, c.names[at], metav1.DeleteOptions{})
	c.names[at] = ""
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (o *churn) objects(w *Workload) ([]runtime.Object, error) {
	var all []runtime.Object
	for _, path := range o.TemplatePaths {
		object, err := (source{path: path, plain: true}).decodeAny(w.dir, 0)
		if err != nil {
			return nil, err
		}
		all = append(all, object)
	}
	return all, nil
}
