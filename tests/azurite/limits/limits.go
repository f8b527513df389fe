// Package limits stands between a client of Azure Table Storage and Azurite, and makes Azurite as strict, as slow
// and as unreliable as the service is: it refuses what the service refuses and Azurite takes, it throttles a
// partition at 2,000 rows a second, and it injects, from a seed, short pages, empty pages, refusals, failures
// before and after a request reached the server, and connections that break. It is a policy.Transporter, an
// http.RoundTripper, and, for clients in another process, a reverse proxy.
package limits

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// DefaultRowsPerSecond is the service's target for one partition.
const DefaultRowsPerSecond = 2000

// shortPage is the number of rows that a short page has at most.
const shortPage = 16

// Faults are probabilities from 0 to 1, each of one kind of misfortune of a request.
type Faults struct {
	// ShortPages have fewer rows than there are, EmptyPages none; both go on.
	ShortPages, EmptyPages float64
	// Busy requests are answered with 503 ServerBusy or 429, and did not reach the server.
	Busy float64
	// Unconnected requests find nobody to connect to.
	Unconnected float64
	// FailedBefore requests are answered with 500 and did not reach the server; FailedAfter requests are
	// answered with 500 and did.
	FailedBefore, FailedAfter float64
	// ResetBefore connections break before the request reaches the server, LostReplies after that.
	ResetBefore, LostReplies float64
}

// Options say how strict and how unreliable the service is.
type Options struct {
	Seed uint64
	// RowsPerSecond of a partition, DefaultRowsPerSecond if 0, without a limit if negative.
	RowsPerSecond int
	Faults        Faults
}

// Counts are what happened, by kind; see Faults.
type Counts struct {
	Requests, Refused, Throttled                   int
	ShortPages, EmptyPages                         int
	Busy, Unconnected                              int
	FailedBefore, FailedAfter                      int
	ResetBefore, LostReplies                       int
	RowsWritten, RowsRead, Transactions, BytesSent int
}

// Transport is an unreliable way to a strict service. Its methods are safe for concurrent use.
type Transport struct {
	next http.RoundTripper

	mu      sync.Mutex
	options Options
	rng     *rand.Rand
	counts  Counts
	buckets map[string]*bucket
	// written are the transactions on each partition, asked the queries of each origin.
	written, asked map[string]int
}

// New returns a transport over another, nil for http.DefaultTransport.
func New(next http.RoundTripper, o Options) *Transport {
	if next == nil {
		next = http.DefaultTransport
	}
	if o.RowsPerSecond == 0 {
		o.RowsPerSecond = DefaultRowsPerSecond
	}
	return &Transport{next: next, options: o, rng: rand.New(rand.NewPCG(o.Seed, 1)), buckets: map[string]*bucket{}, written: map[string]int{}, asked: map[string]int{}} //nolint:gosec // faults
}

// SetFaults replaces the probabilities.
func (t *Transport) SetFaults(f Faults) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.options.Faults = f
}

// Counts returns what has happened so far.
func (t *Transport) Counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts
}

// TransactionsOn returns how many transactions there were so far on partitions whose names end in suffix.
func (t *Transport) TransactionsOn(suffix string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for partition, written := range t.written {
		if strings.HasSuffix(partition, suffix) {
			n += written
		}
	}
	return n
}

// QueriesOf returns how many queries there were so far for an origin (table.WithOrigin), or a kind of them.
func (t *Transport) QueriesOf(origin string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for of, asked := range t.asked {
		if strings.HasPrefix(of+"/", origin+"/") {
			n += asked
		}
	}
	return n
}

// Proxy returns a server's handler that passes requests on to an endpoint. Connections that break do so for
// its clients.
func (t *Transport) Proxy(endpoint *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = endpoint.Scheme, endpoint.Host, endpoint.Host
		},
		Transport:    t,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
}

// Do implements policy.Transporter.
func (t *Transport) Do(req *http.Request) (*http.Response, error) { return t.RoundTrip(req) }

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		_ = req.Body.Close()
	}
	r := parse(req, body)
	fate := t.decide(r)
	switch {
	case r.refusal != nil:
		return r.refuse(*r.refusal), nil
	case fate.answer != nil:
		return r.refuse(*fate.answer), nil
	case fate.empty:
		return r.emptyPage(), nil
	case fate.before != nil:
		return nil, fate.before
	}
	out := req.Clone(req.Context())
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if r.query {
		r.rewrite(out.URL, fate.top)
	}
	resp, err := t.next.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	t.arrived(r, answer)
	switch {
	case fate.after != nil:
		return nil, fate.after
	case fate.timedOut:
		return r.refuse(refusal{http.StatusInternalServerError, "OperationTimedOut", "Operation could not be completed within the specified time.", -1}), nil
	}
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	return resp, nil
}

