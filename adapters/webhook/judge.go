package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/events/foreign"
)

// judge returns why an event's sender may not send it, or that it is of another cluster. Where it is malformed it says so
// in the item.
func (h *Handler) judge(ctx context.Context, it *item) error {
	if it.event.Type() != "" {
		if err := h.authorize(ctx, h.o.Path+"/"+it.event.Type()); err != nil {
			return err
		}
	}
	if it.err != nil {
		return nil //nolint:nilerr // the item is what is wrong
	}
	if err := it.event.Validate(); err != nil {
		it.err = &events.FieldError{Field: "event", Reason: "is no CloudEvent: " + err.Error()}
		return nil //nolint:nilerr // the item is what is wrong
	}
	m, err := events.Parse(it.event)
	if errors.Is(err, events.ErrUnknownType) {
		_, err = foreign.Parse(it.event)
	}
	switch {
	case errors.Is(err, events.ErrUnknownType):
		return nil
	case err != nil:
		it.err = err
		return nil //nolint:nilerr // the item is what is wrong
	case m == nil:
		return nil
	}
	of := events.ClusterOf(m)
	if _, isData := m.(events.Samples); of != h.o.Cluster && h.o.Others != "" && !isData {
		return h.authorize(ctx, h.o.Others+of+h.o.Path+"/"+it.event.Type())
	}
	if of != h.o.Cluster {
		return status(http.StatusForbidden, metav1.StatusReasonForbidden, fmt.Sprintf("source: the event is of the cluster %q, and this one is %q", of, h.o.Cluster))
	}
	return nil
}

func (h *Handler) authorize(ctx context.Context, path string) error {
	sender, ok := request.UserFrom(ctx)
	if !ok {
		return apierrors.NewUnauthorized("Unauthorized")
	}
	decision, _, err := h.o.Authorizer.Authorize(ctx, authorizer.AttributesRecord{User: sender, Verb: "post", Path: path})
	if err != nil && decision != authorizer.DecisionAllow {
		slog.Warn("cannot authorise an event", "cluster", h.o.Cluster, "path", path, "error", err)
		return unavailable()
	}
	if decision != authorizer.DecisionAllow {
		return status(http.StatusForbidden, metav1.StatusReasonForbidden, fmt.Sprintf("User %q cannot post path %q", sender.GetName(), path))
	}
	return nil
}

// validationAnswer is what Event Grid waits for before it sends events in its own schema, see
// https://learn.microsoft.com/en-us/azure/event-grid/end-point-validation-event-grid-events-schema.
type validationAnswer struct {
	ValidationResponse string `json:"validationResponse"`
}

// validation returns the answer to Event Grid's question whether it may send, which is put with the credential of a
// delivery, and so was judged as one. Its URL is not called: that an answer came is enough.
func validation(e cloudevents.Event) (validationAnswer, bool) {
	m, err := foreign.Parse(e)
	if err != nil {
		return validationAnswer{}, false
	}
	v, ok := m.(foreign.SubscriptionValidation)
	return validationAnswer{v.Code}, ok
}
