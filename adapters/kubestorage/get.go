package kubestorage

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// Get implements storage.Interface.
func (s *Storage) Get(ctx context.Context, key string, opts storage.GetOptions, out runtime.Object) error {
	key, err := s.key(key, false)
	if err != nil {
		return err
	}
	// Upstream's Get says what is wrong with a version in the parser's words, where its lists refuse the request (storage/cacher/cacher.go).
	if _, err := s.versioner.ParseResourceVersion(opts.ResourceVersion); err != nil {
		return err
	}
	state, err := s.Log.Current(ctx)
	if err != nil {
		return err
	}
	if err := s.notOlderThan(opts.ResourceVersion, state.Rev); err != nil {
		return err
	}
	e := s.lookup(ctx, state, key)
	if e == nil {
		if opts.IgnoreNotFound {
			return runtime.SetZeroValue(out)
		}
		return storage.NewKeyNotFoundError(conflictKey(key), 0)
	}
	return s.read(e, out)
}

// lookup returns the live entry of a key, nil if there is none. In a scope it sees its writes.
func (s *Storage) lookup(ctx context.Context, state *tablelog.State, key string) *tablelog.Entry {
	if scope := ScopeFrom(ctx); scope != nil {
		if e, written := scope.get(s.Log, key); written {
			return e
		}
	}
	e := state.Get(key)
	if e != nil && e.Expired(time.Now()) {
		return nil
	}
	return e
}

// futureRetrySeconds is after how long upstream has clients ask again for a revision that is not there yet (storage/cacher/watch_cache.go).
const futureRetrySeconds = 1

// notOlderThan fails when a client has seen a revision that this log has not reached.
func (s *Storage) notOlderThan(version string, rev uint64) error {
	if version == "" {
		return nil
	}
	minimum, err := s.versioner.ParseResourceVersion(version)
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
	}
	if minimum > rev {
		return storage.NewTooLargeResourceVersionError(minimum, rev, futureRetrySeconds)
	}
	return nil
}
