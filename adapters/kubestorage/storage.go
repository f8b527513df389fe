package kubestorage

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/value"

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
	// Transformer, if set, encrypts what is stored.
	Transformer value.Transformer
}

// Storage is the storage of one resource.
type Storage struct {
	Config
	prefix    string
	versioner storage.APIObjectVersioner
	// form names the decoded form that entries share: that of built-in kinds is one for all storages,
	// that of custom kinds depends on the version and schema which this storage was made for.
	form any
	// over is closed when watches are to end.
	over   chan struct{}
	ending sync.Once
}

var _ storage.Interface = (*Storage)(nil)

// New returns the storage of a resource.
func New(c Config) *Storage {
	s := &Storage{Config: c, prefix: Prefix(c.Resource) + "/", over: make(chan struct{})}
	if _, custom := c.NewFunc().(runtime.Unstructured); custom {
		s.form = s
	}
	return s
}

// EndWatches ends all watches, those under way and later ones. Clients go on from what they have seen.
func (s *Storage) EndWatches() { s.ending.Do(func() { close(s.over) }) }

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

// Stats implements storage.Interface.
func (s *Storage) Stats(ctx context.Context) (storage.Stats, error) {
	state, err := s.Log.Known(ctx)
	if err != nil {
		return storage.Stats{}, err
	}
	var n, bytes int64
	now := time.Now()
	state.Ascend(s.prefix, "", func(e *tablelog.Entry) bool {
		if e.Expired(now) {
			return true
		}
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
func (s *Storage) CompactRevision() int64 {
	return int64(s.Log.Compacted()) //nolint:gosec // revisions are small
}

// conflictKey is how errors name an object, as upstream's do.
func conflictKey(key string) string { return "/" + strings.TrimPrefix(key, "/") }
