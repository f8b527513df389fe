package apiserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/initializer"
	admissionmetrics "k8s.io/apiserver/pkg/admission/metrics"
	apiserverapi "k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/generic"
	genericapiserver "k8s.io/apiserver/pkg/server"
	serverfilters "k8s.io/apiserver/pkg/server/filters"
	"k8s.io/apiserver/pkg/server/healthz"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/apiserver/pkg/util/notfoundhandler"
	"k8s.io/apiserver/pkg/util/proxy"
	clientdiscovery "k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	clientinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	basecompatibility "k8s.io/component-base/compatibility"
	aggregatorapiserver "k8s.io/kube-aggregator/pkg/apiserver"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/capabilities"
	"k8s.io/kubernetes/pkg/cluster/ports"
	controlplaneapiserver "k8s.io/kubernetes/pkg/controlplane/apiserver"
	controlplaneadmission "k8s.io/kubernetes/pkg/controlplane/apiserver/admission"
	"k8s.io/kubernetes/pkg/kubeapiserver"
	kubeoptions "k8s.io/kubernetes/pkg/kubeapiserver/options"
	kubeletclient "k8s.io/kubernetes/pkg/kubelet/client"
	corerest "k8s.io/kubernetes/pkg/registry/core/rest"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
)

// Upstream's defaults that clients can see.
const (
	// eventTTL is how long Events are kept.
	eventTTL = time.Hour
	// allowPrivileged pods, as every distribution does, unlike kube-apiserver by itself: admission says who may.
	allowPrivileged = true
	// kubeletTimeout bounds a connection to a kubelet.
	kubeletTimeout = 5 * time.Second
)

// Keys are the secrets of a cluster.
type Keys struct {
	// CACertificate signs the certificates of the cluster's clients, in PEM.
	CACertificate []byte
	// ServiceAccountKey signs ServiceAccount tokens.
	ServiceAccountKey *ecdsa.PrivateKey
	// AdminTokenHash is the SHA-256 of the admin's bearer token.
	AdminTokenHash [sha256.Size]byte
}

// Options of a server.
type Options struct {
	Logs kubestorage.Logs
	Keys Keys
	// Address that clients reach the API at, host and port.
	Address string
	// PathPrefix under which clients reach the API, empty or like "/clusters/NAME".
	PathPrefix string
	// ServiceRange is the range of cluster IPs.
	ServiceRange net.IPNet
	// Encryption, if set, encrypts what is stored of a resource.
	Encryption value.ResourceTransformers
	// Senders, if set, authenticates requests that carry no credential which Kubernetes knows. Its error refuses one.
	Senders authenticator.Request
	// Tokens, if set, authenticates bearer tokens that are neither the admin's, nor of a ServiceAccount, nor bootstrap tokens.
	Tokens authenticator.Token
	// Anonymous, if set, says which requests without a credential are anonymous; else all are. The others are refused.
	Anonymous *apiserverapi.AnonymousAuthConfig
	// OwnTime is a mounted path whose handler bounds how long its requests take: the filter that does so would hang up on
	// a client whose body does not come, where the handler has an answer.
	OwnTime string
	// Metrics is what metrics.k8s.io answers from; without it the group is not served.
	Metrics Measurements
}

// NewDecoder returns the decoder of stored objects, at the newest version of each.
func NewDecoder(encryption value.ResourceTransformers) kubestorage.Decoder {
	return kubestorage.Decoder{Deserializer: newNewest(), Encryption: encryption}
}

// Issuer is the issuer of the cluster's ServiceAccount tokens. Clusters have different ones, so
// that no token of one is valid in another even if their keys were the same.
func (o Options) Issuer() string {
	return firstIssuer + o.PathPrefix
}

// firstIssuer is the issuer of a cluster without a path prefix, as upstream's distributions have it.
const firstIssuer = "https://kubernetes.default.svc.cluster.local"

// IsIssuer reports whether a URL is, or could be, the issuer of a cluster's ServiceAccount tokens.
func IsIssuer(url string) bool { return url == firstIssuer || strings.HasPrefix(url, firstIssuer+"/") }

func (o Options) audiences() authenticator.Audiences { return authenticator.Audiences{o.Issuer()} }

// Server is the Kubernetes API of one cluster.
type Server struct {
	logs       kubestorage.Logs
	decoder    kubestorage.Decoder
	informers  *informers
	generic    *genericapiserver.GenericAPIServer
	handler    http.Handler
	discovered func() (*Discovered, error)
	stop       chan struct{}
	// rest is closed when every API group is installed, or restErr says why not.
	rest       chan struct{}
	restErr    error
	closing    sync.Once
	clusterIPs ipallocator.Interface
	custom     *customResources
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if err := s.awaitGroups(req); err != nil {
		responsewriters.InternalError(w, req, fmt.Errorf("installing the API groups: %w", err))
		return
	}
	s.handler.ServeHTTP(w, req)
}

