package localhost

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/doorbell"
	"github.com/zeroplane/zeroplane/adapters/oidc"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/pebble"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/adapters/webhook"
	"github.com/zeroplane/zeroplane/core/nodeipam"
	"github.com/zeroplane/zeroplane/core/scheduling"
)

const (
	// stopTimeout is how long requests may go on after the host was told to stop. Watches end then.
	stopTimeout = 5 * time.Second
	// headerTimeout bounds how long a client may take to send a request's header.
	headerTimeout = 32 * time.Second
	// maxStreams of one HTTP/2 connection, as kube-apiserver's.
	maxStreams   = 250
	clustersPath = "/clusters/"
	// eventsPath is where a cluster takes CloudEvents.
	eventsPath = "/events"
	httpsPort  = 443
)

// Options of the host.
type Options struct {
	// Listen address, host and port; port 0 takes a free one.
	Listen string
	// Data directory.
	Data string
	// Kubeconfig file to write, for the default cluster.
	Kubeconfig string
	// SimulateNodes of the default cluster.
	SimulateNodes int
	// PodRanges are the ranges from which nodes get theirs; none to leave nodes as they come.
	PodRanges []nodeipam.Range
	// MaxAwake clusters are kept in memory while they rest.
	MaxAwake int
	// CacheBytes bounds the memory that the objects of all clusters take, as estimated; 0 for no bound.
	CacheBytes int64
	// EncryptionConfig is a file with upstream's EncryptionConfiguration, which says what is encrypted in the
	// store and how; empty for nothing.
	EncryptionConfig string
	// Authentication says which tokens are accepted beside the clusters' own, and who is anonymous; nil for none and all.
	Authentication *oidc.Config
	// Profiles say how pods are placed, by the scheduler that they name; none for upstream's default.
	Profiles []scheduling.Profile
	// Store of everything. Without one, an embedded store in the data directory is opened.
	Store Store
	// Front is set for a host that others listen for (OpenBehind): Listen, Data, Kubeconfig and SimulateNodes mean
	// nothing then.
	Front Front
	// Bells, if set, carry events to whoever runs when this process may not any more.
	Bells Bells
	// Deliver, if set, has the functions of this process hear of a commit, by calling hear, and may send the event
	// elsewhere. It does not wait. Without it they hear at once.
	Deliver func(e cloudevents.Event, hear func(cloudevents.Event))
	// Pushes, if set, tells other instances at once of what is written here, and of what this one leaves when it ends
	// (push.go). What it loses is found without it.
	Pushes Publisher
	// Stream, if set, gets an event of each log that moves, for whoever wants to know.
	Stream Publisher
	// KeepMemory is set where memory that a burst has left is not to be given back to the operating system, since others in this
	// process have a use for it.
	KeepMemory bool
}

// Front is what clients reach a host through.
type Front struct {
	// Address at which clients reach it by HTTPS, HOST or HOST:PORT.
	Address string
	// RootCA that signed its certificate, in PEM; empty for one that every machine trusts.
	RootCA []byte
	// LongestAnswer is how long an answer may take; watches end before. 0 for no bound but the request's deadline.
	LongestAnswer time.Duration
	// Freezes is set where nothing runs between two calls (frozen.go).
	Freezes bool
}

// Bells carry an event out of the process, not to be heard before a time. What they lose, the timer finds.
type Bells interface {
	Send(ctx context.Context, e cloudevents.Event, at time.Time) error
}

// Publisher takes events to where others get them from.
type Publisher interface {
	Publish(ctx context.Context, list []cloudevents.Event) error
}

// Store is an open store.
type Store struct {
	table.Store
	// Close is called at the end.
	Close func() error
	// Shared is set when other instances may use the store.
	Shared bool
}

// Host serves clusters on one machine.
type Host struct {
	opts  Options
	store table.Store
	close func() error
	cache *tablelog.Cache
	// encryption is nil if nothing is encrypted.
	encryption value.ResourceTransformers
	// issuers are those whose tokens all clusters accept.
	issuers *oidc.Issuers
	// instance tells this process from others on a shared store, empty if there are none.
	instance string
	pki      *pki
	// rootCA signed the certificate that clients see, in PEM.
	rootCA   []byte
	maker    cluster.Maker
	clusters *clusters
	listener net.Listener
	address  string
	http     *http.Server
	memory   memory
	// watches ends requests that have no end of their own.
	watches    context.Context //nolint:containedctx // until the host is told to stop
	endWatches func()
	// pushes and stream are nil where nothing is sent.
	pushes, stream *doorbell.Gather
}

