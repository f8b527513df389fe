// Package azurehost is the custom handler of an Azure function app. The Functions host passes the requests of HTTP
// triggers on as they are, and calls the functions of other triggers with an envelope
// (https://learn.microsoft.com/azure/azure-functions/functions-custom-handlers). All that a call does is done when
// it is answered: the instance may be gone a moment later.
package azurehost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/zeroplane/zeroplane/adapters/deadletter"
	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/events/foreign"
	"github.com/zeroplane/zeroplane/functions/localhost"
)

// PortEnv names the environment variable in which the Functions host says where it expects the handler.
const PortEnv = "FUNCTIONS_CUSTOMHANDLER_PORT"

// LongestAnswer is how long the front end of Azure Functions lets an HTTP answer take.
const LongestAnswer = 230 * time.Second

// The functions whose triggers are not HTTP, as their folders are named.
const (
	bellsFunction     = "bells"
	eventGridFunction = "eventgrid"
	timerFunction     = "timer"
)

const (
	// maxEnvelope bounds what the host passes for one call, in bytes: a queue message has at most 64 KiB, an event 1 MiB.
	maxEnvelope = 4 << 20
	// maxDequeueCount is how often a queue hands a message out, as host.json says, before it goes to the poison queue.
	maxDequeueCount = 5
	// buryTimeout is how long a dead letter may take to be kept, when the call's own time may be over.
	buryTimeout = 10 * time.Second
	// maxEncodings is how often a value may be JSON in a string of JSON.
	maxEncodings = 3
	// callTimeout is how long a call may take, less than functionTimeout of host.json.
	callTimeout = 4 * time.Minute
	// headerTimeout bounds how long the host may take to send a request's header, stopTimeout how long the requests
	// under way may go on when the host stops the handler.
	headerTimeout, stopTimeout = 32 * time.Second, 5 * time.Second
)

// Serve serves a host's clusters on an address until the context ends, and closes the host. Ready is called when
// requests are answered.
func Serve(ctx context.Context, h *localhost.Host, address string, ready func(net.Addr)) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return errors.Join(fmt.Errorf("listening for the Functions host: %w", err), h.Close())
	}
	s := &http.Server{Handler: New(h), ReadHeaderTimeout: headerTimeout}
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }()
	ready(l.Addr())
	select {
	case err = <-failed:
	case <-ctx.Done():
		stopping, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err = s.Shutdown(stopping); errors.Is(err, context.DeadlineExceeded) {
			err = s.Close()
		}
	}
	return errors.Join(err, h.Close())
}

// New returns the handler.
func New(h *localhost.Host) http.Handler {
	return &handler{host: h, api: h.Handler()}
}

type handler struct {
	host *localhost.Host
	api  http.Handler
}

// ServeHTTP takes calls of the Functions host, and requests that came in by its front end, which adds who sent
// them: nobody outside can have a function be called.
func (h *handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	name := strings.TrimPrefix(req.URL.Path, "/")
	do := map[string]func(context.Context, call) error{
		bellsFunction: h.event, eventGridFunction: h.event, timerFunction: h.timer,
	}[name]
	if do == nil || req.Method != http.MethodPost || fromOutside(req) {
		h.api.ServeHTTP(w, req)
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), callTimeout)
	defer cancel()
	c, err := readEnvelope(http.MaxBytesReader(w, req.Body, maxEnvelope))
	if err == nil {
		c.function = name
		err = do(ctx, c)
	}
	answer(w, name, err)
}

// fromOutside reports whether a request passed the front end.
func fromOutside(req *http.Request) bool {
	for _, header := range []string{"X-Forwarded-For", "X-Original-Url", "Client-Ip"} {
		if req.Header.Get(header) != "" {
			return true
		}
	}
	return false
}

func (h *handler) timer(ctx context.Context, _ call) error {
	return h.host.Attend(ctx, time.Now())
}

