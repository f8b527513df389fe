package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/zeroplane/zeroplane/tests/azurite/limits"
	"github.com/zeroplane/zeroplane/tests/eventgrid"
	"github.com/zeroplane/zeroplane/tests/functionshost"
	"github.com/zeroplane/zeroplane/tests/hosted"
	"github.com/zeroplane/zeroplane/tests/lambdahost"
)

const (
	// hostWakes is how often a host is woken, hostNodes its nodes, hostReplicas those of the Deployment that is priced.
	hostWakes, hostNodes, hostReplicas = 5, 3, 10
	// hostTimeout bounds what is waited for.
	hostTimeout = 2 * time.Minute
	// hostSettle is how long what was begun may take to end, hostWork how long a Deployment may while nobody asks.
	hostSettle, hostWork = 3 * time.Second, 5 * time.Second
)

// Prices in US dollars, by the list of the first region.
const (
	// Azure Functions, Flex Consumption on demand (https://azure.microsoft.com/pricing/details/functions/): a call is a
	// second at least.
	functionGBSecond, functionCall = 0.000026, 0.40 / 1e6
	functionLeast                  = time.Second
	// functionGB is the memory of an instance, as infra/azure asks for.
	functionGB = 0.5
	// tableCall is of a table of a general purpose v2 account, locally redundant
	// (https://azure.microsoft.com/pricing/details/storage/tables/), queueCall of a queue of it
	// (https://azure.microsoft.com/pricing/details/storage/queues/).
	tableCall, queueCall = 0.00036 / 10000, 0.004 / 10000
	// gridOperation is of a custom topic: an event that comes, and an attempt to deliver one
	// (https://azure.microsoft.com/pricing/details/event-grid/).
	gridOperation = 0.60 / 1e6
	// AWS Lambda on x86 (https://aws.amazon.com/lambda/pricing/), with the memory that infra/aws asks for.
	lambdaGBSecond, lambdaCall, lambdaGB = 0.0000166667, 0.20 / 1e6, 1.0
	// sqsCall is of a standard queue (https://aws.amazon.com/sqs/pricing/).
	sqsCall = 0.40 / 1e6
)

// prices of a host.
type prices struct {
	gbSecond, gb, call, queueCall float64
	// least is how long a call is billed at least.
	least time.Duration
}

// host is a stand-in for one, whose calls to the storage account are counted.
type host struct {
	hosted.Admin
	standIn
	// label begins the names of its figures, queue names its queue.
	label, queue string
	prices       prices
	tables       *limits.Transport
	// used are the calls to the queue and of functions, and the time of those.
	used  func() usage
	stops hosted.Stops
	// grid is what pushes, on a function app.
	grid *eventgrid.Service
}

// standIn is what both stand-ins have.
type standIn interface {
	ScaleToZero() bool
	Environment() []string
}

// usage is what a host has used.
type usage struct {
	transactions, queries, queues, calls, batches float64
	spent                                         time.Duration
}

func (u usage) minus(v usage) usage {
	return usage{
		transactions: u.transactions - v.transactions, queries: u.queries - v.queries, queues: u.queues - v.queues,
		calls: u.calls - v.calls, batches: u.batches - v.batches, spent: u.spent - v.spent,
	}
}

// billed is how long calls are billed for.
func (p prices) billed(u usage) time.Duration {
	return max(u.spent, time.Duration(u.calls)*p.least)
}

// dollars is what was used costs.
func (p prices) dollars(u usage) float64 {
	return p.billed(u).Seconds()*p.gb*p.gbSecond + u.calls*p.call + (u.transactions+u.queries)*tableCall + u.queues*p.queueCall
}

// measureHosts measures how long hosts take to answer from no instance, what a Deployment costs on them, and how long
// each way of ringing takes.
func measureHosts(ctx context.Context, p platform, _ sizes) (values []value, err error) {
	for _, start := range []func(context.Context, string) (*host, error){startFunctions, startLambda} {
		more, err := measureHost(ctx, p.(*zeroplanePlatform).binary, start)
		if err != nil {
			return nil, err
		}
		values = append(values, more...)
	}
	return values, nil
}

