package apiserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/cache"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// informers hands out informers that run nothing: their listers read the logs' states, and their
// handlers are called when a request finds that a log has moved.
type informers struct {
	logs    kubestorage.Logs
	decoder kubestorage.Decoder
	factory clientinformers.SharedInformerFactory

	mu       sync.Mutex
	handling []*onDemand
}

// newInformers returns a factory in which an informer of ours stands for every kind clients know.
func newInformers(client kubernetes.Interface, logs kubestorage.Logs, decoder kubestorage.Decoder) *informers {
	i := &informers{logs: logs, decoder: decoder, factory: clientinformers.NewSharedInformerFactory(client, 0)}
	for gvk, t := range clientscheme.Scheme.AllKnownTypes() {
		obj, ok := reflect.TypeAssert[runtime.Object](reflect.New(t))
		if _, isObject := obj.(metav1.Object); !ok || !isObject || gvk.Version == runtime.APIVersionInternal {
			continue
		}
		plural, _ := meta.UnsafeGuessKindToResource(gvk)
		i.factory.InformerFor(obj, func(kubernetes.Interface, time.Duration) cache.SharedIndexInformer {
			return newOnDemand(i, plural.GroupResource())
		})
	}
	return i
}

// sync calls the handlers of every informer whose log has moved. It returns when they have run.
func (i *informers) sync(ctx context.Context) error {
	i.mu.Lock()
	handling := i.handling
	i.mu.Unlock()
	for _, informer := range handling {
		if err := informer.sync(ctx); err != nil {
			return err
		}
	}
	return nil
}

// onDemand is one such informer.
type onDemand struct {
	of      *informers
	log     *tablelog.Log
	prefix  string
	indexer *indexer

	mu       sync.Mutex
	seen     *tablelog.State
	handlers []cache.ResourceEventHandler
}

var _ cache.SharedIndexInformer = (*onDemand)(nil)

func newOnDemand(of *informers, gr schema.GroupResource) *onDemand {
	o := &onDemand{of: of, log: of.logs.Of(gr), prefix: kubestorage.Prefix(gr) + "/"}
	o.indexer = &indexer{log: o.log, prefix: o.prefix, decoder: of.decoder, indexers: cache.Indexers{
		cache.NamespaceIndex: cache.MetaNamespaceIndexFunc,
	}}
	return o
}

// sync calls the handlers for what changed since they were last called, or for all there is if they never were.
func (o *onDemand) sync(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen == nil {
		return o.begin(ctx)
	}
	state, err := o.log.Known(ctx)
	if err != nil || o.seen.Rev == state.Rev {
		return err
	}
	before := o.seen
	o.seen = state
	return o.diff(before, state)
}

// begin calls the handlers for all there is. It fails when the log cannot be read, and is then tried again when the next request comes
// or somebody asks whether the handlers have heard. The caller holds mu.
func (o *onDemand) begin(ctx context.Context) error {
	state, err := o.log.Current(ctx)
	if err != nil {
		return fmt.Errorf("reading %s: %w", o.prefix, err)
	}
	o.seen = state
	for _, h := range o.handlers {
		err = errors.Join(err, o.tell(h))
	}
	return err
}

// tell calls a handler for all there is. The caller holds mu.
func (o *onDemand) tell(h cache.ResourceEventHandler) (err error) {
	o.seen.Ascend(o.prefix, "", func(e *tablelog.Entry) bool {
		var obj runtime.Object
		if obj, err = o.of.decoder.Object(e); err != nil {
			return false
		}
		h.OnAdd(obj, true)
		return true
	})
	return err
}

// diff calls the handlers for the difference of two states: whatever moved in between is one event.
func (o *onDemand) diff(before, after *tablelog.State) error {
	var errs []error
	before.Ascend(o.prefix, "", func(e *tablelog.Entry) bool {
		if after.Get(e.Key) == nil {
			errs = append(errs, o.notify(e, nil))
		}
		return true
	})
	after.Ascend(o.prefix, "", func(e *tablelog.Entry) bool {
		if old := before.Get(e.Key); old == nil || old.Rev != e.Rev {
			errs = append(errs, o.notify(old, e))
		}
		return true
	})
	return errors.Join(errs...)
}