// Open makes the default cluster if there is none, and listens. It fails with pebble.ErrLocked, or with
// table.ErrCorrupt. It closes the store if it fails.
func Open(ctx context.Context, o Options) (*Host, error) {
	go apiserver.Warm()
	if o.Store.Store == nil {
		db, err := pebble.Open(filepath.Join(o.Data, "store"))
		if err != nil {
			return nil, err
		}
		o.Store = Store{Store: db, Close: db.Close}
	}
	h := newHost(o)
	if err := h.open(ctx); err != nil {
		h.endWatches()
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// OpenBehind opens a host whose requests Handler is given. It asks nothing of the store: the default cluster is
// made when it is first asked for. It closes the store if it fails.
func OpenBehind(o Options) (*Host, error) {
	h := newHost(o)
	if err := h.openBehind(); err != nil {
		h.endWatches()
		return nil, errors.Join(err, h.close())
	}
	openCaches.add(h.cache)
	return h, nil
}

func (h *Host) openBehind() (err error) {
	host, number := h.opts.Front.Address, httpsPort
	if name, port, err := net.SplitHostPort(host); err == nil {
		if number, err = strconv.Atoi(port); err != nil {
			return fmt.Errorf("the port of %q: %w", host, err)
		}
		host = name
	}
	h.address, h.rootCA = net.JoinHostPort(host, strconv.Itoa(number)), h.opts.Front.RootCA
	key, err := sealKeyFromEnv()
	if err != nil {
		return err
	}
	seal, err := cluster.NewSeal(key)
	if err != nil {
		return err
	}
	if h.encryption, err = loadEncryption(h.watches, h.opts.EncryptionConfig); err != nil {
		return err
	}
	h.assemble(seal, host, number)
	return nil
}

// Kubeconfig returns the admin's kubeconfig of the default cluster.
func (h *Host) Kubeconfig(ctx context.Context) ([]byte, error) { return h.ensureDefault(ctx) }

// Handler answers requests of clients.
func (h *Host) Handler() http.Handler { return http.HandlerFunc(h.route) }

// Close ends the clusters and the store. Requests must have ended.
func (h *Host) Close() error {
	h.endWatches()
	h.clusters.close()
	h.pushes.Close()
	h.stream.Close()
	openCaches.remove(h.cache)
	h.memory.stop()
	return h.close()
}

func newHost(o Options) *Host {
	h := &Host{
		opts: o, store: metering{o.Store.Store}, close: o.Store.Close, cache: tablelog.NewCache(o.CacheBytes), issuers: oidc.New(o.Authentication, time.Now),
	}
	h.maker.Registry.Store = h.store
	h.watches, h.endWatches = context.WithCancel(context.Background())
	if o.Store.Shared {
		h.instance = strconv.FormatUint(uint64(rand.Uint32()), 16) //nolint:gosec // a name, no secret
	}
	h.pushes, h.stream = h.newPushes(), h.newStream()
	return h
}

// assemble makes what serves clusters, at the address at which pods reach it.
func (h *Host) assemble(seal cluster.Seal, host string, port int) {
	h.maker = cluster.Maker{
		Registry: cluster.Registry{Store: h.store}, Seal: seal, Host: host, Port: port, RootCA: h.rootCA, Shared: h.opts.Store.Shared,
		Encryption: h.encryption,
	}
	h.clusters = newClusters(h, h.opts.MaxAwake)
	h.memory.trim, h.memory.used = h.clusters.trim, h.clusters.used
}

func (h *Host) open(ctx context.Context) (err error) {
	if h.listener, err = net.Listen("tcp", h.opts.Listen); err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	host, port, err := net.SplitHostPort(h.listener.Addr().String())
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	h.address = net.JoinHostPort(host, port)
	if h.encryption, err = loadEncryption(h.watches, h.opts.EncryptionConfig); err != nil {
		return err
	}
	_, err = h.maker.Registry.Get(ctx, cluster.Default)
	key, err := sealKey(h.opts.Data, errors.Is(err, cluster.ErrNotFound))
	if err != nil {
		return err
	}
	seal, err := cluster.NewSeal(key)
	if err != nil {
		return err
	}
	if h.pki, err = h.loadPKI(ctx, seal, host); err != nil {
		return err
	}
	h.rootCA = h.pki.caPEM
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	h.assemble(seal, host, number)
	before := time.Now() // what nobody else can be at is swept at once
	if h.opts.Store.Shared {
		before = before.Add(-sweepAfter)
	}
	if err := h.maker.Sweep(ctx, before); err != nil {
		return err
	}
	config, err := h.ensureDefault(ctx)
	if err != nil {
		return err
	}
	return WriteSecret(h.opts.Kubeconfig, config)
}

// loadEncryption reads an EncryptionConfiguration as kube-apiserver does. Plugins for a KMS are asked how they are
// until the context ends; nothing else runs.
func loadEncryption(ctx context.Context, file string) (value.ResourceTransformers, error) {
	if file == "" {
		return nil, nil
	}
	c, err := encryptionconfig.LoadEncryptionConfig(ctx, file, false, "zeroplane")
	if err != nil {
		return nil, fmt.Errorf("--encryption-provider-config %s: %w", file, err)
	}
	return encryptionconfig.StaticTransformers(c.Transformers), nil
}

// loadPKI returns the host's CA, from the store if others share it, and a certificate of its own.
func (h *Host) loadPKI(ctx context.Context, seal cluster.Seal, host string) (*pki, error) {
	if h.opts.Store.Shared {
		return sharedPKI(ctx, h.store, seal, []string{host})
	}
	return loadPKI(h.opts.Data, []string{host})
}

// ensureDefault makes the default cluster if there is none, and returns its kubeconfig.
func (h *Host) ensureDefault(ctx context.Context) ([]byte, error) {
	info, made, err := h.findOrMake(ctx, cluster.Default)
	if err != nil {
		return nil, err
	}
	if made {
		h.announce(ctx, cluster.Default)
	}
	keys, err := h.unseal(info)
	if err != nil {
		return nil, err
	}
	return h.kubeconfig(info, keys)
}

// find returns a cluster from the registry, for who wakes it. The default one is made if there is none.
func (h *Host) find(ctx context.Context, name string) (cluster.Info, error) {
	info, made, err := h.findOrMake(ctx, name)
	if made && h.opts.Front.Freezes { // what wakes it here does not run its functions
		h.announce(ctx, name)
	}
	return info, err
}

func (h *Host) findOrMake(ctx context.Context, name string) (info cluster.Info, made bool, err error) {
	info, err = h.maker.Registry.Get(ctx, name)
	if name != cluster.Default || !errors.Is(err, cluster.ErrNotFound) {
		return info, false, err
	}
	if info, _, err = h.create(ctx, name); errors.Is(err, cluster.ErrExists) { // another instance was first
		info, err = h.maker.Registry.Get(ctx, name)
		return info, false, err
	}
	return info, err == nil, err
}

// unseal returns a cluster's keys.
func (h *Host) unseal(info cluster.Info) (cluster.Keys, error) {
	keys, err := h.maker.Seal.Open(info)
	if err != nil {
		err = fmt.Errorf("%w: put the file seal.key back, or set %s to the key that the data was made with", err, SealKeyEnv)
	}
	return keys, err
}

// kubeconfig returns the admin's kubeconfig of a cluster.
func (h *Host) kubeconfig(info cluster.Info, keys cluster.Keys) ([]byte, error) {
	name := "zeroplane"
	if info.Name != cluster.Default {
		name += "-" + info.Name
	}
	c := clientcmdapi.NewConfig()
	c.Clusters[name] = &clientcmdapi.Cluster{Server: "https://" + h.address + cluster.PathPrefix(info.Name), CertificateAuthorityData: h.rootCA}
	c.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: keys.AdminToken}
	c.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	c.CurrentContext = name
	out, err := clientcmd.Write(*c)
	if err != nil {
		return nil, fmt.Errorf("writing a kubeconfig: %w", err)
	}
	return out, nil
}

// Address at which the host serves.
func (h *Host) Address() string { return h.address }

// Serve serves until the context ends. Ready is called when requests are answered.
func (h *Host) Serve(ctx context.Context, ready func()) error {
	base, cancel := context.WithCancel(context.Background())
	defer cancel()
	h.http = &http.Server{
		Handler:           http.HandlerFunc(h.route),
		ReadHeaderTimeout: headerTimeout,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{h.pki.serving}, MinVersion: tls.VersionTLS12,
			ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2", "http/1.1"},
		},
		HTTP2:       &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog:    log.New(discard{}, "", 0),
	}
	failed := make(chan error, 1)
	go func() { failed <- h.http.ServeTLS(h.listener, "", "") }()
	openCaches.add(h.cache)
	if err := persist(ctx, startPatience, h.start); err != nil {
		if ctx.Err() != nil { // told to stop meanwhile
			err = nil
		}
		return errors.Join(err, h.stop(cancel))
	}
	if h.opts.Store.Shared {
		go (&neighbours{host: h}).run(h.watches)
	}
	ready()
	select {
	case <-ctx.Done():
		return h.stop(cancel)
	case err := <-failed:
		return errors.Join(err, h.stop(cancel))
	}
}

