package kubestorage

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	utilfeature "k8s.io/apiserver/pkg/util/feature"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// Delete implements storage.Interface. Out is the deleted object at the revision of its deletion.
func (s *Storage) Delete(ctx context.Context, key string, out runtime.Object, preconditions *storage.Preconditions,
	validate storage.ValidateObjectFunc, _ runtime.Object, opts storage.DeleteOptions,
) error {
	key, err := s.key(key, false)
	if err != nil {
		return err
	}
	a := deletion{preconditions: preconditions, validate: validate}
	a.unreadable = opts.ExpectTransformOrDecodeError && utilfeature.DefaultFeatureGate.Enabled(features.AllowUnsafeMalformedObjectDeletion)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		done, err := s.tryDelete(ctx, key, out, a)
		if done || err != nil {
			return err
		}
	}
}

type deletion struct {
	preconditions *storage.Preconditions
	validate      storage.ValidateObjectFunc
	// unreadable objects are deleted without being read, and no others.
	unreadable bool
}

// check returns why an object may not be deleted.
func (a deletion) check(ctx context.Context, key string, obj runtime.Object) error {
	if a.preconditions != nil {
		if err := a.preconditions.Check(conflictKey(key), obj); err != nil {
			return err
		}
	}
	return a.validate(ctx, obj)
}

// tryDelete makes one attempt; it returns false when the object changed meanwhile.
func (s *Storage) tryDelete(ctx context.Context, key string, out runtime.Object, a deletion) (bool, error) {
	state, err := s.Log.Current(ctx)
	if err != nil {
		return false, err
	}
	current := s.lookup(ctx, state, key)
	if current == nil {
		return false, storage.NewKeyNotFoundError(conflictKey(key), 0)
	}
	obj, err := s.deletable(current, a.unreadable)
	if err != nil {
		return false, err
	}
	if err := a.check(ctx, key, obj); err != nil {
		return false, err
	}
	change := tablelog.Change{Key: key, Expect: expected(state, key), Delete: true, Cause: tablelog.CauseOf(ctx, key)}
	rev, err := s.commitDelete(ctx, state, change)
	if _, ok := errors.AsType[*tablelog.ConflictError](err); ok {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if obj == nil {
		return true, nil
	}
	last, err := s.at(obj, rev)
	if err != nil {
		return false, err
	}
	return true, assign(out, last)
}

// deletable returns the object that is deleted. If it is expected to be unreadable, it returns nil,
// and fails if it is readable: that one must be deleted as any other.
func (s *Storage) deletable(e *tablelog.Entry, unreadable bool) (runtime.Object, error) {
	if !unreadable {
		return s.decode(e)
	}
	if _, err := s.decodeFresh(e); err != nil {
		return nil, nil //nolint:nilerr,nilnil // as was expected
	}
	return nil, storage.NewInvalidObjError(conflictKey(e.Key), "unsafe deletion is not allowed because the object is decodable from storage")
}

func (s *Storage) commitDelete(ctx context.Context, state *tablelog.State, change tablelog.Change) (uint64, error) {
	if scope := ScopeFrom(ctx); scope != nil {
		scope.hold(ctx, s.Log, state, change)
		return state.Rev, nil
	}
	_, rev, err := s.Log.Commit(ctx, []tablelog.Change{change}, nil)
	return rev, err
}
