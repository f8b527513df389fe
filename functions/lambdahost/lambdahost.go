// Package lambdahost is the handler of an AWS Lambda function. One handler tells apart what it is called with: requests
// to the function's URL, whose answers are streamed, messages of SQS, and events of EventBridge, the schedule among them.
//
// Lambda gives an instance one call at a time and freezes it when the next one is asked for
// (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html), for minutes or for ever: all that a
// call began has ended then, and what is left to others has a bell.
package lambdahost

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	cloudevents "github.com/cloudevents/sdk-go/v2"
	"golang.org/x/sync/errgroup"

	"github.com/zeroplane/zeroplane/adapters/deadletter"
	own "github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/events/foreign"
	"github.com/zeroplane/zeroplane/functions/localhost"
)

// RuntimeEnv names the environment variable in which Lambda says where its runtime API is.
const RuntimeEnv = "AWS_LAMBDA_RUNTIME_API"

const (
	// stopMargin is how long before a call's deadline its work is given up, so that what is under way can be ended.
	stopMargin = 10 * time.Second
	// tooEarly is how long before its time a bell may be heard: clocks differ.
	tooEarly = time.Second
	// thawAfter no call connections count as dead: whoever they lead to may have closed them meanwhile.
	thawAfter = 30 * time.Second
	// heardAtOnce are the clusters of a batch that are attended to at the same time.
	heardAtOnce = 4
	// reportTimeout bounds how long the runtime API may take to be told of a failed start.
	reportTimeout = 5 * time.Second
)

// What EventBridge calls a schedule of its own.
const (
	scheduleSource = "aws.events"
	scheduleType   = "Scheduled Event"
)

// Options of a handler.
type Options struct {
	// Host with Front.Freezes set.
	Host *localhost.Host
	// Bells take what was heard before its time.
	Bells localhost.Bells
	// Thawed, if set, is called before a call that comes long after the one before.
	Thawed func()
	// Now is the clock, nil for time.Now.
	Now func() time.Time
}

// Handler is called by the runtime.
type Handler struct {
	o   Options
	api http.Handler
	// rested is when the call before had ended, on the wall clock: the other one may stand still in a frozen process.
	rested time.Time
}

// New returns a handler.
func New(o Options) *Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Handler{o: o, api: o.Host.Handler()}
}

// Serve asks the runtime API for calls until the process ends. It returns if Lambda would give several calls at a time.
func Serve(h *Handler) error {
	if n := lambdacontext.MaxConcurrency(); n > 1 {
		return fmt.Errorf("the function is set to take %d calls at a time; an instance takes one", n)
	}
	lambda.Start(h.Invoke)
	return nil
}

// Invoke does what one call is about. It fails for a call that may succeed later, or whose payload is of no kind that
// is known. An answer to a request is an io.ReadCloser: the call has ended when it was closed.
func (h *Handler) Invoke(ctx context.Context, payload json.RawMessage) (any, error) {
	h.thaw()
	var kind struct {
		RequestContext struct {
			HTTP struct {
				Method string `json:"method"`
			} `json:"http"`
		} `json:"requestContext"`
		Records []struct {
			EventSource string `json:"eventSource"`
		} `json:"Records"`
		DetailType string `json:"detail-type"`
		Source     string `json:"source"`
	}
	if err := json.Unmarshal(payload, &kind); err != nil {
		return nil, fmt.Errorf("%w: the payload: %w", own.ErrMalformed, err)
	}
	if kind.RequestContext.HTTP.Method != "" {
		return h.serve(ctx, payload)
	}
	working, cancel := withMargin(ctx)
	defer cancel()
	var answer any
	var err error
	switch {
	case len(kind.Records) > 0 && kind.Records[0].EventSource == "aws:sqs":
		answer, err = h.batch(working, payload)
	case kind.DetailType == scheduleType && kind.Source == scheduleSource:
		err = h.o.Host.Attend(working, h.o.Now())
	case kind.DetailType != "":
		err = h.bridge(working, payload)
	default:
		err = fmt.Errorf("%w: the payload is no request to a function URL, no batch of SQS and no event of EventBridge", own.ErrMalformed)
	}
	return answer, errors.Join(err, h.rest(ctx))
}

// withMargin ends a call's work before its deadline.
func withMargin(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	margin := min(stopMargin, time.Until(deadline)/2)
	return context.WithDeadline(ctx, deadline.Add(-margin))
}

// thaw is called when a call begins.
func (h *Handler) thaw() {
	if !h.rested.IsZero() && h.o.Now().Round(0).Sub(h.rested) >= thawAfter && h.o.Thawed != nil {
		h.o.Thawed()
	}
}

// rest is called when a call has ended, before the next one is asked for.
func (h *Handler) rest(ctx context.Context) error {
	err := h.o.Host.Rest(ctx)
	h.rested = h.o.Now().Round(0)
	return err
}

