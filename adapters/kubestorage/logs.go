package kubestorage

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/value"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// Logs are the logs of one cluster, by group.
type Logs map[string]*tablelog.Log

// Partition is the partition of a cluster's log group. No cluster name holds a '|'.
func Partition(cluster, group string) string { return cluster + "|" + group }

// NewLogs returns the logs of a cluster. Options are asked for by group.
func NewLogs(store table.Store, cluster string, options func(group string) tablelog.Options) Logs {
	logs := Logs{}
	for _, g := range Groups {
		logs[g] = tablelog.New(store, Partition(cluster, g), options(g))
	}
	return logs
}

// Of returns the log of a resource.
func (l Logs) Of(gr schema.GroupResource) *tablelog.Log { return l[GroupOf(gr)] }

// Decoder returns the versioned form of entries, as clients see them.
type Decoder struct {
	// Deserializer reads any kind, and says at which version.
	Deserializer runtime.Decoder
	// Encryption, if set, decrypts what is stored of a resource.
	Encryption value.ResourceTransformers
}

// Object returns the versioned object of an entry. It is shared: nobody may alter it.
func (d Decoder) Object(e *tablelog.Entry) (runtime.Object, error) {
	v, err := e.Decoded(tablelog.SlotVersioned, func(e *tablelog.Entry) (any, error) {
		data, err := Decrypt(d.Encryption, e)
		if err != nil {
			return nil, err
		}
		obj, _, err := d.Deserializer.Decode(data, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("decoding %s: %w", e.Key, err)
		}
		if err := (storage.APIObjectVersioner{}).UpdateObject(obj, e.Rev); err != nil {
			return nil, fmt.Errorf("decoding %s: %w", e.Key, err)
		}
		if _, custom := obj.(runtime.Unstructured); custom {
			return obj, nil
		}
		if typed, err := meta.TypeAccessor(obj); err == nil {
			typed.SetKind("") // as typed clients have it
			typed.SetAPIVersion("")
		}
		return obj, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(runtime.Object), nil
}