func measureHost(ctx context.Context, binary string, start func(context.Context, string) (*host, error)) (values []value, err error) {
	h, err := start(ctx, binary)
	if err != nil {
		return nil, err
	}
	defer h.stops.Stop()
	for _, measure := range []func(context.Context) ([]value, error){h.wake, h.cost, h.rollout, h.bells} {
		more, err := measure(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.label, err)
		}
		values = append(values, more...)
	}
	return values, nil
}

func newHost(label, queue string) (*host, string, error) {
	h := &host{label: label, queue: queue, tables: limits.New(nil, limits.Options{RowsPerSecond: -1})}
	dir, err := os.MkdirTemp("", "bench-hosts-")
	h.stops = append(h.stops, func() { _ = os.RemoveAll(dir) })
	return h, dir, err
}

// startFunctions starts a function app that pushes bells.
func startFunctions(ctx context.Context, binary string) (*host, error) {
	h, dir, err := newHost("function app", "queue calls")
	if err != nil {
		return nil, err
	}
	h.prices = prices{gbSecond: functionGBSecond, gb: functionGB, call: functionCall, queueCall: queueCall, least: functionLeast}
	h.grid = eventgrid.Start()
	h.stops = append(h.stops, h.grid.Stop)
	var queues atomic.Int64
	c, err := functionshost.StartCluster(ctx, functionshost.Options{
		Binary: binary, Dir: dir, Idle: time.Hour, Environment: []string{"ZEROPLANE_EVENTGRID_TOPIC=" + h.grid.Topic(), "ZEROPLANE_EVENTGRID_KEY=" + eventgrid.Key},
		Through: hosted.Through{Tables: h.tables.Proxy, Queues: func(u *url.URL) http.Handler { return countQueues(&queues, u) }},
	}, hostNodes)
	if err != nil {
		h.stops.Stop()
		return nil, err
	}
	h.stops = append(h.stops, c.Stop)
	h.Admin, h.standIn = c.Admin, c.Host
	h.used = func() usage { return usage{queues: float64(queues.Load()), calls: sum(c.Calls()), spent: c.Spent()} }
	return h, nil
}

// startLambda starts a stack on Lambda.
func startLambda(ctx context.Context, binary string) (*host, error) {
	h, dir, err := newHost("Lambda", "SQS calls")
	if err != nil {
		return nil, err
	}
	h.prices = prices{gbSecond: lambdaGBSecond, gb: lambdaGB, call: lambdaCall, queueCall: sqsCall}
	c, err := lambdahost.StartCluster(ctx, lambdahost.Options{Binary: binary, Dir: dir, Through: hosted.Through{Tables: h.tables.Proxy}}, hostNodes)
	if err != nil {
		h.stops.Stop()
		return nil, err
	}
	h.stops = append(h.stops, c.Stop)
	h.Admin, h.standIn = c.Admin, c.Host
	h.used = func() usage {
		calls := c.Calls()
		return usage{queues: float64(c.QueueCalls()), calls: float64(calls["url"] + calls["sqs"] + calls["schedule"] + calls["rule"]), spent: c.Billed()}
	}
	return h, nil
}

func sum(counts map[string]int) (n float64) {
	for _, c := range counts {
		n += float64(c)
	}
	return n
}

// countQueues passes calls on to a queue service, and counts those that do not only ask for messages: that the host does.
func countQueues(n *atomic.Int64, endpoint *url.URL) http.Handler {
	to := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = endpoint.Scheme, endpoint.Host, endpoint.Host
	}}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet {
			n.Add(1)
		}
		to.ServeHTTP(w, req)
	})
}

// wake is the median time of the first answer from no instance.
func (h *host) wake(ctx context.Context) ([]value, error) {
	took, err := median(hostWakes, func(int) (time.Duration, error) {
		if err := h.sleep(ctx); err != nil {
			return 0, err
		}
		return timed(func() error {
			_, err := h.Client.CoreV1().Nodes().Get(ctx, "node-0", metav1.GetOptions{})
			return err
		})
	})
	return []value{{name: h.label + ": first object from no instance, its start included", unit: "ms", amount: took, ask: ask{amount: 400}}}, err
}