// fate is what becomes of a request.
type fate struct {
	answer        *refusal
	empty         bool
	before, after error
	timedOut      bool
	// top is the number of rows of a short page, 0 for what the request asks for.
	top int
}

var (
	errReset       = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	errUnconnected = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
)

var (
	busy    = refusal{http.StatusServiceUnavailable, "ServerBusy", "The server is busy.", -1}
	tooMany = refusal{http.StatusTooManyRequests, "TooManyRequests", "Too many requests.", -1}
)

// decide draws a request's fate. Each fault is drawn for each request, so that one does not depend on another.
func (t *Transport) decide(r *request) fate {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.Requests++
	if r.refusal != nil {
		t.counts.Refused++
		return fate{}
	}
	happens := func(p float64, count *int) bool {
		if t.rng.Float64() >= p {
			return false
		}
		*count++
		return true
	}
	f, c := t.options.Faults, &t.counts
	if !t.take(r) {
		c.Throttled++
		return fate{answer: &busy}
	}
	switch {
	case happens(f.Unconnected, &c.Unconnected):
		return fate{before: errUnconnected}
	case happens(f.Busy, &c.Busy):
		return fate{answer: []*refusal{&busy, &tooMany}[t.rng.IntN(2)]}
	case happens(f.FailedBefore, &c.FailedBefore):
		return fate{answer: &refusal{http.StatusInternalServerError, "InternalError", "The server encountered an internal error.", -1}}
	case happens(f.ResetBefore, &c.ResetBefore):
		return fate{before: errReset}
	case happens(f.FailedAfter, &c.FailedAfter):
		return fate{timedOut: true}
	case happens(f.LostReplies, &c.LostReplies):
		return fate{after: errReset}
	case r.query && happens(f.EmptyPages, &c.EmptyPages):
		return fate{empty: true}
	case r.query && r.top > 1 && happens(f.ShortPages, &c.ShortPages):
		return fate{top: 1 + t.rng.IntN(min(r.top-1, shortPage))}
	}
	return fate{}
}

// arrived counts a request that reached the server.
func (t *Transport) arrived(r *request, answer []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.BytesSent += r.size
	if !r.writes {
		t.asked[r.origin]++
	}
	if r.query {
		rows := bytes.Count(answer, []byte(`"RowKey":`))
		t.counts.RowsRead += rows
		if b := t.buckets[r.partition]; b != nil {
			b.rows -= float64(rows)
		}
	}
	if len(r.ops) > 0 && r.writes {
		t.counts.RowsWritten += len(r.ops)
		t.counts.Transactions++
		t.written[r.partition]++
	}
}

// bucket is what a partition may still do: it fills at the partition's rate, to what comes in in a second.
type bucket struct {
	rows float64
	at   time.Time
}

// take takes a request's rows from its partition's bucket. A query's are known later, so it needs one to be there.
func (t *Transport) take(r *request) bool {
	rate := float64(t.options.RowsPerSecond)
	if rate < 0 || r.partition == "" {
		return true
	}
	now := time.Now()
	b := t.buckets[r.partition]
	if b == nil {
		b = &bucket{rows: rate, at: now}
		t.buckets[r.partition] = b
	}
	b.rows = min(rate, b.rows+now.Sub(b.at).Seconds()*rate)
	b.at = now
	rows := float64(max(1, len(r.ops)))
	if b.rows < rows {
		return false
	}
	if !r.query {
		b.rows -= rows
	}
	return true
}

// startAgain is where an empty first page goes on.
const startAgain = "limits!start"

// rewrite alters a query's URL: fewer rows, and no continuation which is that of an empty first page.
func (r *request) rewrite(u *url.URL, top int) {
	q := u.Query()
	if q.Get("NextPartitionKey") == startAgain {
		q.Del("NextPartitionKey")
	}
	if top > 0 {
		q.Set("$top", strconv.Itoa(top))
	}
	u.RawQuery = q.Encode()
}

// emptyPage returns a page without rows, which goes on where the request begins.
func (r *request) emptyPage() *http.Response {
	resp := r.respond(http.StatusOK, "application/json;odata=minimalmetadata", []byte(`{"odata.metadata":"","value":[]}`))
	q := r.req.URL.Query()
	if p := q.Get("NextPartitionKey"); p != "" {
		resp.Header.Set("x-ms-continuation-NextPartitionKey", p)
	} else {
		resp.Header.Set("x-ms-continuation-NextPartitionKey", startAgain)
	}
	if row := q.Get("NextRowKey"); row != "" {
		resp.Header.Set("x-ms-continuation-NextRowKey", row)
	}
	return resp
}
