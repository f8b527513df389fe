// Package webhook takes CloudEvents over HTTP, in binary, structured and batch mode
// (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md), with the handshake of
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md.
//
// It stands behind an API server's filters, which authenticate the sender and authorise "post" on the path; each type
// is authorised besides, as "post" on PATH/TYPE. Answers are chosen for Event Grid, which does not send again what is
// answered 400, 401, 403, 404 or 413, and does what is answered 429 or 503.
package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/zeroplane/zeroplane/events"
)

const (
	// MaxBytes of a request's body: Event Grid's own limit.
	MaxBytes = 1 << 20
	// MaxEvents of a batch.
	MaxEvents = 5000
	// bodyTimeout is how long a body may take to come.
	bodyTimeout = 10 * time.Second
	// perSecond requests are taken, burst of them at once, of all senders together.
	perSecond, burst = 200, 400
	// retryAfter is what a sender is told that came too often or too early, in seconds.
	retryAfter = 5
)

// Options of a webhook.
type Options struct {
	// Path at which it is served.
	Path string
	// Authorizer of the cluster.
	Authorizer authorizer.UnconditionalAuthorizer
	// Cluster that events must be of.
	Cluster string
	// Hear takes an event. It does not wait for what the event causes. An error that is neither events.ErrMalformed
	// nor events.ErrUnknownType may pass later.
	Hear func(context.Context, cloudevents.Event) error
}

// Handler is a webhook.
type Handler struct {
	o     Options
	limit *rate.Limiter
}

// New returns a webhook.
func New(o Options) *Handler { return &Handler{o: o, limit: rate.NewLimiter(perSecond, burst)} }

// Handshake answers a sender that asks, without a credential, whether it may send. It may: each delivery is judged.
func Handshake(w http.ResponseWriter, req *http.Request) {
	origin := req.Header.Get("WebHook-Request-Origin")
	if origin == "" {
		fail(w, apierrors.NewBadRequest("the header WebHook-Request-Origin is missing: it says who asks to send events"))
		return
	}
	w.Header().Set("WebHook-Allowed-Origin", origin)
	w.Header().Set("WebHook-Allowed-Rate", strconv.Itoa(60*perSecond)) // a minute
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
	if !h.limit.Allow() {
		fail(w, apierrors.NewTooManyRequests("more events come than are taken, send again later", retryAfter))
		return
	}
	list, err := read(w, req)
	if err != nil {
		fail(w, err)
		return
	}
	// All are judged before one is heard: who sends a batch again sends all of it.
	for i, e := range list {
		if err := h.judge(req.Context(), e); err != nil {
			fail(w, at(err, i, len(list)))
			return
		}
	}
	for i, e := range list {
		err := h.o.Hear(req.Context(), e)
		switch {
		case errors.Is(err, events.ErrUnknownType):
			slog.Info("an event of a type that nobody hears", "cluster", h.o.Cluster, "type", e.Type(), "source", e.Source(), "id", e.ID())
		case errors.Is(err, events.ErrMalformed):
			fail(w, at(apierrors.NewBadRequest(err.Error()), i, len(list)))
			return
		case err != nil:
			slog.Warn("cannot take an event", "cluster", h.o.Cluster, "type", e.Type(), "id", e.ID(), "error", err)
			fail(w, unavailable())
			return
		}
	}
	w.WriteHeader(http.StatusAccepted)
}

// judge refuses an event that is not what its type says, that is of another cluster, or that the sender may not send.
func (h *Handler) judge(ctx context.Context, e cloudevents.Event) error {
	if err := e.Validate(); err != nil {
		return apierrors.NewBadRequest("the event is no CloudEvent: " + err.Error())
	}
	if err := h.authorize(ctx, e); err != nil {
		return err
	}
	m, err := events.Parse(e)
	switch {
	case errors.Is(err, events.ErrUnknownType):
		return nil
	case err != nil:
		return apierrors.NewBadRequest(err.Error())
	}
	if of := events.ClusterOf(m); of != h.o.Cluster {
		return status(http.StatusForbidden, metav1.StatusReasonForbidden, fmt.Sprintf("source: the event is of the cluster %q, and this one is %q", of, h.o.Cluster))
	}
	return nil
}