// Close ends what plugins and allocators keep running. Requests must have ended.
func (s *Server) Close() {
	s.closing.Do(func() {
		<-s.rest
		close(s.stop)
		s.clusterIPs.Destroy()
		s.generic.Destroy()
	})
}

// Mount serves a path of our own, and all below it, behind the filters, which authenticate and authorise it.
func (s *Server) Mount(path string, h http.Handler) {
	s.generic.Handler.NonGoRestfulMux.Handle(path, h)
	s.generic.Handler.NonGoRestfulMux.HandlePrefix(path+"/", h)
}

// Authorizer says who may do what in the cluster.
func (s *Server) Authorizer() authorizer.UnconditionalAuthorizer { return s.generic.Authorizer }

// Decoder returns the decoder of stored objects.
func (s *Server) Decoder() kubestorage.Decoder { return s.decoder }

// Logs returns the cluster's logs.
func (s *Server) Logs() kubestorage.Logs { return s.logs }

// Trim drops from memory what can be made again.
func (s *Server) Trim(ctx context.Context) error {
	for _, l := range s.logs {
		if err := l.Trim(ctx); err != nil {
			return err
		}
	}
	return nil
}

// New assembles a server. It reads the store, and writes nothing.
func New(o Options) (*Server, error) {
	s := &Server{logs: o.Logs, stop: make(chan struct{}), decoder: NewDecoder(o.Encryption)}
	s.discovered = onceMade(s.discover)
	b := &builder{Server: s, o: o}
	for _, step := range []func() error{b.configure, b.authenticate, b.beginCore, b.admit, b.build, b.install} {
		if err := step(); err != nil {
			b.abandon()
			return nil, fmt.Errorf("assembling the API server: %w", err)
		}
	}
	return s, nil
}

// abandon ends what the steps that went well keep running.
func (b *builder) abandon() {
	if b.core != nil {
		<-b.core.made
	}
	close(b.stop)
	if b.clusterIPs != nil {
		b.clusterIPs.Destroy()
	}
	if b.generic != nil {
		b.generic.Destroy()
	}
}

// builder holds what only the assembly needs. Its steps are in the order of New.
type builder struct {
	*Server
	o         Options
	config    *genericapiserver.Config
	completed genericapiserver.CompletedConfig
	storage   *serverstorage.DefaultStorageFactory
	loopback  *rest.Config
	client    *kubernetes.Clientset
	issuer    serviceaccount.TokenGenerator
	keys      serviceaccount.PublicKeysGetter
	core      *madeGroup
	// describing is held while an OpenAPI document is built: kube-openapi alters what it builds from.
	describing sync.Mutex
}

func (b *builder) factory() clientinformers.SharedInformerFactory { return b.informers.factory }

// configure sets what kube-apiserver's flags set.
func (b *builder) configure() (err error) {
	c := genericapiserver.NewConfig(legacyscheme.Codecs)
	c.EffectiveVersion = compatibility.DefaultComponentGlobalsRegistry.EffectiveVersionFor(basecompatibility.DefaultKubeComponent)
	c.FeatureGate = utilfeature.DefaultFeatureGate
	c.MergedResourceConfig = resourceConfig()
	c.ExternalAddress = b.o.Address
	c.StorageObjectCountTracker = nil
	c.BuildHandlerChainFunc = b.buildChain
	longRunning := serverfilters.BasicLongRunningRequestCheck(
		sets.NewString("watch", "proxy"), sets.NewString("attach", "exec", "proxy", "log", "portforward"))
	c.LongRunningFunc = func(req *http.Request, info *request.RequestInfo) bool {
		return longRunning(req, info) || b.o.OwnTime != "" && !info.IsResourceRequest && info.Path == b.o.OwnTime
	}
	capabilities.Setup(allowPrivileged, 0)
	b.config = c

	etcd := genericoptions.NewEtcdOptions(storagebackend.NewDefaultConfig(registryPrefix, nil))
	etcd.DefaultStorageMediaType = "application/vnd.kubernetes.protobuf"
	storageConfig := kubeapiserver.NewStorageFactoryConfigEffectiveVersion(c.EffectiveVersion)
	storageConfig.APIResourceConfig = c.MergedResourceConfig
	if b.storage, err = storageConfig.Complete(etcd).New(); err != nil {
		return err
	}
	c.RESTOptionsGetter = restOptions{logs: b.logs, factory: b.storage, encryption: b.o.Encryption}

	b.loopback = b.ClientConfig(System, "zeroplane")
	c.LoopbackClientConfig = b.loopback
	if b.client, err = kubernetes.NewForConfig(b.loopback); err != nil {
		return err
	}
	b.informers = newInformers(b.client, b.logs, b.decoder)
	return nil
}