// batch takes messages of SQS, and names those that are to come again.
func (h *Handler) batch(ctx context.Context, payload json.RawMessage) (any, error) {
	var in events.SQSEvent
	if err := json.Unmarshal(payload, &in); err != nil {
		return nil, fmt.Errorf("%w: a batch of SQS: %w", own.ErrMalformed, err)
	}
	calls, out := h.sort(ctx, in)
	var g errgroup.Group
	var mu sync.Mutex
	g.SetLimit(heardAtOnce)
	for _, c := range calls {
		g.Go(func() error {
			if err := h.hear(ctx, deadletter.Queue, c); err != nil {
				slog.Warn("messages will come again", "messages", c.messages, "type", c.event.Type(), "error", err)
				mu.Lock()
				defer mu.Unlock()
				out.fail(c.messages...)
			}
			return nil
		})
	}
	_ = g.Wait() // what failed is in the answer
	return out.response, nil
}

// outcome is what SQS is told.
type outcome struct{ response events.SQSEventResponse }

// fail has messages come again.
func (o *outcome) fail(messages ...string) {
	for _, id := range messages {
		o.response.BatchItemFailures = append(o.response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: id})
	}
}

// call is an event, as it came, and the messages that say it.
type call struct {
	event    cloudevents.Event
	raw      []byte
	messages []string
}

// sort reads messages. Bells of one cluster that came together are one, since they say no more than "look". One that
// came before its time is sent again. One that can never be understood is kept among the dead letters and counts as done:
// to have it come again would not help.
func (h *Handler) sort(ctx context.Context, in events.SQSEvent) ([]*call, *outcome) {
	out := &outcome{response: events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}}
	var calls []*call
	bells := map[string]*call{}
	for _, m := range in.Records {
		var e cloudevents.Event
		if err := json.Unmarshal([]byte(m.Body), &e); err != nil {
			if h.bury(ctx, deadletter.Queue, []byte(m.Body), fmt.Errorf("%w: %w", own.ErrMalformed, err)) != nil {
				out.fail(m.MessageId)
			}
			continue
		}
		c := &call{event: e, raw: []byte(m.Body), messages: []string{m.MessageId}}
		if e.Type() == own.TimerType {
			timer, err := own.ParseTimer(e)
			if err != nil {
				if h.bury(ctx, deadletter.Queue, c.raw, err) != nil {
					out.fail(m.MessageId)
				}
				continue
			}
			if timer.Time.After(h.o.Now().Add(tooEarly)) {
				if err := h.o.Bells.Send(ctx, e, timer.Time); err != nil {
					slog.Warn("cannot send a bell on, it will come again", "message", m.MessageId, "error", err)
					out.fail(m.MessageId)
				}
				continue
			}
			if known := bells[timer.Cluster]; known != nil {
				known.messages = append(known.messages, m.MessageId)
				continue
			}
			bells[timer.Cluster] = c
		}
		calls = append(calls, c)
	}
	return calls, out
}

// hear takes an event. One that nobody here acts on is logged and counts as done; one that is not what its type says is
// kept among the dead letters.
func (h *Handler) hear(ctx context.Context, via string, c *call) error {
	err := h.o.Host.Hear(ctx, c.event)
	switch {
	case errors.Is(err, own.ErrUnknownType):
		slog.Info("an event of a type that nobody hears", "type", c.event.Type(), "source", c.event.Source(), "id", c.event.ID())
		return nil
	case errors.Is(err, own.ErrMalformed):
		return h.bury(ctx, via, c.raw, err)
	}
	return err
}

// bury keeps an event among the dead letters. It fails, so that the event comes again, if that cannot be done.
func (h *Handler) bury(ctx context.Context, via string, raw []byte, reason error) error {
	slog.Error("an event is malformed", "via", via, "error", reason)
	return h.o.Host.Bury(ctx, via, raw, reason)
}

// bridge takes an event of EventBridge.
func (h *Handler) bridge(ctx context.Context, payload json.RawMessage) error {
	list, err := foreign.Read(payload)
	if err != nil {
		return h.bury(ctx, deadletter.EventBridge, payload, err)
	}
	var errs []error
	for _, e := range list {
		raw, err := json.Marshal(e)
		if err != nil { // it was read from what cannot be said so
			raw = payload
		}
		errs = append(errs, h.hear(ctx, deadletter.EventBridge, &call{event: e, raw: raw}))
	}
	return errors.Join(errs...)
}

// ReportFailedStart tells the runtime API why the process cannot take calls: it is what whoever called is told.
// (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html, initialization error)
func ReportFailedStart(ctx context.Context, why error) error {
	body, err := json.Marshal(map[string]any{"errorMessage": why.Error(), "errorType": startError, "stackTrace": []string{}})
	if err != nil {
		return fmt.Errorf("encoding an error: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	url := "http://" + os.Getenv(RuntimeEnv) + "/2018-06-01/runtime/init/error"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body)) //nolint:gosec // where Lambda says
	if err != nil {
		return fmt.Errorf("telling Lambda of a failed start: %w", err)
	}
	req.Header.Set("Lambda-Runtime-Function-Error-Type", startError)
	resp, err := (&http.Client{Transport: &http.Transport{}}).Do(req) //nolint:gosec // where Lambda says; no proxy leads there
	if err != nil {
		return fmt.Errorf("telling Lambda of a failed start: %w", err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return cmp.Or(err, resp.Body.Close())
}

const startError = "Zeroplane.Start"
