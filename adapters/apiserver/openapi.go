package apiserver

import (
	"maps"
	"net/http"
	"sync"
	"sync/atomic"

	apiextensionsapiserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	"k8s.io/apiserver/pkg/util/openapi"
	aggregatorscheme "k8s.io/kube-aggregator/pkg/apiserver/scheme"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"
)

// documents are what describes the built-in kinds. They are the same in every cluster and are made
// once: that takes tens of milliseconds.
type documents struct {
	namer *openapinamer.DefinitionNamer
	get   common.GetOpenAPIDefinitions
	v3    *common.OpenAPIV3Config
	// extensions of the definitions that have some, as they are before any document is built.
	extensions map[string]spec.Extensions
	// taken is set when a server has the definitions of v3.
	taken atomic.Bool
}

var sharedDocuments = sync.OnceValue(func() *documents {
	d := &documents{
		namer: openapinamer.NewDefinitionNamer(legacyscheme.Scheme, apiextensionsapiserver.Scheme, aggregatorscheme.Scheme, metricsScheme),
		get:   openapi.GetOpenAPIDefinitionsWithoutDisabledFeatures(generatedopenapi.GetOpenAPIDefinitions),
	}
	d.v3 = genericapiserver.DefaultOpenAPIV3Config(d.get, d.namer)
	d.extensions = map[string]spec.Extensions{}
	for name, definition := range d.v3.Definitions {
		if e := definition.Schema.Extensions; e != nil {
			d.extensions[name] = maps.Clone(e)
		}
	}
	return d
})

// Warm makes what all servers of the process share. A host calls it while it opens its store.
func Warm() { sharedDocuments() }

func setOpenAPIConfig(c *genericapiserver.Config) {
	d := sharedDocuments()
	c.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(d.get, d.namer)
	c.OpenAPIConfig.Info = &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes"}}
	c.OpenAPIConfig.SecurityDefinitions = &spec.SecurityDefinitions{bearerToken: {SecuritySchemeProps: spec.SecuritySchemeProps{
		Type: "apiKey", Name: "authorization", In: "header", Description: "Bearer Token authentication",
	}}}
	v3 := *d.v3
	v3.Definitions = d.definitions()
	v3.Info = &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes"}}
	v3.SecuritySchemes = spec3.SecuritySchemes{bearerToken: {SecuritySchemeProps: spec3.SecuritySchemeProps{
		Type: "apiKey", Name: "authorization", In: "header", Description: "Bearer Token authentication",
	}}}
	c.OpenAPIV3Config = &v3
}

// definitions returns the built-in kinds for one server. Kube-openapi alters their extensions whenever it builds
// a document (builder3, buildDefinitionRecursively), and servers are made at the same time, so each has its own.
// The first one takes those that were made, since it is waited for.
func (d *documents) definitions() map[string]common.OpenAPIDefinition {
	if !d.taken.Swap(true) {
		return d.v3.Definitions
	}
	own := maps.Clone(d.v3.Definitions)
	for name, extensions := range d.extensions {
		definition := own[name]
		definition.Schema.Extensions = maps.Clone(extensions)
		own[name] = definition
	}
	return own
}

// bearerToken is how clients authenticate, as kube-apiserver describes it (pkg/kubeapiserver/authenticator/config.go).
const bearerToken = "BearerToken"

// installOpenAPI serves OpenAPI documents that are built when one is first asked for: building them
// takes longer than all the rest of a server's start.
func (b *builder) installOpenAPI() {
	s, c := b.generic, b.config
	custom := &customOpenAPI{definitions: b.custom.definitions}
	v2 := current(lazily(func(m *mux.PathRecorderMux) {
		b.describing.Lock()
		defer b.describing.Unlock()
		custom.v2, custom.builtIn = routes.OpenAPI{Config: c.OpenAPIConfig}.InstallV2(s.Handler.GoRestfulContainer, m)
	}), custom.syncV2)
	s.Handler.NonGoRestfulMux.Handle("/openapi/v2", v2)
	v3 := current(lazily(func(m *mux.PathRecorderMux) {
		b.describing.Lock()
		defer b.describing.Unlock()
		custom.v3 = routes.OpenAPI{V3Config: c.OpenAPIV3Config}.InstallV3(s.Handler.GoRestfulContainer, m)
	}), custom.syncV3)
	s.Handler.NonGoRestfulMux.Handle("/openapi/v3", v3)
	s.Handler.NonGoRestfulMux.HandlePrefix("/openapi/v3/", foundOnly(v3))
}

// foundOnly answers what the documents' handler leaves unanswered, which is what it has no document for, as upstream's
// aggregator does (k8s.io/kube-aggregator/pkg/controllers/openapiv3/aggregator).
func foundOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		a := &answered{ResponseWriter: w}
		if next.ServeHTTP(a, req); !a.is {
			w.Header().Del("Vary")
			w.WriteHeader(http.StatusNotFound)
		}
	})
}

// answered notes whether there was an answer.
type answered struct {
	http.ResponseWriter
	is bool
}

// WriteHeader implements http.ResponseWriter.
func (a *answered) WriteHeader(code int) {
	a.is = true
	a.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (a *answered) Write(data []byte) (int, error) {
	a.is = true
	return a.ResponseWriter.Write(data)
}

// current returns a handler of documents that are made current before each answer.
func current(documents func() http.Handler, sync func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := documents()
		if err := sync(); err != nil {
			responsewriters.InternalError(w, req, err)
			return
		}
		h.ServeHTTP(w, req)
	})
}

// lazily returns a handler that is installed when it is first asked for.
func lazily(install func(*mux.PathRecorderMux)) func() http.Handler {
	return sync.OnceValue(func() http.Handler {
		m := mux.NewPathRecorderMux("openapi")
		install(m)
		return m
	})
}
