package apiserver

import (
	"context"
	"net/http"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsapiserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/util/webhook"
	aggregatorapiserver "k8s.io/kube-aggregator/pkg/apiserver"
	"k8s.io/kube-openapi/pkg/builder3"
	openapiutil "k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"
	controlplaneapiserver "k8s.io/kubernetes/pkg/controlplane/apiserver"
)

// customResources serve the kinds that definitions define, with upstream's own handler
// (k8s.io/apiextensions-apiserver/pkg/apiserver/customresource_handler.go). It is made when a kind is first asked for,
// and compiles of a definition's schemas what is used.
type customResources struct {
	definitions *definitions
	notFound    http.Handler
	handler     func() (http.Handler, error)
	discovery   *customDiscovery
}

// serveCustomResources serves every path below /apis that no built-in group has, as upstream's extension server does.
func (b *builder) serveCustomResources(notFound http.Handler) {
	b.custom = &customResources{definitions: newDefinitions(b.informers), notFound: notFound}
	b.custom.handler = onceMade(b.customHandler)
	b.custom.discovery = newCustomDiscovery(b.generic, b.custom.definitions)
	b.generic.Handler.NonGoRestfulMux.HandlePrefix("/apis/", b.custom)
}

func (b *builder) customHandler() (http.Handler, error) {
	known, err := b.metadataSchemas()
	if err != nil {
		return nil, err
	}
	services := aggregatorapiserver.NewClusterIPServiceResolver(b.factory().Core().V1().Services().Lister())
	credentials := webhook.NewDefaultAuthenticationInfoResolverWrapper(
		controlplaneapiserver.CreateProxyTransport(), b.config.EgressSelector, b.loopback, b.config.TracerProvider)
	const servers = 1 // of those that wait for each other's informers
	return apiextensionsapiserver.NewCustomResourceDefinitionHandler(
		nil, nil, b.custom.definitions, b.custom.notFound,
		customOptions{restOptions{logs: b.logs, factory: b.storage, encryption: b.o.Encryption}},
		b.config.AdmissionControl, nil, services, credentials, servers, b.config.Authorization.Authorizer,
		b.config.RequestTimeout, time.Duration(b.config.MinRequestTimeout)*time.Second, known, b.config.MaxRequestBodyBytes)
}

// metadataSchemas describe the fields of metadata to those who manage fields: upstream takes the
// schemas that its extension server is built with (getOpenAPIModels of k8s.io/apiserver/pkg/server/genericapiserver.go).
func (b *builder) metadataSchemas() (map[string]*spec.Schema, error) {
	sample, err := apiextensionsapiserver.Scheme.New(apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"))
	if err != nil {
		return nil, err
	}
	b.describing.Lock()
	defer b.describing.Unlock()
	return builder3.BuildOpenAPIDefinitionsForResources(b.config.OpenAPIV3Config, openapiutil.GetCanonicalTypeName(sample))
}

// ServeHTTP implements http.Handler.
func (c *customResources) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	info, ok := request.RequestInfoFrom(req.Context())
	if !ok {
		c.notFound.ServeHTTP(w, req)
		return
	}
	if !info.IsResourceRequest {
		c.discovery.serve(w, req, c.notFound)
		return
	}
	state, err := c.definitions.known()
	if err == nil && state.Get(c.definitions.prefix+info.Resource+"."+info.APIGroup) == nil {
		c.notFound.ServeHTTP(w, req)
		return
	}
	handler, err := c.handler()
	if err != nil {
		responsewriters.InternalError(w, req, err)
		return
	}
	handler.ServeHTTP(w, req)
}

// sync lets go of what was made of definitions that have changed. Watches of their objects end, as upstream's do, so that
// who watches begins again with the new schema.
func (c *customResources) sync(ctx context.Context) error { return c.definitions.sync(ctx) }

// customOptions gives the registries of custom resources their storage: objects are stored in JSON, as
// upstream's NewCRDRESTOptionsGetter has it (k8s.io/apiextensions-apiserver/pkg/cmd/server/options).
type customOptions struct{ restOptions }

// GetRESTOptions implements generic.RESTOptionsGetter.
func (r customOptions) GetRESTOptions(gr schema.GroupResource, _ runtime.Object) (generic.RESTOptions, error) {
	return r.options(gr, storagebackend.NewDefaultConfig(registryPrefix, unstructured.UnstructuredJSONScheme).ForResource(gr)), nil
}

// pathOf splits the path of a request.
func pathOf(req *http.Request) []string {
	return strings.Split(strings.Trim(req.URL.Path, "/"), "/")
}