func (o *onDemand) notify(before, after *tablelog.Entry) error {
	var old, current runtime.Object
	var err error
	if before != nil {
		if old, err = o.of.decoder.Object(before); err != nil {
			return err
		}
	}
	if after != nil {
		if current, err = o.of.decoder.Object(after); err != nil {
			return err
		}
	}
	for _, h := range o.handlers {
		switch {
		case old == nil:
			h.OnAdd(current, false)
		case current == nil:
			h.OnDelete(old)
		default:
			h.OnUpdate(old, current)
		}
	}
	return nil
}

// AddEventHandler implements cache.SharedInformer: the handler hears of what there is before the
// call returns, or, if the log cannot be read now, later: until then it has not synced.
func (o *onDemand) AddEventHandler(h cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.handlers) == 0 {
		o.of.mu.Lock()
		o.of.handling = append(o.of.handling, o)
		o.of.mu.Unlock()
	}
	o.handlers = append(o.handlers, h)
	if o.seen != nil {
		return registration{o}, o.tell(h)
	}
	if err := o.begin(context.Background()); err != nil {
		slog.Warn("cannot tell yet what there is", "of", o.prefix, "error", err)
	}
	return registration{o}, nil
}

// AddEventHandlerWithResyncPeriod implements cache.SharedInformer; nothing is ever resynced.
func (o *onDemand) AddEventHandlerWithResyncPeriod(h cache.ResourceEventHandler, _ time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	return o.AddEventHandler(h)
}

// AddEventHandlerWithOptions implements cache.SharedInformer.
func (o *onDemand) AddEventHandlerWithOptions(h cache.ResourceEventHandler, _ cache.HandlerOptions) (cache.ResourceEventHandlerRegistration, error) {
	return o.AddEventHandler(h)
}

// RemoveEventHandler implements cache.SharedInformer. Handlers live as long as their server.
func (o *onDemand) RemoveEventHandler(cache.ResourceEventHandlerRegistration) error { return nil }

// GetStore implements cache.SharedInformer.
func (o *onDemand) GetStore() cache.Store { return o.indexer }

// GetIndexer implements cache.SharedIndexInformer.
func (o *onDemand) GetIndexer() cache.Indexer { return o.indexer }

// AddIndexers implements cache.SharedIndexInformer.
func (o *onDemand) AddIndexers(i cache.Indexers) error { return o.indexer.AddIndexers(i) }

// GetController implements cache.SharedInformer.
func (o *onDemand) GetController() cache.Controller { return nil }

// Run implements cache.SharedInformer: there is nothing to run.
func (o *onDemand) Run(<-chan struct{}) {}

// RunWithContext implements cache.SharedInformer.
func (o *onDemand) RunWithContext(context.Context) {}

// HasSynced implements cache.SharedInformer.
func (o *onDemand) HasSynced() bool { return true }

// HasSyncedChecker implements cache.SharedInformer.
func (o *onDemand) HasSyncedChecker() cache.DoneChecker { return synced{} }

// LastSyncResourceVersion implements cache.SharedInformer.
func (o *onDemand) LastSyncResourceVersion() string { return "" }

// SetWatchErrorHandler implements cache.SharedInformer: there is no watch.
func (o *onDemand) SetWatchErrorHandler(cache.WatchErrorHandler) error { return nil }

// SetWatchErrorHandlerWithContext implements cache.SharedInformer.
func (o *onDemand) SetWatchErrorHandlerWithContext(cache.WatchErrorHandlerWithContext) error {
	return nil
}

// SetTransform implements cache.SharedInformer. Objects are shared with everyone and stay whole.
func (o *onDemand) SetTransform(cache.TransformFunc) error { return nil }

// IsStopped implements cache.SharedInformer.
func (o *onDemand) IsStopped() bool { return false }

// registration says whether the handlers of an informer have heard what there is.
type registration struct{ of *onDemand }

var alwaysDone = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// HasSynced implements cache.ResourceEventHandlerRegistration. If the log could not be read before, it is tried again.
func (r registration) HasSynced() bool {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	if r.of.seen != nil {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), listerTimeout)
	defer cancel()
	return r.of.begin(ctx) == nil
}

func (r registration) HasSyncedChecker() cache.DoneChecker { return synced{} }

// synced says that there is nothing to wait for.
type synced struct{}

func (synced) Name() string          { return "zeroplane" }
func (synced) Done() <-chan struct{} { return alwaysDone }