// start wakes the default cluster and those with work left. It may be called again.
func (h *Host) start(ctx context.Context) error {
	a, err := h.clusters.get(ctx, cluster.Default)
	if err != nil {
		return err
	}
	defer a.leave()
	if err := h.simulateNodes(ctx, h.opts.SimulateNodes); err != nil {
		return err
	}
	return h.clusters.rouseDirty(ctx)
}

// stop ends requests, functions and the store, in this order. Requests that are under way are answered,
// unless that takes too long; watches are ended.
func (h *Host) stop(endRequests func()) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	h.endWatches()
	err := h.http.Shutdown(ctx)
	endRequests()
	if errors.Is(err, context.DeadlineExceeded) {
		err = h.http.Close()
	}
	return errors.Join(err, h.Close())
}

// route sends a request to its cluster: the bare path is the default one's.
func (h *Host) route(w http.ResponseWriter, req *http.Request) {
	name := cluster.Default
	if rest, ok := strings.CutPrefix(req.URL.Path, clustersPath); ok {
		var path string
		name, path, _ = strings.Cut(rest, "/")
		req.URL.Path, req.URL.RawPath = "/"+path, ""
		req.RequestURI = req.URL.RequestURI()
	}
	if req.Method == http.MethodOptions && req.URL.Path == eventsPath {
		webhook.Handshake(w, req)
		return
	}
	if req.URL.Path == eventsPath && !webhook.Buffer(w, req) {
		return
	}
	a, err := h.clusters.get(req.Context(), name)
	if err != nil {
		h.refuse(w, name, err)
		return
	}
	defer func() {
		if a.leave() && h.clusters.excess() && !h.opts.Front.Freezes {
			go h.clusters.sleepExcess() // the answer does not wait for it
		}
	}()
	if h.opts.Front.Freezes {
		defer h.ringOwed(a)
		w = &frozenWriter{ResponseWriter: w, ring: func() { h.ringOwed(a) }}
	}
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	life := a.requests
	if endless(req) {
		life = a.watches
		h.bound(req)
	}
	defer context.AfterFunc(life, cancel)()
	a.server.ServeHTTP(w, req.WithContext(ctx))
}

