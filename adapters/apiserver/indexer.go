package apiserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// listerTimeout bounds a lister's wait for the store: listers take no context.
const listerTimeout = 10 * time.Second

var errReadOnly = errors.New("the indexer of an on-demand informer is read only")

// indexer is a cache.Indexer over the state of a log.
type indexer struct {
	log     *tablelog.Log
	prefix  string
	decoder kubestorage.Decoder

	mu       sync.RWMutex
	indexers cache.Indexers
}

var _ cache.Indexer = (*indexer)(nil)

func (x *indexer) state() (*tablelog.State, error) {
	ctx, cancel := context.WithTimeout(context.Background(), listerTimeout)
	defer cancel()
	return x.log.Known(ctx)
}

// under returns the objects whose key, after the prefix, starts with sub.
func (x *indexer) under(sub string) ([]any, error) {
	state, err := x.state()
	if err != nil {
		return nil, err
	}
	var out []any
	state.Ascend(x.prefix+sub, "", func(e *tablelog.Entry) bool {
		obj, decodeErr := x.decoder.Object(e)
		if decodeErr != nil {
			err = decodeErr
			return false
		}
		out = append(out, obj)
		return true
	})
	return out, err
}

// List implements cache.Store. It has no way to tell of a failure, and is empty then.
func (x *indexer) List() []any {
	out, _ := x.under("")
	return out
}

// ListKeys implements cache.Store.
func (x *indexer) ListKeys() []string {
	state, err := x.state()
	if err != nil {
		return nil
	}
	var out []string
	state.Ascend(x.prefix, "", func(e *tablelog.Entry) bool {
		out = append(out, e.Key[len(x.prefix):])
		return true
	})
	return out
}

// Get implements cache.Store.
func (x *indexer) Get(obj any) (any, bool, error) {
	key, err := cache.MetaNamespaceKeyFunc(obj)
	if err != nil {
		return nil, false, err
	}
	return x.GetByKey(key)
}

// GetByKey implements cache.Store.
func (x *indexer) GetByKey(key string) (any, bool, error) {
	state, err := x.state()
	if err != nil {
		return nil, false, err
	}
	e := state.Get(x.prefix + key)
	if e == nil {
		return nil, false, nil
	}
	obj, err := x.decoder.Object(e)
	return obj, err == nil, err
}

// Index implements cache.Indexer.
func (x *indexer) Index(name string, obj any) ([]any, error) {
	if name == cache.NamespaceIndex {
		accessor, err := meta.Accessor(obj)
		if err != nil {
			return nil, err
		}
		return x.ByIndex(name, accessor.GetNamespace())
	}
	fn, err := x.indexFunc(name)
	if err != nil {
		return nil, err
	}
	values, err := fn(obj)
	if err != nil {
		return nil, err
	}
	var out []any
	for _, v := range values {
		some, err := x.ByIndex(name, v)
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	return out, nil
}

func (x *indexer) indexFunc(name string) (cache.IndexFunc, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	fn := x.indexers[name]
	if fn == nil {
		return nil, fmt.Errorf("index %q does not exist", name)
	}
	return fn, nil
}

// ByIndex implements cache.Indexer. Keys are in the order of namespaces; other indexes are scans.
func (x *indexer) ByIndex(name, value string) ([]any, error) {
	if name == cache.NamespaceIndex {
		return x.under(value + "/")
	}
	fn, err := x.indexFunc(name)
	if err != nil {
		return nil, err
	}
	all, err := x.under("")
	if err != nil {
		return nil, err
	}
	var out []any
	for _, obj := range all {
		values, err := fn(obj)
		if err != nil {
			return nil, err
		}
		if slices.Contains(values, value) {
			out = append(out, obj)
		}
	}
	return out, nil
}

// IndexKeys implements cache.Indexer.
func (x *indexer) IndexKeys(name, value string) ([]string, error) {
	objs, err := x.ByIndex(name, value)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(objs))
	for _, obj := range objs {
		key, err := cache.MetaNamespaceKeyFunc(obj)
		if err != nil {
			return nil, err
		}
		out = append(out, key)
	}
	return out, nil
}

// ListIndexFuncValues implements cache.Indexer.
func (x *indexer) ListIndexFuncValues(name string) []string {
	fn, err := x.indexFunc(name)
	if err != nil {
		return nil
	}
	seen := map[string]bool{}
	var out []string
	for _, obj := range x.List() {
		values, _ := fn(obj)
		for _, v := range values {
			if !seen[v] {
				seen[v] = true
				out = append(out, v)
			}
		}
	}
	return out
}

// GetIndexers implements cache.Indexer.
func (x *indexer) GetIndexers() cache.Indexers {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := cache.Indexers{}
	maps.Copy(out, x.indexers)
	return out
}

// AddIndexers implements cache.Indexer.
func (x *indexer) AddIndexers(more cache.Indexers) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	maps.Copy(x.indexers, more)
	return nil
}

// Add implements cache.Store.
func (x *indexer) Add(any) error { return errReadOnly }

// Update implements cache.Store.
func (x *indexer) Update(any) error { return errReadOnly }

// Delete implements cache.Store.
func (x *indexer) Delete(any) error { return errReadOnly }

// Replace implements cache.Store.
func (x *indexer) Replace([]any, string) error { return errReadOnly }

// Resync implements cache.Store.
func (x *indexer) Resync() error { return nil }

// Bookmark implements cache.Store.
func (x *indexer) Bookmark(string) {}

// LastStoreSyncResourceVersion implements cache.Store.
func (x *indexer) LastStoreSyncResourceVersion() string { return "" }
