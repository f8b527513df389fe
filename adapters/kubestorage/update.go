package kubestorage

import (
	"bytes"
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// GuaranteedUpdate implements storage.Interface. No lock is held while tryUpdate runs: it may read
// the store. The cached object is not used, since reading the current one costs nothing more.
func (s *Storage) GuaranteedUpdate(ctx context.Context, key string, destination runtime.Object, ignoreNotFound bool,
	preconditions *storage.Preconditions, tryUpdate storage.UpdateFunc, _ runtime.Object,
) error {
	key, err := s.key(key, false)
	if err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		done, err := s.tryUpdate(ctx, key, destination, updateAttempt{ignoreNotFound, preconditions, tryUpdate})
		if done || err != nil {
			return err
		}
	}
}

type updateAttempt struct {
	ignoreNotFound bool
	preconditions  *storage.Preconditions
	update         storage.UpdateFunc
}

// tryUpdate makes one attempt; it returns false when the object changed meanwhile.
func (s *Storage) tryUpdate(ctx context.Context, key string, destination runtime.Object, a updateAttempt) (bool, error) {
	state, err := s.Log.Current(ctx)
	if err != nil {
		return false, err
	}
	current := s.lookup(ctx, state, key)
	if current == nil && !a.ignoreNotFound {
		return false, storage.NewKeyNotFoundError(conflictKey(key), 0)
	}
	if left := state.Get(key); current == nil && left != nil && ScopeFrom(ctx) == nil {
		return false, s.removeExpired(ctx, left)
	}
	existing, before, err := s.existing(current)
	if err != nil {
		return false, err
	}
	meta := storage.ResponseMeta{}
	if current != nil {
		meta.ResourceVersion = current.Rev
	}
	if err := a.preconditions.Check(conflictKey(key), existing); err != nil {
		return false, err
	}
	desired, ttl, err := a.update(existing, meta)
	if err != nil {
		return false, err
	}
	change := tablelog.Change{Key: key, Expect: expected(state, key)}
	data, owners, err := s.encode(desired)
	if err != nil {
		return false, err
	}
	if before != nil && bytes.Equal(data, before) {
		return true, s.read(current, destination)
	}
	change.Owners = owners
	if change.Value, err = s.stored(ctx, key, data); err != nil {
		return false, err
	}
	if ttl != nil {
		change.Expires = expiry(*ttl)
	} else if current != nil {
		change.Expires = current.Expires
	}
	e, err := s.commit(ctx, state, change)
	var conflict *tablelog.ConflictError
	if errors.As(err, &conflict) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, s.written(e, data, destination)
}

// existing returns a copy of an entry's object that may be altered, an empty object for no entry,
// and the plain value which need not be written again, nil if any must.
func (s *Storage) existing(e *tablelog.Entry) (runtime.Object, []byte, error) {
	if e == nil {
		return s.NewFunc(), nil, nil
	}
	if s.Transformer == nil {
		obj, err := s.decode(e)
		if err != nil {
			return nil, nil, err
		}
		return obj.DeepCopyObject(), e.Value, nil
	}
	data, stale, err := s.plain(e)
	if err != nil {
		return nil, nil, err
	}
	obj, err := s.decodePlain(e, data)
	if stale {
		data = nil
	}
	return obj, data, err
}

// expected is the revision of the entry that a change replaces, 0 for none.
func expected(state *tablelog.State, key string) uint64 {
	if e := state.Get(key); e != nil {
		return e.Rev
	}
	return 0
}