func (b *builder) authenticate() (err error) {
	if b.config.Authentication.Authenticator, err = newAuthenticator(b.o, b.client, b.factory()); err != nil {
		return err
	}
	b.config.Authentication.APIAudiences = b.o.audiences()
	if b.config.Authorization.Authorizer, b.config.RuleResolver, err = newAuthorizer(b.factory()); err != nil {
		return err
	}
	if b.keys, err = serviceaccount.StaticPublicKeysGetter([]any{b.o.Keys.ServiceAccountKey.Public()}); err != nil {
		return err
	}
	b.issuer, err = serviceaccount.JWTTokenGenerator(b.o.Issuer(), b.o.Keys.ServiceAccountKey)
	return err
}

// admit sets up the default admission plugins, as AdmissionOptions.ApplyTo of
// k8s.io/apiserver/pkg/server/options does, but for what it stops them with: clusters come and go here.
func (b *builder) admit() error {
	dynamicClient, err := dynamic.NewForConfig(b.loopback)
	if err != nil {
		return err
	}
	control := controlplaneadmission.Config{
		LoopbackClientConfig: b.loopback, ExternalInformers: b.factory(), APIResourceConfig: b.storage.APIResourceConfigSource,
	}
	resolver := aggregatorapiserver.NewClusterIPServiceResolver(b.factory().Core().V1().Services().Lister())
	initializers, err := control.New(controlplaneapiserver.CreateProxyTransport(), nil, resolver, b.config.TracerProvider)
	if err != nil {
		return err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(b.client.Discovery()))
	chain := admission.PluginInitializers{
		initializer.NewAPIServerIDInitializer(b.config.APIServerID),
		initializer.New(b.client, dynamicClient, b.factory(), b.config.Authorization.Authorizer,
			b.config.FeatureGate, b.config.EffectiveVersion, b.stop, mapper),
	}
	chain = append(chain, initializers...)
	plugins := kubeoptions.NewAdmissionOptions().GenericAdmission
	var names []string
	for _, name := range plugins.RecommendedPluginOrder {
		if plugins.DefaultOffPlugins.Has(name) {
			continue
		}
		if _, isPolicy := policyPlugins[name]; isPolicy {
			name = onDemandName(name)
		}
		names = append(names, name)
	}
	b.registerOnDemand(plugins.Plugins, chain)
	configs, err := admission.ReadAdmissionConfiguration(names, "", runtime.NewScheme())
	if err != nil {
		return err
	}
	all, err := plugins.Plugins.NewFromPlugins(names, configs, chain, plugins.Decorators)
	if err != nil {
		return err
	}
	b.config.AdmissionControl = admissionmetrics.WithStepMetrics(all)
	return nil
}

func (b *builder) build() (err error) {
	setOpenAPIConfig(b.config) // no earlier: the first server waits for it
	// The factory is not given to the generic server, which would start it.
	b.completed = b.config.Complete(nil)
	notFound := notfoundhandler.New(b.config.Serializer, filters.NoMuxAndDiscoveryIncompleteKey)
	if b.generic, err = b.completed.New("kube-apiserver", genericapiserver.NewEmptyDelegateWithCustomHandler(notFound)); err != nil {
		return err
	}
	b.serveCustomResources(notFound)
	b.handler = b.generic.Handler.FullHandlerChain
	return nil
}

// install adds the API groups and what kube-apiserver's PrepareRun adds. The core group is there when
// it returns; the others, which take most of the time, are added meanwhile.
func (b *builder) install() error {
	server := &controlplaneapiserver.Server{
		GenericAPIServer:        b.generic,
		APIResourceConfigSource: b.storage.APIResourceConfigSource,
		RESTOptionsGetter:       b.config.RESTOptionsGetter,
		VersionedInformers:      b.factory(),
	}
	if err := server.InstallAPIs(b.core); err != nil {
		return err
	}
	setPriorities(b.generic)
	b.installOpenAPI()
	mux := b.generic.Handler.NonGoRestfulMux
	checks := []healthz.HealthChecker{healthz.PingHealthz, healthz.NamedCheck("store", b.checkStore)}
	healthz.InstallHandler(mux, checks...)
	healthz.InstallLivezHandler(mux, healthz.PingHealthz)
	healthz.InstallReadyzHandler(mux, checks...)
	if err := b.installIssuerDiscovery(); err != nil {
		return err
	}
	b.rest = make(chan struct{})
	go func() {
		defer close(b.rest)
		b.restErr = server.InstallAPIs(withoutHooks(b.otherGroups(clientdiscovery.NewDiscoveryClient(b.client.RESTClient())))...)
	}()
	return nil
}

