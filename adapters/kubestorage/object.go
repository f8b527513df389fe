package kubestorage

import (
	"context"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// internal is the decoded form of an entry.
type internal struct {
	form any
	obj  runtime.Object
}

// decode returns the internal form of an entry, which is shared: nobody may alter it.
func (s *Storage) decode(e *tablelog.Entry) (runtime.Object, error) {
	v, err := e.Decoded(tablelog.SlotInternal, func(e *tablelog.Entry) (any, error) { return s.decodeFresh(e) })
	if err != nil {
		return nil, err
	}
	if in := v.(internal); in.form == s.form {
		return in.obj, nil
	}
	fresh, err := s.decodeFresh(e)
	if err != nil {
		return nil, err
	}
	e.ReplaceDecoded(tablelog.SlotInternal, fresh)
	return fresh.obj, nil
}

func (s *Storage) decodeFresh(e *tablelog.Entry) (internal, error) {
	data, _, err := s.plain(e)
	if err != nil {
		return internal{}, err
	}
	obj, err := s.decodePlain(e, data)
	return internal{form: s.form, obj: obj}, err
}

// decodePlain returns an object of its own made from an entry's plain value.
func (s *Storage) decodePlain(e *tablelog.Entry, data []byte) (runtime.Object, error) {
	obj := s.NewFunc()
	if _, _, err := s.Codec.Decode(data, nil, obj); err != nil {
		return nil, storage.NewInternalError(fmt.Errorf("decoding %q: %w", conflictKey(e.Key), err))
	}
	if err := s.versioner.UpdateObject(obj, e.Rev); err != nil {
		return nil, storage.NewInternalError(err)
	}
	return obj, nil
}

// plain returns the value of an entry before it was encrypted, and whether it must be written anew
// even if it does not change, as after a change of keys.
func (s *Storage) plain(e *tablelog.Entry) (data []byte, stale bool, err error) {
	if s.Transformer == nil {
		return e.Value, false, nil
	}
	return decrypt(s.Transformer, e)
}

// written notes the form of an entry that was just made from a plain value, and reads it into out.
func (s *Storage) written(e *tablelog.Entry, data []byte, out runtime.Object) error {
	obj, err := s.decodePlain(e, data)
	if err != nil {
		return err
	}
	e.SetDecoded(tablelog.SlotInternal, internal{form: s.form, obj: obj})
	return assign(out, obj)
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

// at returns a copy of an object at another revision. Only its own fields are copied, except where
// the revision lies in a map.
func (s *Storage) at(obj runtime.Object, rev uint64) (runtime.Object, error) {
	var out runtime.Object
	if _, custom := obj.(runtime.Unstructured); custom {
		out = obj.DeepCopyObject()
	} else {
		v := reflect.New(reflect.TypeOf(obj).Elem())
		v.Elem().Set(reflect.ValueOf(obj).Elem())
		out = v.Interface().(runtime.Object)
	}
	return out, s.versioner.UpdateObject(out, rev)
}

// encode returns the plain stored form of an object and the owners it names.
func (s *Storage) encode(obj runtime.Object) (data []byte, owners []string, err error) {
	if err := s.versioner.PrepareObjectForStorage(obj); err != nil {
		return nil, nil, fmt.Errorf("PrepareObjectForStorage failed: %w", err)
	}
	if data, err = runtime.Encode(s.Codec, obj); err != nil {
		return nil, nil, err
	}
	if len(data) > maxObjectBytes {
		return nil, nil, errTooLarge
	}
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return data, nil, nil //nolint:nilerr // a kind without metadata has no owners
	}
	for _, ref := range accessor.GetOwnerReferences() {
		owners = append(owners, string(ref.UID))
	}
	return data, owners, nil
}

// stored returns what is written for a plain value.
func (s *Storage) stored(ctx context.Context, key string, data []byte) ([]byte, error) {
	if s.Transformer == nil {
		return data, nil
	}
	out, err := s.Transformer.TransformToStorage(ctx, data, dataContext(key))
	if err != nil {
		return nil, storage.NewInternalError(err)
	}
	return out, nil
}
