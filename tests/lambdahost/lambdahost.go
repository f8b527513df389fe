// Package lambdahost stands in for AWS Lambda, SQS and EventBridge: it reads the stack's own template, starts the
// functions' processes by the package's own bootstrap when there is something to do, and is the runtime API that they see
// (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html). What it imitates of the service:
//
//   - an instance has one call at a time, and is frozen (SIGSTOP) from when it asks for the next one until there is one;
//     others are started for calls that come meanwhile; an idle one is killed without a word;
//   - a function's URL ends TLS; requests and answers have version 2.0 of its payload, answers are streamed behind their
//     header; a client that goes does not end the call; at the function's timeout the process is killed;
//   - messages of a queue come in batches, those that an answer does not name are deleted, the others are seen again
//     after the visibility timeout, and are dead letters after maxReceiveCount;
//   - the schedule and events that a rule lets through are calls that nobody waits for: they are tried again, and are dead
//     letters then.
package lambdahost

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/zeroplane/zeroplane/tests/azurite"
	"github.com/zeroplane/zeroplane/tests/hosted"
)

const (
	region, account, queueName = "eu-west-1", "123456789012", "zeroplane-bells"
	// accessKey is the role's.
	accessKey = "ASIAZEROPLANE"
	// maxPayload is how large a request to a URL can be, in bytes.
	maxPayload = 6 << 20
	// pollers read the queue at the same time. The service begins with five.
	pollers = 2
)

// Options of a host.
type Options struct {
	// Binary is zeroplane's.
	Binary string
	// Dir gets the functions' logs, the CA of the URL, and what a package would hold.
	Dir string
	// Idle is how long a frozen instance lives on, for ever if 0. The service's is minutes.
	Idle time.Duration
	// Timeout of all functions, instead of the template's, if not 0.
	Timeout time.Duration
	// Visibility of messages that were received, instead of the template's, if not 0.
	Visibility time.Duration
	// Environment of the functions, beside what the template and the service set.
	Environment []string
	// Tables of the storage account.
	Tables *azurite.Server
	// Through is what calls to the account of a Cluster pass.
	Through hosted.Through
}

// Host is a running stand-in.
type Host struct {
	// Address of the URL, HOST:PORT.
	Address string

	o         Options
	root      string
	stack     *stack
	front     *hosted.Front
	sqs       *httptest.Server
	queue     *queue
	functions map[string]*function
	ctx       context.Context //nolint:containedctx // the life of the host
	cancel    context.CancelFunc
	wg        sync.WaitGroup

	mu    sync.Mutex
	calls map[string]int
	notes []string
	// billed is how long processes were at calls, or at their start.
	billed time.Duration
}

// Start starts a host without any instance. Root is the repository's folder.
func Start(root string, o Options) (*Host, error) {
	s, err := loadStack(root)
	if err != nil {
		return nil, err
	}
	if o.Visibility > 0 {
		s.queue.visibility = o.Visibility
	}
	h := &Host{o: o, stack: s, functions: map[string]*function{}, calls: map[string]int{}}
	if h.root, err = unpack(o.Binary, o.Dir); err != nil {
		return nil, err
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	if h.front, err = hosted.StartFront(http.HandlerFunc(h.serveURL), o.Dir); err != nil {
		return nil, err
	}
	h.Address = h.front.Address
	h.queue = newQueue(s.queue, "https://sqs."+region+".amazonaws.com/"+account+"/"+queueName, accessKey)
	h.sqs = httptest.NewServer(h.queue)
	for name, settings := range s.functions {
		if o.Timeout > 0 {
			settings.timeout = o.Timeout
		}
		h.functions[name] = &function{host: h, name: name, settings: settings, all: map[*instance]bool{}}
	}
	for range pollers {
		h.wg.Go(h.poll)
	}
	return h, nil
}

// Environment is what functions are started with, and what tools need to find the clusters' table.
func (h *Host) Environment() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	own := append(h.front.Environment(),
		"AZURE_STORAGE_CONNECTION_STRING="+h.o.Tables.ConnectionString(), "ZEROPLANE_BELLS_QUEUE="+h.queue.url,
		"AWS_REGION="+region, "AWS_ACCESS_KEY_ID="+accessKey, "AWS_SECRET_ACCESS_KEY=secret", "AWS_SESSION_TOKEN=session",
		"AWS_ENDPOINT_URL_SQS="+h.sqs.URL)
	return append(own, h.o.Environment...)
}

// Stop ends everything.
func (h *Host) Stop() {
	h.cancel()
	for _, f := range h.functions {
		f.end()
	}
	h.wg.Wait()
	h.front.Stop()
	h.sqs.Close()
}

// Calls is how often each trigger called, and how often each function's process was started.
func (h *Host) Calls() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.calls)
}

func (h *Host) count(what string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls[what]++
	return h.calls[what]
}

// Billed is how long calls, and starts of processes, have taken together, each rounded up to a millisecond: what a start
// takes is billed as a call's time is (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html).
func (h *Host) Billed() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.billed
}

// bill adds what began at a time and has ended.
func (h *Host) bill(began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.billed += (time.Since(began) + time.Millisecond - 1).Truncate(time.Millisecond)
}

// QueueCalls is how many requests to the queue there have been: messages sent, batches received, batches deleted. Polls
// that find nothing are not counted: there are as many where nothing happens.
func (h *Host) QueueCalls() int {
	h.queue.mu.Lock()
	defer h.queue.mu.Unlock()
	return h.queue.calls
}

// note keeps what went wrong, for Failures.
func (h *Host) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes = append(h.notes, fmt.Sprintf(format, args...))
}

// Failures is what calls failed with so far.
func (h *Host) Failures() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.notes)
}

