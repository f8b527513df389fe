// Package functionshost stands in for the Azure Functions host: it reads the app's own host.json and function.json
// files, starts handlers when there is something to do, speaks the contract of custom handlers with them, and ends
// them when there is not. What it imitates of the service is in DESIGN.md, section 2:
//
//   - TLS ends at the front end, which says in headers who asked; answers are cut at 230 s; HTTP functions are proxied;
//   - a handler is ready when it answers HTTP at the port that FUNCTIONS_CUSTOMHANDLER_PORT names;
//   - other triggers call POST /FUNCTION with an envelope in which a queue message is JSON encoded twice, and take
//     any answer but a 200 with an outcome for a failure;
//   - HTTP functions share instances; every other function has instances of its own;
//   - a queue is polled, ever less often while it is empty; a message is leased, comes again after a failure, and is
//     poison after maxDequeueCount deliveries.
package functionshost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue"

	"github.com/zeroplane/zeroplane/tests/azurite"
	"github.com/zeroplane/zeroplane/tests/hosted"
)

// Options of a host.
type Options struct {
	// Binary is the handler's executable, which the app names by a path inside its package.
	Binary string
	// App is the folder with host.json.
	App string
	// Dir gets the handlers' logs and the CA of the front end.
	Dir string
	// Idle is how long an instance without a call lives on. The service's is minutes.
	Idle time.Duration
	// HTTPInstances at most serve HTTP; calls go to each in turn. One, if 0.
	HTTPInstances int
	// Cut is when answers are cut, 230 s if 0.
	Cut time.Duration
	// Environment of the handlers, beside what the host sets.
	Environment []string
	// Tables and Queues of the storage account.
	Tables, Queues *azurite.Server
	// Through is what calls to the account of a Cluster pass.
	Through hosted.Through
	// Kill ends idle instances with SIGKILL instead of asking them.
	Kill bool
}

// Host is a running host.
type Host struct {
	// Address of the front end, HOST:PORT.
	Address string

	o      Options
	app    *app
	front  *hosted.Front
	ctx    context.Context //nolint:containedctx // the life of the host
	cancel context.CancelFunc
	wg     sync.WaitGroup
	groups map[string]*group
	// Calls counts the calls of each function.
	mu    sync.Mutex
	calls map[string]int
	spent time.Duration
	turn  atomic.Uint64
}

// InstanceHeader of a request names the one that serves it, such as http-1, instead of the next in turn.
const InstanceHeader = "X-Stand-In-Instance"

const functionsCut = 230 * time.Second

// Start starts a host without any instance.
func Start(o Options) (*Host, error) {
	a, err := loadApp(o.App)
	if err != nil {
		return nil, err
	}
	if o.Cut == 0 {
		o.Cut = functionsCut
	}
	o.HTTPInstances = max(o.HTTPInstances, 1)
	h := &Host{o: o, app: a, groups: map[string]*group{}, calls: map[string]int{}}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	if h.front, err = hosted.StartFront(http.HandlerFunc(h.serveHTTP), o.Dir); err != nil {
		return nil, err
	}
	h.Address = h.front.Address
	for i := range o.HTTPInstances {
		name := fmt.Sprint("http-", i)
		h.groups[name] = &group{host: h, name: name}
	}
	for name, b := range a.functions {
		if b.Type == "httpTrigger" {
			continue
		}
		h.groups[name] = &group{host: h, name: name}
		if b.Type == "queueTrigger" {
			h.wg.Go(func() { h.poll(name, b) })
		}
	}
	return h, nil
}

// Environment is what handlers are started with, and what tools need to find the clusters' table.
func (h *Host) Environment() []string {
	own := append(h.front.Environment(), "AZURE_STORAGE_CONNECTION_STRING="+h.connectionString())
	return append(own, h.o.Environment...)
}

func (h *Host) connectionString() string {
	return fmt.Sprintf("%sQueueEndpoint=%s", h.o.Tables.ConnectionString(), h.o.Queues.Endpoint)
}

