// Package webhook takes CloudEvents over HTTP, in binary, structured and batch mode
// (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md), with the handshake of
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md; and the events of others in their own
// envelopes (events/foreign).
//
// It stands behind an API server's filters, which authenticate the sender and authorise "post" on the path; each type
// is authorised besides, as "post" on PATH/TYPE. A sender that can only sign is authenticated by Signatures. Answers are
// chosen for Event Grid, which does not send again what is answered 400, 401, 403, 404 or 413, and does what is answered
// 429 or 503. docs/webhook.md.
//
//	webhook.go    a request, from limit to answer
//	read.go       what events a request has
//	judge.go      which of them may be heard
//	limit.go      how often a sender may come
//	letters.go    the malformed: keep, list, show, replay, drop
//	signature.go  senders that sign
//	answer.go     answers, which are metav1.Status
//	metrics.go    what is counted
package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/zeroplane/zeroplane/adapters/deadletter"
	"github.com/zeroplane/zeroplane/events"
)

const (
	// MaxBytes of a request's body: Event Grid's own limit.
	MaxBytes = 1 << 20
	// MaxEvents of a batch.
	MaxEvents = 5000
	// bodyTimeout is how long a body may take to come.
	bodyTimeout = 10 * time.Second
	// workTimeout is how long what a request causes may take, until it is answered that it may pass later: less than
	// Event Grid waits for an answer, 30 s.
	workTimeout = 25 * time.Second
)

// Letters keep what is malformed.
type Letters interface {
	Keep(ctx context.Context, l deadletter.Letter, c deadletter.Content, now time.Time) (deadletter.Letter, error)
	List(ctx context.Context) ([]deadletter.Letter, error)
	// Get and Remove fail with deadletter.ErrNotFound.
	Get(ctx context.Context, id string) (deadletter.Letter, deadletter.Content, error)
	Remove(ctx context.Context, id string) error
	Clear(ctx context.Context) (int, error)
}

var _ Letters = deadletter.Box{}

// Options of a webhook.
type Options struct {
	// Path at which it is served.
	Path string
	// Authorizer of the cluster.
	Authorizer authorizer.UnconditionalAuthorizer
	// Cluster that events must be of.
	Cluster string
	// Others is set where bells of other clusters are taken too, from who may "post" on OTHERS/CLUSTER/events/TYPE besides. It is
	// the first part of that path, such as "/clusters/".
	Others string
	// Hear takes an event. What it returns has been done, or will be found by whoever looks. An error that is neither
	// events.ErrMalformed nor events.ErrUnknownType may pass later.
	Hear func(context.Context, cloudevents.Event) error
	// Letters of the cluster.
	Letters Letters
}

// Handler is a webhook.
type Handler struct {
	o     Options
	limit *limits
}

// New returns a webhook.
func New(o Options) *Handler { return &Handler{o: o, limit: newLimits()} }

// Handshake answers a sender that asks, without a credential, whether it may send. It may: each delivery is judged.
func Handshake(w http.ResponseWriter, req *http.Request) {
	origin := req.Header.Get("WebHook-Request-Origin")
	if origin == "" {
		fail(w, apierrors.NewBadRequest("the header WebHook-Request-Origin is missing: it says who asks to send events"))
		return
	}
	w.Header().Set("WebHook-Allowed-Origin", origin)
	w.Header().Set("WebHook-Allowed-Rate", strconv.Itoa(60*senderPerSecond)) // a minute
	w.Header().Set("Allow", "POST, OPTIONS")
	w.WriteHeader(http.StatusOK)
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodPost {
		w.Header().Set("Allow", "POST, OPTIONS")
		fail(w, status(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "events are sent with POST"))
		return
	}
	leave, ok := h.limit.enter(senderOf(req.Context()))
	if !ok {
		count("", limited)
		fail(w, apierrors.NewTooManyRequests("more events come than are taken, send again later", retryAfter))
		return
	}
	defer leave()
	content, err := readContent(w, req)
	if err != nil {
		count("", refused)
		fail(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), workTimeout)
	defer cancel()
	answer, err := h.take(ctx, content, h.keep)
	if err != nil {
		fail(w, err)
		return
	}
	if answer != nil {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer) // whoever hung up does not read it
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// keeper does with what is malformed what is to be done, and returns what the sender is told of it.
type keeper func(context.Context, []item) string

// take judges what a request has, has what is well-formed be heard, and what is malformed be kept. It returns what the
// sender is to be answered, nil for that it was taken.
func (h *Handler) take(ctx context.Context, c deadletter.Content, keep keeper) (any, error) {
	list, err := itemsOf(c)
	if err != nil {
		count("", refused)
		return nil, err
	}
	// All are judged before one is heard: who may not send one of them has none heard.
	var malformed []item
	good := make([]cloudevents.Event, 0, len(list))
	for _, it := range list {
		switch refusal := h.judge(ctx, &it); {
		case refusal != nil:
			count(it.event.Type(), refused)
			return nil, at(refusal, it.index, len(list))
		case it.err != nil:
			malformed = append(malformed, it)
		default:
			good = append(good, it.event)
		}
	}
	if len(list) == 1 && len(good) == 1 {
		if answer, ok := validation(good[0]); ok {
			count(good[0].Type(), taken)
			return answer, nil
		}
	}
	good, stand := events.JoinSamples(good)
	for i, e := range good {
		err := h.o.Hear(ctx, e)
		switch {
		case errors.Is(err, events.ErrUnknownType):
			count(e.Type(), unknown)
			slog.Info("an event of a type that nobody hears", "cluster", h.o.Cluster, "type", e.Type(), "source", e.Source(), "id", e.ID())
		case errors.Is(err, events.ErrMalformed):
			malformed = append(malformed, item{event: e, content: structuredContent(e), err: err, index: i})
		case err != nil:
			countAll(e.Type(), failed, stand[i])
			slog.Warn("cannot take an event", "cluster", h.o.Cluster, "type", e.Type(), "id", e.ID(), "error", err)
			return nil, unavailable()
		default:
			countAll(e.Type(), taken, stand[i])
		}
	}
	if len(malformed) == 0 {
		return nil, nil
	}
	for _, it := range malformed {
		count(it.event.Type(), ofMalformed)
	}
	said := keep(ctx, malformed)
	message := malformed[0].err.Error()
	if len(list) > 1 {
		message = fmt.Sprintf("event %d of %d: %s; %d are malformed, the others were taken", malformed[0].index, len(list), message, len(malformed))
	}
	return nil, apierrors.NewBadRequest(message + said)
}

func senderOf(ctx context.Context) string {
	if u, ok := request.UserFrom(ctx); ok {
		return u.GetName()
	}
	return ""
}