// awaitGroups waits until every API group is there, if a request may ask for one that is added after
// the core group.
func (s *Server) awaitGroups(req *http.Request) error {
	if strings.HasPrefix(req.URL.Path, "/api/") || strings.HasPrefix(req.URL.Path, "/healthz") ||
		strings.HasPrefix(req.URL.Path, "/livez") || strings.HasPrefix(req.URL.Path, "/readyz") {
		return nil
	}
	select {
	case <-s.rest:
		return s.restErr
	case <-req.Context().Done():
		return req.Context().Err()
	}
}

func (b *builder) checkStore(req *http.Request) error {
	_, err := b.logs[kubestorage.ConfigGroup].Current(req.Context())
	return err
}

// withoutHooks hides the post-start hooks of providers, which would write what a cluster is born with:
// making one takes time, and none is run.
func withoutHooks(providers []controlplaneapiserver.RESTStorageProvider) []controlplaneapiserver.RESTStorageProvider {
	type hookless struct {
		controlplaneapiserver.RESTStorageProvider
	}
	out := make([]controlplaneapiserver.RESTStorageProvider, len(providers))
	for i, p := range providers {
		out[i] = hookless{p}
	}
	return out
}

// beginCore has the core group be made while admission is set up.
func (b *builder) beginCore() error {
	core, err := b.coreGroup()
	if err != nil {
		return err
	}
	b.core = &madeGroup{RESTStorageProvider: core, made: make(chan struct{})}
	go b.core.make(b.storage.APIResourceConfigSource, b.config.RESTOptionsGetter)
	return nil
}

// madeGroup is a group whose storage is made before it is asked for.
type madeGroup struct {
	controlplaneapiserver.RESTStorageProvider
	made chan struct{}
	info genericapiserver.APIGroupInfo
	err  error
}

func (g *madeGroup) make(source serverstorage.APIResourceConfigSource, options generic.RESTOptionsGetter) {
	defer close(g.made)
	g.info, g.err = g.RESTStorageProvider.NewRESTStorage(source, options)
}

// NewRESTStorage implements RESTStorageProvider.
func (g *madeGroup) NewRESTStorage(serverstorage.APIResourceConfigSource, generic.RESTOptionsGetter) (genericapiserver.APIGroupInfo, error) {
	<-g.made
	return g.info, g.err
}

func (b *builder) coreGroup() (*coreGroup, error) {
	kubelet := kubeletclient.KubeletClientConfig{
		Port: ports.KubeletPort, ReadOnlyPort: ports.KubeletReadOnlyPort, HTTPTimeout: kubeletTimeout,
		PreferredAddressTypes: []string{"InternalIP", "Hostname", "ExternalIP"},
	}
	slices, err := proxy.NewEndpointSliceIndexerGetter(b.factory().Discovery().V1().EndpointSlices())
	if err != nil {
		return nil, err
	}
	if b.clusterIPs, err = newClusterIPAllocator(b.loopback, b.factory(), b.o.ServiceRange); err != nil {
		return nil, err
	}
	nodePortAllocator, err := newNodePortAllocator(restOptions{logs: b.logs, factory: b.storage, encryption: b.o.Encryption})
	if err != nil {
		return nil, err
	}
	return &coreGroup{
		GenericConfig: corerest.GenericConfig{
			StorageFactory: b.storage, EventTTL: eventTTL, LoopbackClientConfig: b.loopback,
			ServiceAccountIssuer: b.issuer, APIAudiences: b.o.audiences(), Informers: b.factory(),
			ExtendExpiration: true, MaxExtendedExpiration: serviceaccount.ExpirationExtensionSeconds * time.Second,
		},
		authorizer: b.config.Authorization.Authorizer, audiences: b.o.audiences(),
		kubelet: kubelet, transport: controlplaneapiserver.CreateProxyTransport(),
		endpointSlices: slices, clusterIPs: b.clusterIPs, nodePorts: nodePortAllocator,
		addressesReady: rangesKnown(b.clusterIPs, b.factory().Networking().V1().ServiceCIDRs().Lister()),
	}, nil
}
