package kubestorage

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// Delete implements storage.Interface. Out is the deleted object at the revision of its deletion.
func (s *Storage) Delete(ctx context.Context, key string, out runtime.Object, preconditions *storage.Preconditions,
	validate storage.ValidateObjectFunc, _ runtime.Object, _ storage.DeleteOptions,
) error {
	key, err := s.key(key, false)
	if err != nil {
		return err
	}
	for {
		done, err := s.tryDelete(ctx, key, out, preconditions, validate)
		if done || err != nil {
			return err
		}
	}
}

func (s *Storage) tryDelete(ctx context.Context, key string, out runtime.Object, preconditions *storage.Preconditions,
	validate storage.ValidateObjectFunc,
) (bool, error) {
	state, err := s.Log.Current(ctx)
	if err != nil {
		return false, err
	}
	current := s.lookup(ctx, state, key)
	if current == nil {
		return false, storage.NewKeyNotFoundError(conflictKey(key), 0)
	}
	obj, err := s.decode(current)
	if err != nil {
		return false, err
	}
	if err := preconditions.Check(conflictKey(key), obj); err != nil {
		return false, err
	}
	if err := validate(ctx, obj); err != nil {
		return false, err
	}
	change := tablelog.Change{Key: key, Expect: expected(state, key), Delete: true}
	rev, err := s.commitDelete(ctx, state, change)
	var conflict *tablelog.ConflictError
	if errors.As(err, &conflict) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := assign(out, obj); err != nil {
		return false, err
	}
	return true, s.versioner.UpdateObject(out, rev)
}

func (s *Storage) commitDelete(ctx context.Context, state *tablelog.State, change tablelog.Change) (uint64, error) {
	if scope := ScopeFrom(ctx); scope != nil {
		scope.hold(s.Log, state, change)
		return state.Rev, nil
	}
	_, rev, err := s.Log.Commit(ctx, []tablelog.Change{change}, nil)
	return rev, err
}
