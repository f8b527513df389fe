package apiserver

import (
	"context"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/registry/rest"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"
	servicestore "k8s.io/kubernetes/pkg/registry/core/service/storage"
)

const (
	// rangesPoll is how often it is asked whether the allocator knows its ranges. It learns of them
	// from a queue of its own, a millisecond or so after it was made.
	rangesPoll = time.Millisecond
	// rangesTimeout bounds the wait: an allocator without addresses refuses by itself.
	rangesTimeout = time.Second
)

// serviceREST is upstream's registry of Services, which waits before the first one until addresses can
// be allocated: a server that was just started must not refuse a Service.
type serviceREST struct {
	*servicestore.REST
	ready func(context.Context) error
}

// Create implements rest.Creater.
func (r serviceREST) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, o *metav1.CreateOptions) (runtime.Object, error) {
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	return r.REST.Create(ctx, obj, validate, o)
}

// Update implements rest.Updater, whose parameters upstream has chosen. A Service can get an address by it.
func (r serviceREST) Update(ctx context.Context, name string, obj rest.UpdatedObjectInfo, validate rest.ValidateObjectFunc,
	validateUpdate rest.ValidateObjectUpdateFunc, create bool, o *metav1.UpdateOptions,
) (runtime.Object, bool, error) {
	if err := r.ready(ctx); err != nil {
		return nil, false, err
	}
	return r.REST.Update(ctx, name, obj, validate, validateUpdate, create, o)
}

// Delete implements rest.GracefulDeleter. Addresses are released by it, which takes an allocator too.
func (r serviceREST) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, o *metav1.DeleteOptions) (runtime.Object, bool, error) {
	if err := r.ready(ctx); err != nil {
		return nil, false, err
	}
	return r.REST.Delete(ctx, name, validate, o)
}

// DeleteCollection implements rest.CollectionDeleter.
func (r serviceREST) DeleteCollection(ctx context.Context, validate rest.ValidateObjectFunc, o *metav1.DeleteOptions, list *internalversion.ListOptions) (runtime.Object, error) {
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	return r.REST.DeleteCollection(ctx, validate, o, list)
}

// rangesKnown returns a function that waits, once, until the allocator knows as many ranges as there are.
func rangesKnown(allocator ipallocator.Interface, ranges networkinglisters.ServiceCIDRLister) func(context.Context) error {
	meta, ok := allocator.(*ipallocator.MetaAllocator)
	var known atomic.Bool
	return func(ctx context.Context) error {
		if !ok || known.Load() {
			return nil
		}
		all, err := ranges.List(labels.Everything())
		if err != nil {
			return err
		}
		if len(all) > 0 {
			err = wait.PollUntilContextTimeout(ctx, rangesPoll, rangesTimeout, true, func(context.Context) (bool, error) {
				return meta.Free() > 0, nil
			})
		}
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		known.Store(true)
		return nil
	}
}