// sleep ends all instances.
func (h *host) sleep(ctx context.Context) error {
	for deadline := time.Now().Add(hostTimeout); !h.ScaleToZero(); {
		if time.Now().After(deadline) {
			return errors.New("it does not scale to zero")
		}
		if err := letPass(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return letPass(ctx, time.Second)
}

// usage is what was used so far. To ask for the batches is a request too.
func (h *host) usage(ctx context.Context) (usage, error) {
	c := h.tables.Counts()
	u := h.used()
	u.transactions, u.queries = float64(c.Transactions), float64(c.Requests-c.Transactions)
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
func (h *host) cost(ctx context.Context) ([]value, error) {
	if _, err := h.Client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{}); err != nil {
		return nil, err
	}
	if err := letPass(ctx, hostSettle); err != nil {
		return nil, err
	}
	asked, err := h.asking(ctx)
	if err != nil {
		return nil, err
	}
	before, err := h.usage(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := h.Client.AppsV1().Deployments(namespace).Create(ctx, hosted.Deployment(hostReplicas), metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	if err := letPass(ctx, hostWork); err != nil { // nobody asks meanwhile: that would be counted
		return nil, err
	}
	after, err := h.usage(ctx)
	if err != nil {
		return nil, err
	}
	list, err := h.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
	if err != nil || len(list.Items) != hostReplicas {
		return nil, fmt.Errorf("%d pods run after %s: %w", len(list.Items), hostWork, err)
	}
	return h.costs(after.minus(before).minus(asked)), nil
}

// asking is what it uses itself to ask for what was used.
func (h *host) asking(ctx context.Context) (usage, error) {
	before, err := h.usage(ctx)
	if err != nil {
		return before, err
	}
	after, err := h.usage(ctx)
	u := after.minus(before)
	u.batches = 0
	return u, err
}

// costs are the figures of what a Deployment used.
func (h *host) costs(u usage) []value {
	name := fmt.Sprintf("%s, a Deployment of %d replicas until they run: ", h.label, hostReplicas)
	values := []value{
		{name: name + "table transactions", unit: "", amount: u.transactions},
		{name: name + "table queries", unit: "", amount: u.queries},
		{name: name + h.queue, unit: "", amount: u.queues},
		{name: name + "calls of functions", unit: "", amount: u.calls},
		{name: name + "time of calls", unit: "ms", amount: float64(u.spent.Milliseconds())},
		{name: name + "billed", unit: "GB-s", amount: h.prices.billed(u).Seconds() * h.prices.gb},
		{name: name + "price of a million", unit: "$", amount: 1e6 * h.prices.dollars(u)},
	}
	if u.batches > 0 { // by one instance that did all the work
		values = append(values, value{name: name + "transactions for each batch", unit: "", amount: u.transactions / u.batches, ask: ask{amount: 5}})
	}
	return values
}

// rollout is how long a Deployment takes until its pods run, as a watch of them sees it.
func (h *host) rollout(ctx context.Context) ([]value, error) {
	const name = "watched"
	pods, err := h.Client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
	if err != nil {
		return nil, err
	}
	defer pods.Stop()
	d := hosted.Deployment(hostReplicas)
	d.Name, d.Spec.Selector.MatchLabels, d.Spec.Template.Labels = name, map[string]string{"app": name}, map[string]string{"app": name}
	took, err := timed(func() error {
		if _, err := h.Client.AppsV1().Deployments(namespace).Create(ctx, d, metav1.CreateOptions{}); err != nil {
			return err
		}
		timeout := time.After(hostTimeout)
		for running := sets.New[string](); running.Len() < hostReplicas; {
			select {
			case e, open := <-pods.ResultChan():
				if pod, ok := e.Object.(*corev1.Pod); ok && pod.Status.Phase == corev1.PodRunning {
					running.Insert(pod.Name)
				}
				if !open {
					return errors.New("the watch has ended")
				}
			case <-timeout:
				return fmt.Errorf("%d pods run after %s", running.Len(), hostTimeout)
			}
		}
		return nil
	})
	return []value{{name: fmt.Sprintf("%s, a Deployment of %d replicas: time until they run", h.label, hostReplicas), unit: "ms", amount: milliseconds(took)}}, err
}
