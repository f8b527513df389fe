package kubestorage

import (
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// Create implements storage.Interface.
func (s *Storage) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	key, err := s.key(key, false)
	if err != nil {
		return err
	}
	if version, err := s.versioner.ObjectResourceVersion(obj); err == nil && version != 0 {
		return storage.ErrResourceVersionSetOnCreate
	}
	data, owners, err := s.encode(obj)
	if err != nil {
		return err
	}
	value, err := s.stored(ctx, key, data)
	if err != nil {
		return err
	}
	for {
		state, err := s.Log.Current(ctx)
		if err != nil {
			return err
		}
		if s.lookup(ctx, state, key) != nil {
			return storage.NewKeyExistsError(conflictKey(key), 0)
		}
		if left := state.Get(key); left != nil && ScopeFrom(ctx) == nil {
			if err := s.removeExpired(ctx, left); err != nil {
				return err
			}
			continue
		}
		change := tablelog.Change{Key: key, Expect: expected(state, key), Value: value, Owners: owners, Expires: expiry(ttl), Cause: tablelog.CauseOf(ctx, key)}
		e, err := s.commit(ctx, state, change)
		if _, ok := errors.AsType[*tablelog.ConflictError](err); ok {
			continue
		}
		if err != nil || out == nil {
			return err
		}
		return s.written(e, data, out)
	}
}

// removeExpired deletes an entry whose time is over before another takes its place, so that watches
// see one go and the other come.
func (s *Storage) removeExpired(ctx context.Context, e *tablelog.Entry) error {
	_, _, err := s.Log.Commit(ctx, []tablelog.Change{{Key: e.Key, Expect: e.Rev, Delete: true}}, nil)
	if _, ok := errors.AsType[*tablelog.ConflictError](err); ok {
		return nil // it is gone, or lives again
	}
	return err
}

// expiry returns the time at which an object with a time to live in seconds is gone.
func expiry(ttl uint64) int64 {
	if ttl == 0 {
		return 0
	}
	return time.Now().Unix() + int64(ttl) + 1 //nolint:gosec // a time to live is small; no second is cut short
}

// commit makes one change durable, or holds it back in a scope, and returns the entry it made.
func (s *Storage) commit(ctx context.Context, state *tablelog.State, change tablelog.Change) (*tablelog.Entry, error) {
	if scope := ScopeFrom(ctx); scope != nil {
		return scope.hold(ctx, s.Log, state, change), nil
	}
	entries, _, err := s.Log.Commit(ctx, []tablelog.Change{change}, nil)
	if errors.Is(err, tablelog.ErrTooLarge) {
		return nil, errTooLarge
	}
	if err != nil {
		return nil, err
	}
	return entries[0], nil
}
