package apiserver

import (
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

// newest decodes any kind, built-in ones into the version of its group that upstream prefers. A resource that has just become
// stable is stored at an older one, for an API server that knows no other (NewStorageFactoryConfig,
// pkg/kubeapiserver/default_storage_factory_builder.go), but listers and functions ask for the stable type.
type newest struct {
	// stored reads an object at the version that it is stored at.
	stored runtime.Decoder
	// kinds are what kinds are converted to, by what they are stored as.
	kinds *sync.Map
}

func newNewest() newest {
	return newest{stored: stored{}, kinds: &sync.Map{}}
}

// Decode implements runtime.Decoder.
func (n newest) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	obj, stored, err := n.stored.Decode(data, defaults, into)
	if err != nil || stored == nil {
		return obj, stored, err
	}
	want := n.kindOf(*stored)
	if want == *stored {
		return obj, stored, nil
	}
	internal, err := legacyscheme.Scheme.UnsafeConvertToVersion(obj, schema.GroupVersion{Group: stored.Group, Version: runtime.APIVersionInternal})
	if err != nil {
		return nil, stored, err
	}
	obj, err = legacyscheme.Scheme.UnsafeConvertToVersion(internal, want.GroupVersion())
	return obj, &want, err
}

// kindOf is what a stored kind is converted to.
func (n newest) kindOf(stored schema.GroupVersionKind) schema.GroupVersionKind {
	if known, ok := n.kinds.Load(stored); ok {
		return known.(schema.GroupVersionKind)
	}
	want := stored
	for _, gv := range legacyscheme.Scheme.PrioritizedVersionsForGroup(stored.Group) {
		if kind := gv.WithKind(stored.Kind); legacyscheme.Scheme.Recognizes(kind) {
			want = kind
			break
		}
	}
	n.kinds.Store(stored, want)
	return want
}