// event takes what a trigger bound: one event, under whatever name, or several in a list. One that can never be
// understood, or that could not be done as often as its queue hands it out, is kept among the dead letters and counts as
// done: to have it come again would not help.
func (h *handler) event(ctx context.Context, c call) error {
	var errs []error
	for _, raw := range c.Data {
		for _, one := range decodeEvents(raw) {
			err := one.err
			if err == nil {
				err = h.host.Hear(ctx, one.event)
			}
			switch {
			case errors.Is(err, events.ErrUnknownType):
				slog.Info("an event of a type that nobody hears", "function", c.function, "type", one.event.Type())
			case errors.Is(err, events.ErrMalformed), err != nil && c.last():
				errs = append(errs, h.bury(ctx, c, one.raw, err))
			default:
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// bury keeps an event among the dead letters. It fails, so that the event comes again, if that cannot be done either.
func (h *handler) bury(ctx context.Context, c call, raw []byte, reason error) error {
	slog.Error("an event cannot be done", "function", c.function, "error", reason)
	via := deadletter.Queue
	if c.function == eventGridFunction {
		via = deadletter.EventGrid
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), buryTimeout)
	defer cancel()
	return h.host.Bury(ctx, via, raw, reason)
}

// call is what the host passes for a call.
type call struct {
	// Data are the values that triggers bound, by the names of their bindings.
	Data     map[string]json.RawMessage
	Metadata struct {
		// DequeueCount of a queue's message: how often it was handed out, this time included. JSON, maybe in a string.
		DequeueCount json.RawMessage
	}
	function string
}

// last reports whether a queue's message is handed out for the last time.
func (c call) last() bool {
	n, err := strconv.Atoi(strings.Trim(string(c.Metadata.DequeueCount), `" `))
	return err == nil && n >= maxDequeueCount
}

func readEnvelope(body io.Reader) (call, error) {
	var c call
	if err := json.NewDecoder(body).Decode(&c); err != nil {
		return c, fmt.Errorf("%w: the host's call is no envelope: %w", events.ErrMalformed, err)
	}
	return c, nil
}

// decoded is an event of a call, or why it is none.
type decoded struct {
	event cloudevents.Event
	raw   []byte
	err   error
}

// decodeEvents reads a value that may be JSON in a string of JSON, as the host passes most: a CloudEvent, an event in
// another's envelope, or several.
func decodeEvents(raw json.RawMessage) []decoded {
	for range maxEncodings {
		var inner string
		if json.Unmarshal(raw, &inner) != nil {
			break
		}
		raw = json.RawMessage(inner)
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return decodeOne(raw)
	}
	var out []decoded
	for _, r := range list {
		out = append(out, decodeOne(r)...)
	}
	return out
}

func decodeOne(raw json.RawMessage) []decoded {
	var shape struct {
		SpecVersion *string `json:"specversion"`
	}
	if err := json.Unmarshal(raw, &shape); err == nil && shape.SpecVersion == nil {
		if others, err := foreign.Read(raw); err == nil || !errors.Is(err, events.ErrUnknownType) {
			if err != nil {
				return []decoded{{raw: raw, err: err}}
			}
			return []decoded{{event: others[0], raw: raw}} // of one envelope there is one
		}
	}
	d := decoded{raw: raw}
	if err := json.Unmarshal(raw, &d.event); err != nil {
		d.err = fmt.Errorf("%w: %w", events.ErrMalformed, err)
	}
	return []decoded{d}
}

// outcome is what the host wants to hear. It takes an empty answer, such as 204, for a failure.
type outcome struct {
	Outputs     map[string]any `json:"Outputs"`
	Logs        []string       `json:"Logs"`
	ReturnValue any            `json:"ReturnValue"`
}

// answer tells the host how a call went: one that failed comes again, if its trigger has retries.
func answer(w http.ResponseWriter, function string, err error) {
	o := outcome{Outputs: map[string]any{}, Logs: []string{}}
	code := http.StatusOK
	if err != nil {
		slog.Warn("a call failed", "function", function, "error", err)
		o.Logs = append(o.Logs, err.Error())
		code = http.StatusInternalServerError
		if errors.Is(err, events.ErrMalformed) {
			code = http.StatusBadRequest
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(o); err != nil {
		slog.Warn("cannot answer the Functions host", "function", function, "error", err)
	}
}