// endsBefore is how long before the front would cut an answer a watch ends by itself.
const endsBefore = 15 * time.Second

// bound has a watch end, with a bookmark, before the front would cut it off.
func (h *Host) bound(req *http.Request) {
	longest := h.opts.Front.LongestAnswer
	if deadline, ok := req.Context().Deadline(); ok && (longest == 0 || time.Until(deadline) < longest) {
		longest = time.Until(deadline)
	}
	q := req.URL.Query()
	if watch, err := strconv.ParseBool(q.Get("watch")); longest == 0 || err != nil || !watch {
		return
	}
	longest = max(longest-endsBefore, time.Second)
	if asked, err := strconv.Atoi(q.Get("timeoutSeconds")); err == nil && asked > 0 && time.Duration(asked)*time.Second <= longest {
		return
	}
	q.Set("timeoutSeconds", strconv.Itoa(int(longest.Seconds())))
	req.URL.RawQuery = q.Encode()
	req.RequestURI = req.URL.RequestURI()
}

// endless reports whether a request has no end of its own: a watch, or a connection to a container.
func endless(req *http.Request) bool {
	path := req.URL.Path
	if strings.Contains(path, "/watch/") || strings.Contains(path, "/proxy/") {
		return true
	}
	switch path[strings.LastIndexByte(path, '/')+1:] {
	case "exec", "attach", "log", "portforward", "proxy":
		return true
	}
	if !strings.Contains(req.URL.RawQuery, "watch") {
		return false
	}
	watch, _ := strconv.ParseBool(req.URL.Query().Get("watch"))
	return watch
}

// discard drops what the HTTP server says of clients that hang up.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
