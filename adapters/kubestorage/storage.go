package kubestorage

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// maxObjectBytes is etcd's own limit on a request, which clients know.
const maxObjectBytes = 3 << 19 // 1.5 MiB

// errTooLarge reads as etcd's does.
var errTooLarge = errors.New("etcdserver: request is too large")

// Config of the storage of one resource.
type Config struct {
	Log *tablelog.Log
	// Codec between the internal form and the stored one.
	Codec    runtime.Codec
	Resource schema.GroupResource
	NewFunc  func() runtime.Object
}

// Storage is the storage of one resource.
type Storage struct {
	Config
	prefix    string
	versioner storage.APIObjectVersioner
}

var _ storage.Interface = (*Storage)(nil)

// New returns the storage of a resource.
func New(c Config) *Storage {
	return &Storage{Config: c, prefix: Prefix(c.Resource) + "/"}
}

// Versioner implements storage.Interface.
func (s *Storage) Versioner() storage.Versioner { return s.versioner }

// key returns the log's key of a registry's key, which starts with a slash.
func (s *Storage) key(key string, recursive bool) (string, error) {
	prepared, err := storage.PrepareKey("/"+s.prefix, key, recursive)
	if err != nil {
		return "", err
	}
	return prepared[1:], nil
}

// decode returns the internal form of an entry, which is shared: nobody may alter it.
func (s *Storage) decode(e *tablelog.Entry) (runtime.Object, error) {
	obj, err := e.Decoded(tablelog.SlotInternal, func(e *tablelog.Entry) (any, error) {
		obj := s.NewFunc()
		if _, _, err := s.Codec.Decode(e.Value, nil, obj); err != nil {
			return nil, storage.NewInternalError(fmt.Errorf("decoding %s: %w", e.Key, err))
		}
		if err := s.versioner.UpdateObject(obj, e.Rev); err != nil {
			return nil, storage.NewInternalError(err)
		}
		return obj, nil
	})
	if err != nil {
		return nil, err
	}
	return obj.(runtime.Object), nil
}

// read copies an entry's object into out. What the object points to is shared, as upstream's
// cacher shares it: registries do not alter what they read.
func (s *Storage) read(e *tablelog.Entry, out runtime.Object) error {
	obj, err := s.decode(e)
	if err != nil {
		return err
	}
	return assign(out, obj)
}

func assign(out, obj runtime.Object) error {
	to, from := reflect.ValueOf(out), reflect.ValueOf(obj)
	if to.Kind() != reflect.Pointer || to.Type() != from.Type() {
		return fmt.Errorf("cannot read a %T into a %T", obj, out)
	}
	to.Elem().Set(from.Elem())
	return nil
}

// shallow returns a copy of an object whose own fields can be altered.
func shallow(obj runtime.Object) runtime.Object {
	v := reflect.New(reflect.TypeOf(obj).Elem())
	v.Elem().Set(reflect.ValueOf(obj).Elem())
	return v.Interface().(runtime.Object)
}

// encode returns the stored form of an object and the owners it names.
func (s *Storage) encode(obj runtime.Object) (value []byte, owners []string, err error) {
	if err := s.versioner.PrepareObjectForStorage(obj); err != nil {
		return nil, nil, fmt.Errorf("PrepareObjectForStorage failed: %w", err)
	}
	if value, err = runtime.Encode(s.Codec, obj); err != nil {
		return nil, nil, err
	}
	if len(value) > maxObjectBytes {
		return nil, nil, errTooLarge
	}
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return value, nil, nil //nolint:nilerr // a kind without metadata has no owners
	}
	for _, ref := range accessor.GetOwnerReferences() {
		owners = append(owners, string(ref.UID))
	}
	return value, owners, nil
}

// Stats implements storage.Interface.
func (s *Storage) Stats(ctx context.Context) (storage.Stats, error) {
	state, err := s.Log.Known(ctx)
	if err != nil {
		return storage.Stats{}, err
	}
	var n, bytes int64
	state.Ascend(s.prefix, "", func(e *tablelog.Entry) bool {
		n++
		bytes += int64(len(e.Value))
		return true
	})
	stats := storage.Stats{ObjectCount: n}
	if n > 0 {
		stats.EstimatedAverageObjectSizeBytes = bytes / n
	}
	return stats, nil
}

// ReadinessCheck implements storage.Interface: there is no cache to wait for.
func (s *Storage) ReadinessCheck() error { return nil }

// RequestWatchProgress implements storage.Interface. Watches report progress by themselves.
func (s *Storage) RequestWatchProgress(context.Context) error { return nil }

// GetCurrentResourceVersion implements storage.Interface.
func (s *Storage) GetCurrentResourceVersion(ctx context.Context) (uint64, error) {
	state, err := s.Log.Current(ctx)
	if err != nil {
		return 0, err
	}
	return state.Rev, nil
}

// EnableResourceSizeEstimation implements storage.Interface: sizes are always known.
func (s *Storage) EnableResourceSizeEstimation(storage.KeysFunc) error { return nil }

// CompactRevision implements storage.Interface.
func (s *Storage) CompactRevision() int64 { return 0 }

// conflictKey is how errors name an object, as upstream's do.
func conflictKey(key string) string { return "/" + strings.TrimPrefix(key, "/") }
