package apiserver

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/client-go/tools/cache"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
)

// registryPrefix is kube-apiserver's default. Our keys do not have it.
const registryPrefix = "/registry"

// deleteCollectionWorkers is kube-apiserver's default.
const deleteCollectionWorkers = 1

// restOptions gives every registry its storage.
type restOptions struct {
	logs    kubestorage.Logs
	factory serverstorage.StorageFactory
	// encryption, if set, encrypts what is stored of a resource.
	encryption value.ResourceTransformers
}

var _ generic.RESTOptionsGetter = restOptions{}

// GetRESTOptions implements generic.RESTOptionsGetter. The count of objects is not polled.
func (r restOptions) GetRESTOptions(gr schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	config, err := r.config(gr, example)
	if err != nil {
		return generic.RESTOptions{}, fmt.Errorf("finding the storage of %s: %w", gr, err)
	}
	return r.options(gr, config), nil
}

func (r restOptions) options(gr schema.GroupResource, config *storagebackend.ConfigForResource) generic.RESTOptions {
	return generic.RESTOptions{
		StorageConfig:           config,
		Decorator:               r.storageFor(gr),
		EnableGarbageCollection: true,
		DeleteCollectionWorkers: deleteCollectionWorkers,
		ResourcePrefix:          kubestorage.Prefix(gr),
		CountMetricPollPeriod:   0,
	}
}

func (r restOptions) config(gr schema.GroupResource, example runtime.Object) (*storagebackend.ConfigForResource, error) {
	if g, ok := ownSchemes[gr.Group]; ok {
		config := storagebackend.NewDefaultConfig(registryPrefix, g.codec)
		config.EncodeVersioner = g.version // which discovery tells a hash of
		return config.ForResource(gr), nil
	}
	return r.factory.NewConfig(gr, example)
}

// storageFor follows the type generic.StorageDecorator, whose parameters upstream has chosen.
func (r restOptions) storageFor(gr schema.GroupResource) generic.StorageDecorator {
	return func(config *storagebackend.ConfigForResource, _ string, _ func(runtime.Object) (string, error),
		newFunc, _ func() runtime.Object, _ storage.AttrFunc, _ storage.IndexerFuncs, _ *cache.Indexers,
	) (storage.Interface, factory.DestroyFunc, error) {
		c := kubestorage.Config{Log: r.logs.Of(gr), Codec: config.Codec, Resource: gr, NewFunc: newFunc}
		if r.encryption != nil {
			c.Transformer = r.encryption.TransformerForResource(gr)
		}
		s := kubestorage.New(c)
		return s, s.EndWatches, nil
	}
}
