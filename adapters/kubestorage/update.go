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
	desired, err := s.desired(key, current, a)
	if err != nil {
		return false, err
	}
	if desired.unchanged {
		return true, s.read(current, destination)
	}
	change := tablelog.Change{Key: key, Expect: expected(state, key), Owners: desired.owners, Cause: tablelog.CauseOf(ctx, key)}
	if change.Value, err = s.stored(ctx, key, desired.data); err != nil {
		return false, err
	}
	if desired.ttl != nil {
		change.Expires = expiry(*desired.ttl)
	}
	e, err := s.commit(ctx, state, change)
	if _, ok := errors.AsType[*tablelog.ConflictError](err); ok {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, s.written(e, desired.data, destination)
}

// desiredObject is what an update makes of an object.
type desiredObject struct {
	// data is the plain value; unchanged if it is stored already and need not be written again.
	data      []byte
	unchanged bool
	owners    []string
	// ttl is the time to live in seconds. Without one the object stays, whatever it had before, as upstream has it.
	ttl *uint64
}

// desired lets an update alter the object of an entry, an empty one for no entry.
func (s *Storage) desired(key string, current *tablelog.Entry, a updateAttempt) (desiredObject, error) {
	existing, before, err := s.existing(current)
	if err != nil {
		return desiredObject{}, err
	}
	meta := storage.ResponseMeta{}
	if current != nil {
		meta.ResourceVersion = current.Rev
	}
	if err := a.preconditions.Check(conflictKey(key), existing); err != nil {
		return desiredObject{}, err
	}
	obj, ttl, err := a.update(existing, meta)
	if err != nil {
		return desiredObject{}, err
	}
	data, owners, err := s.encode(obj)
	if err != nil {
		return desiredObject{}, err
	}
	unchanged := before != nil && bytes.Equal(data, before)
	return desiredObject{data: data, unchanged: unchanged, owners: owners, ttl: ttl}, nil
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