// Instances is how many processes there are, frozen ones included, and Busy how many are at a call.
func (h *Host) Instances() (all, busy int) {
	for _, f := range h.functions {
		f.mu.Lock()
		all += len(f.all)
		busy += len(f.all) - len(f.idle)
		f.mu.Unlock()
	}
	return all, busy
}

// ScaleToZero kills every instance that is not at a call, and reports whether none is left.
func (h *Host) ScaleToZero() bool {
	for _, f := range h.functions {
		for _, in := range f.takeIdle() {
			in.kill()
		}
	}
	all, _ := h.Instances()
	return all == 0
}

// Send adds a message to the queue.
func (h *Host) Send(body string) { h.queue.send(body, 0) }

// soon is what Queued does not count as put off.
const soon = 5 * time.Second

// Queued is how many messages there are but those that were put off, how many those are, and the dead letters.
func (h *Host) Queued() (n, later int, dead []string) {
	h.queue.mu.Lock()
	defer h.queue.mu.Unlock()
	for _, m := range h.queue.messages {
		if m.received == 0 && time.Until(m.visible) > soon {
			later++
		}
	}
	return len(h.queue.messages) - later, later, slices.Clone(h.queue.dead)
}

// Tick calls the schedule's function.
func (h *Host) Tick() error {
	f := h.functions[h.stack.schedule]
	return h.async(f, "schedule", f.settings.scheduledRetries, bridged("aws.events", "Scheduled Event", map[string]any{}))
}

// Publish calls the functions whose rules let an event of EventBridge through, and fails if there is none.
func (h *Host) Publish(source, detailType string, detail any) error {
	err := errors.New("no rule lets the event through")
	for _, r := range h.stack.rules {
		if slices.Contains(r.source, source) && slices.Contains(r.detailTypes, detailType) {
			err = h.async(h.functions[r.function], "rule", h.functions[r.function].settings.retries, bridged(source, detailType, detail))
		}
	}
	return err
}

// bridged is an event in EventBridge's envelope.
func bridged(source, detailType string, detail any) map[string]any {
	return map[string]any{
		"version": "0", "id": uuid.NewString(), "detail-type": detailType, "source": source, "account": account, "region": region,
		"time": time.Now().UTC().Format(time.RFC3339), "resources": []string{}, "detail": detail,
	}
}

// async calls a function again until it does not fail, for a call that nobody waits for. What fails to the end is dead.
func (h *Host) async(f *function, trigger string, retries int, event any) error {
	var err error
	for range 1 + retries {
		if _, err = h.callFunction(f, trigger, event); err == nil {
			return nil
		}
	}
	body, _ := json.Marshal(event)
	h.queue.bury(string(body))
	return err
}

// callFunction calls a function with an event and returns its answer.
func (h *Host) callFunction(f *function, trigger string, event any) ([]byte, error) {
	h.count(trigger)
	payload, err := json.Marshal(event)
	if err != nil {
		return nil, err
	}
	c := f.newCall(payload)
	err = f.invoke(c)
	return c.answer, err
}

// serveURL is the function's URL.
func (h *Host) serveURL(w http.ResponseWriter, req *http.Request) {
	h.count("url")
	payload, err := urlPayload(w, req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	f := h.functions[h.stack.url]
	c := f.newCall(payload)
	c.client = w
	err = f.invoke(c)
	if err == nil {
		return
	}
	h.note("%s %s: %v", req.Method, req.URL, err)
	if c.began {
		panic(http.ErrAbortHandler) // the client sees that something is missing
	}
	http.Error(w, "Internal Server Error", http.StatusBadGateway)
}

// urlPayload is a request as a function gets it (https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html).
func urlPayload(w http.ResponseWriter, req *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxPayload))
	if err != nil {
		return nil, err
	}
	headers := map[string]string{"host": req.Host, "x-forwarded-proto": "https"}
	for name, values := range req.Header {
		if name != "Cookie" {
			headers[strings.ToLower(name)] = strings.Join(values, ",")
		}
	}
	ip, _, _ := net.SplitHostPort(req.RemoteAddr)
	headers["x-forwarded-for"] = ip
	now := time.Now().UTC()
	payload := map[string]any{
		"version": "2.0", "routeKey": "$default", "rawPath": req.URL.EscapedPath(), "rawQueryString": req.URL.RawQuery, "headers": headers,
		"requestContext": map[string]any{
			"accountId": "anonymous", "apiId": "abc", "domainName": req.Host, "domainPrefix": "abc", "requestId": uuid.NewString(),
			"routeKey": "$default", "stage": "$default", "time": now.Format("02/Jan/2006:15:04:05 -0700"), "timeEpoch": now.UnixMilli(),
			"http": map[string]any{"method": req.Method, "path": req.URL.Path, "protocol": req.Proto, "sourceIp": ip, "userAgent": req.UserAgent()},
		},
		"isBase64Encoded": false,
	}
	if cookies := req.Header.Values("Cookie"); len(cookies) > 0 {
		payload["cookies"] = strings.Split(strings.Join(cookies, "; "), "; ")
	}
	if len(body) > 0 {
		payload["body"] = string(body)
		if !isText(req.Header.Get("Content-Type")) {
			payload["body"], payload["isBase64Encoded"] = base64.StdEncoding.EncodeToString(body), true
		}
	}
	return json.Marshal(payload)
}

// isText reports whether a body is passed on as it is.
func isText(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (strings.HasPrefix(media, "text/") || media == "application/json" || media == "application/xml" || media == "application/javascript")
}

// Break has later instances be started with other variables.
func (h *Host) Break(environment ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.o.Environment = append(h.o.Environment, environment...)
}
