package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/tests/azurite"
	"github.com/zeroplane/zeroplane/tests/azurite/limits"
	"github.com/zeroplane/zeroplane/tests/functionshost"
	"github.com/zeroplane/zeroplane/tests/hosted"
	"github.com/zeroplane/zeroplane/tests/upstream"
)

const (
	// hostWakes is how often an app is woken, hostNodes its nodes, hostReplicas those of the Deployment that is priced.
	hostWakes, hostNodes, hostReplicas = 5, 3, 10
	// hostTimeout bounds what is waited for.
	hostTimeout = 2 * time.Minute
)

// Prices in US dollars, of Azure: Flex Consumption on demand, tables and queues of general purpose v2, locally redundant.
const (
	dollarsPerGBSecond  = 0.000026
	dollarsPerCall      = 0.40 / 1e6
	dollarsPerTableCall = 0.00036 / 10000
	dollarsPerQueueCall = 0.004 / 10000
	// instanceGB is the memory of an instance, as infra/azure asks for.
	instanceGB = 0.5
)

// hosts is a function app on the stand-in for the Functions host, whose calls to the storage account are counted.
type hosts struct {
	*functionshost.Host
	hosted.Admin
	tables *limits.Transport
	queues atomic.Int64
	stops  hosted.Stops
}

// measureHosts measures how long an app takes to answer from no instance, and what a Deployment costs on it.
func measureHosts(ctx context.Context, p platform, _ sizes) (values []value, err error) {
	h, err := startHosts(ctx, p.(*zeroplanePlatform).binary)
	defer h.stops.Stop()
	if err != nil {
		return nil, err
	}
	wake, err := h.wake(ctx)
	if err != nil {
		return nil, err
	}
	cost, err := h.cost(ctx)
	return append([]value{{name: "function app: first object from no instance, its start included", unit: "ms", amount: wake, ask: ask{amount: 400}}}, cost...), err
}

func startHosts(ctx context.Context, binary string) (*hosts, error) {
	h := &hosts{tables: limits.New(nil, limits.Options{RowsPerSecond: -1})}
	dir, err := os.MkdirTemp("", "bench-hosts-")
	if err != nil {
		return h, err
	}
	h.stops = append(h.stops, func() { _ = os.RemoveAll(dir) })
	tables, err := h.account(azurite.Run, func(u *url.URL) http.Handler { return h.tables.Proxy(u) })
	if err != nil {
		return h, err
	}
	queues, err := h.account(azurite.RunQueues, h.countQueues)
	if err != nil {
		return h, err
	}
	root, err := upstream.Root()
	if err != nil {
		return h, err
	}
	h.Host, err = functionshost.Start(functionshost.Options{
		Binary: binary, App: filepath.Join(root, "functions"), Dir: dir, Idle: time.Hour, Tables: tables, Queues: queues,
	})
	if err != nil {
		return h, err
	}
	h.stops = append(h.stops, h.Stop)
	if h.Admin, err = hosted.Enter(ctx, binary, dir, h.Environment()); err != nil {
		return h, err
	}
	return h, h.AddNodes(ctx, hostNodes)
}

// account starts a storage service behind what counts its calls.
func (h *hosts) account(run func() (*azurite.Server, error), count func(*url.URL) http.Handler) (*azurite.Server, error) {
	server, err := run()
	if err != nil {
		return nil, err
	}
	h.stops = append(h.stops, server.Stop)
	endpoint, err := url.Parse(server.Endpoint)
	if err != nil {
		return nil, err
	}
	proxy := httptest.NewServer(count(endpoint))
	h.stops = append(h.stops, proxy.Close)
	return &azurite.Server{Endpoint: proxy.URL + endpoint.Path}, nil
}

// countQueues passes calls on to a queue service, and counts those that do not only ask for messages: that the host does.
func (h *hosts) countQueues(endpoint *url.URL) http.Handler {
	to := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = endpoint.Scheme, endpoint.Host, endpoint.Host
	}}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet {
			h.queues.Add(1)
		}
		to.ServeHTTP(w, req)
	})
}

// wake returns the median time in milliseconds of the first answer from no instance.
func (h *hosts) wake(ctx context.Context) (float64, error) {
	return median(hostWakes, func(int) (time.Duration, error) {
		if err := h.sleep(ctx); err != nil {
			return 0, err
		}
		return timed(func() error {
			_, err := h.Client.CoreV1().Nodes().Get(ctx, "node-0", metav1.GetOptions{})
			return err
		})
	})
}

// sleep ends all instances.
func (h *hosts) sleep(ctx context.Context) error {
	for deadline := time.Now().Add(hostTimeout); !h.ScaleToZero(); {
		if time.Now().After(deadline) {
			return errors.New("the app does not scale to zero")
		}
		if err := letPass(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return letPass(ctx, time.Second)
}

// usage is what an app has used.
type usage struct {
	transactions, queries, queues, calls, batches float64
	spent                                         time.Duration
}

func (h *hosts) usage(ctx context.Context) (usage, error) {
	c := h.tables.Counts()
	u := usage{transactions: float64(c.Transactions), queries: float64(c.Requests - c.Transactions), queues: float64(h.queues.Load()), spent: h.Spent()}
	for _, n := range h.Calls() {
		u.calls += float64(n)
	}
	text, err := h.Client.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	for _, m := range batchLine.FindAllSubmatch(text, -1) {
		n, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return u, err
		}
		u.batches += n
	}
	return u, err
}

var batchLine = regexp.MustCompile(`(?m)^zeroplane_batches_total\{.*\} (\S+)$`)

// cost is what a Deployment takes from its creation until its pods run and nothing is left to do.
func (h *hosts) cost(ctx context.Context) ([]value, error) {
	if _, err := h.Client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{}); err != nil {
		return nil, err
	}
	if err := letPass(ctx, 3*time.Second); err != nil { // what was begun ends
		return nil, err
	}
	before, err := h.usage(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := h.Client.AppsV1().Deployments(namespace).Create(ctx, hosted.Deployment(hostReplicas), metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	if err := letPass(ctx, 5*time.Second); err != nil { // nobody asks meanwhile: that would be counted
		return nil, err
	}
	after, err := h.usage(ctx)
	if err != nil {
		return nil, err
	}
	list, err := h.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
	if err != nil || len(list.Items) != hostReplicas {
		return nil, fmt.Errorf("%d pods run after 5 s: %w", len(list.Items), err)
	}
	u := usage{
		transactions: after.transactions - before.transactions, queries: after.queries - before.queries, queues: after.queues - before.queues,
		calls: after.calls - before.calls, batches: after.batches - before.batches, spent: after.spent - before.spent,
	}
	dollars := u.spent.Seconds()*instanceGB*dollarsPerGBSecond + u.calls*dollarsPerCall + (u.transactions+u.queries)*dollarsPerTableCall + u.queues*dollarsPerQueueCall
	name := fmt.Sprintf("function app, a Deployment of %d replicas until they run: ", hostReplicas)
	return []value{
		{name: name + "table transactions", unit: "", amount: u.transactions},
		{name: name + "table queries", unit: "", amount: u.queries},
		{name: name + "queue calls", unit: "", amount: u.queues},
		{name: name + "calls of functions", unit: "", amount: u.calls},
		{name: name + "time of calls", unit: "ms", amount: float64(u.spent.Milliseconds())},
		{name: name + "transactions for each batch", unit: "", amount: u.transactions / max(u.batches, 1), ask: ask{amount: 5}},
		{name: name + "price of a million", unit: "$", amount: 1e6 * dollars},
	}, nil
}
