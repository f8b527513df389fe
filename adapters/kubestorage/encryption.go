package kubestorage

import (
	"context"
	"fmt"

	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/value"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// dataContext ties an encrypted value to its key, as upstream's storage does.
func dataContext(key string) value.Context { return value.DefaultContext(conflictKey(key)) }

// Encrypt returns what is stored for a plain value of a key. Without transformers that is the value.
func Encrypt(ctx context.Context, t value.ResourceTransformers, key string, plain []byte) ([]byte, error) {
	if t == nil {
		return plain, nil
	}
	gr, _, _ := ParseKey(key)
	out, err := t.TransformerForResource(gr).TransformToStorage(ctx, plain, dataContext(key))
	if err != nil {
		return nil, fmt.Errorf("encrypting %s: %w", key, err)
	}
	return out, nil
}

// Decrypt returns the plain value of an entry.
func Decrypt(t value.ResourceTransformers, e *tablelog.Entry) ([]byte, error) {
	if t == nil {
		return e.Value, nil
	}
	gr, _, _ := ParseKey(e.Key)
	plain, _, err := decrypt(t.TransformerForResource(gr), e)
	return plain, err
}

// decrypt also reports whether the value must be written anew even if it does not change, as after a change
// of keys.
func decrypt(t value.Transformer, e *tablelog.Entry) (plain []byte, stale bool, err error) {
	// A read of a state is over in an instant and is not cancelled, so the context says nothing.
	plain, stale, err = t.TransformFromStorage(context.Background(), e.Value, dataContext(e.Key))
	if err != nil {
		return nil, false, storage.NewInternalError(fmt.Errorf("unable to transform key %q: %w", conflictKey(e.Key), err))
	}
	return plain, stale, nil
}