func (h *Handler) authorize(ctx context.Context, e cloudevents.Event) error {
	sender, ok := request.UserFrom(ctx)
	if !ok {
		return apierrors.NewUnauthorized("Unauthorized")
	}
	path := h.o.Path + "/" + e.Type()
	decision, _, err := h.o.Authorizer.Authorize(ctx, authorizer.AttributesRecord{User: sender, Verb: "post", Path: path})
	if err != nil && decision != authorizer.DecisionAllow {
		slog.Warn("cannot authorise an event", "cluster", h.o.Cluster, "type", e.Type(), "error", err)
		return unavailable()
	}
	if decision != authorizer.DecisionAllow {
		return status(http.StatusForbidden, metav1.StatusReasonForbidden, fmt.Sprintf("User %q cannot post path %q", sender.GetName(), path))
	}
	return nil
}

// read returns the events of a request.
func read(w http.ResponseWriter, req *http.Request) ([]cloudevents.Event, error) {
	if req.ContentLength > MaxBytes {
		return nil, tooLarge()
	}
	// Where the connection has no deadlines, whoever buffers bodies has.
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, apierrors.NewInternalError(err)
	}
	req.Body = http.MaxBytesReader(w, req.Body, MaxBytes)
	var list []cloudevents.Event
	var err error
	switch mode := modeOf(req.Header); mode {
	case "batch":
		list, err = cehttp.NewEventsFromHTTPRequest(req)
	case "single":
		var e *cloudevents.Event
		if e, err = cehttp.NewEventFromHTTPRequest(req); err == nil {
			list = []cloudevents.Event{*e}
		}
	default:
		return nil, status(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType, fmt.Sprintf(
			"Content-Type %.80q without the header ce-specversion is no CloudEvent: send %s or %s, or the attributes as ce- headers",
			req.Header.Get("Content-Type"), cloudevents.ApplicationCloudEventsJSON, cloudevents.ApplicationCloudEventsBatchJSON))
	}
	var large *http.MaxBytesError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, status(http.StatusRequestTimeout, metav1.StatusReasonTimeout, fmt.Sprintf("the body did not come within %s", bodyTimeout))
	case errors.As(err, &syntax):
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the body is not JSON: %v at byte %d", syntax, syntax.Offset))
	case err != nil:
		return nil, apierrors.NewBadRequest("the request is no CloudEvent: " + err.Error())
	case len(list) > MaxEvents:
		return nil, tooLarge()
	}
	return list, nil
}

// modeOf is "batch", "single" for the binary and the structured mode, or empty.
func modeOf(h http.Header) string {
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	switch {
	case err == nil && media == cloudevents.ApplicationCloudEventsBatchJSON:
		return "batch"
	case err == nil && media == cloudevents.ApplicationCloudEventsJSON, h.Get("Ce-Specversion") != "" && !strings.HasPrefix(media, "application/cloudevents"):
		return "single"
	}
	return ""
}

// at says which of several events an error is about.
func at(err error, i, n int) error {
	var known apierrors.APIStatus
	if n == 1 || !errors.As(err, &known) {
		return err
	}
	s := known.Status()
	s.Message = fmt.Sprintf("event %d of %d: %s", i, n, s.Message)
	return &apierrors.StatusError{ErrStatus: s}
}

func tooLarge() error {
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("at most %d bytes and %d events are taken at once", MaxBytes, MaxEvents))
}

func unavailable() error {
	err := apierrors.NewServiceUnavailable("the event cannot be taken now, send it again later")
	err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: retryAfter}
	return err
}

func status(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}}
}

// fail answers with a metav1.Status.
func fail(w http.ResponseWriter, err error) {
	s := metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: err.Error()}
	var known apierrors.APIStatus
	if errors.As(err, &known) {
		s = known.Status()
	}
	s.Kind, s.APIVersion = "Status", "v1"
	if s.Details != nil && s.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(s.Details.RetryAfterSeconds)))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(s.Code))
	_ = json.NewEncoder(w).Encode(s) // whoever hung up does not read it
}