// Stop ends everything.
func (h *Host) Stop() {
	h.cancel()
	h.front.Stop()
	h.wg.Wait()
	for _, g := range h.groups {
		g.end()
	}
}

// Calls is how often each function was called.
func (h *Host) Calls() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.calls)
}

func (h *Host) count(function string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls[function]++
}

// Spent is how long calls took together.
func (h *Host) Spent() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.spent
}

// since adds to what calls took.
func (h *Host) since(began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.spent += time.Since(began)
}

// Instances is how many handlers run.
func (h *Host) Instances() int {
	n := 0
	for _, g := range h.groups {
		if g.running() {
			n++
		}
	}
	return n
}

// ScaleToZero ends every instance that is not at a call, and reports whether none is left.
func (h *Host) ScaleToZero() bool {
	left := false
	for _, g := range h.groups {
		left = !g.endIdle() || left
	}
	return !left
}

// End ends one instance, such as http-1, and reports whether it was not at a call.
func (h *Host) End(name string) bool { return h.groups[name].endIdle() }

// serveHTTP is the front end.
func (h *Host) serveHTTP(w http.ResponseWriter, req *http.Request) {
	h.count("http")
	defer h.since(time.Now())
	g := h.groups[req.Header.Get(InstanceHeader)]
	if g == nil {
		g = h.groups[fmt.Sprint("http-", h.turn.Add(1)%uint64(h.o.HTTPInstances))] //nolint:gosec // positive
	}
	in, err := g.enter(req.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer g.leave()
	ctx, cancel := context.WithTimeout(req.Context(), h.o.Cut)
	defer cancel()
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(in)
			p.SetXForwarded()
			p.Out.Host = p.In.Host
			p.Out.Header.Set("X-Original-Url", p.In.URL.RequestURI())
			p.Out.Header.Set("X-Azure-Functions-Invocationid", "http")
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	proxy.ServeHTTP(w, req.WithContext(ctx))
}

// errRefused is a call that the handler did not do.
var errRefused = errors.New("the handler refused the call")

// call calls a function whose trigger is not HTTP.
func (h *Host) call(ctx context.Context, function string, data, metadata map[string]any) error {
	h.count(function)
	defer h.since(time.Now())
	g := h.groups[function]
	in, err := g.enter(ctx)
	if err != nil {
		return err
	}
	defer g.leave()
	metadata["sys"] = map[string]any{"MethodName": function, "UtcNow": time.Now().UTC(), "RandGuid": "00000000-0000-0000-0000-000000000000"}
	body, err := json.Marshal(map[string]any{"Data": data, "Metadata": metadata})
	if err != nil {
		return err
	}
	return post(ctx, in.JoinPath(function), body)
}

// Tick calls the timer's function.
func (h *Host) Tick(ctx context.Context) error {
	for name, b := range h.app.functions {
		if b.Type == "timerTrigger" {
			now := time.Now().UTC()
			return h.call(ctx, name, map[string]any{b.Name: map[string]any{
				"Schedule": map[string]any{"AdjustForDST": true}, "IsPastDue": false,
				"ScheduleStatus": map[string]any{"Last": now.Add(-5 * time.Minute), "Next": now.Add(5 * time.Minute), "LastUpdated": now},
			}}, map[string]any{})
		}
	}
	return errors.New("the app has no timer")
}

// Publish calls the function of the Event Grid trigger with an event.
func (h *Host) Publish(ctx context.Context, event any) error {
	for name, b := range h.app.functions {
		if b.Type == "eventGridTrigger" {
			return h.call(ctx, name, map[string]any{b.Name: event}, map[string]any{"data": event})
		}
	}
	return errors.New("the app has no Event Grid trigger")
}

// queue is a client of one of the account's queues.
func (h *Host) queue(name string) (*azqueue.QueueClient, error) {
	return azqueue.NewQueueClientFromConnectionString(h.connectionString(), name, nil)
}

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}
