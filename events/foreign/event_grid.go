package foreign

import (
	"encoding/json"
	"fmt"
	"net/url"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/zeroplane/zeroplane/events"
)

// Types of Event Grid's own events.
const (
	SubscriptionValidationType = "Microsoft.EventGrid.SubscriptionValidationEvent"
	SubscriptionDeletedType    = "Microsoft.EventGrid.SubscriptionDeletedEvent"
)

// MaxBatch is how many events Event Grid sends in one request at most, see
// https://learn.microsoft.com/en-us/azure/event-grid/edge/delivery-output-batching.
const MaxBatch = 5000

// eventGridEvent is Event Grid's own envelope, see
// https://learn.microsoft.com/en-us/azure/event-grid/event-schema.
type eventGridEvent struct {
	ID        string          `json:"id"`
	Topic     string          `json:"topic"`
	Subject   string          `json:"subject"`
	EventType string          `json:"eventType"`
	EventTime string          `json:"eventTime"`
	Data      json.RawMessage `json:"data"`
}

// fromEventGrid makes CloudEvents as Event Grid itself does for a subscription in the CloudEvents schema.
func fromEventGrid(list []eventGridEvent) ([]cloudevents.Event, error) {
	if n := len(list); n == 0 || n > MaxBatch {
		return nil, &events.FieldError{Field: "body", Reason: fmt.Sprintf("has %d events, want 1 to %d", n, MaxBatch)}
	}
	all := make([]cloudevents.Event, 0, len(list))
	for i, g := range list {
		at := fmt.Sprintf("[%d].", i)
		if err := need(at+"id", g.ID, at+"topic", g.Topic, at+"eventType", g.EventType, at+"data", string(g.Data)); err != nil {
			return nil, err
		}
		when, err := events.ParseTime(at+"eventTime", g.EventTime)
		if err != nil {
			return nil, err
		}
		e := Origin{Source: g.Topic, ID: g.ID, Subject: g.Subject, Time: when}.event(g.EventType, g.Data)
		if err := e.Validate(); err != nil {
			return nil, &events.FieldError{Field: fmt.Sprintf("[%d]", i), Reason: err.Error()}
		}
		all = append(all, e)
	}
	return all, nil
}

// SubscriptionValidation asks whether events may be sent here. The answer is 200 with the body
// {"validationResponse": Code}, or a GET of URL within minutes. See
// https://learn.microsoft.com/en-us/azure/event-grid/end-point-validation-event-grid-events-schema.
type SubscriptionValidation struct {
	Origin
	Code string
	// URL may be empty. It is what a sender says: whoever gets it checks the host first.
	URL string
}

// SubscriptionDeleted says that Event Grid sends no more. See
// https://learn.microsoft.com/en-us/azure/event-grid/receive-events.
type SubscriptionDeleted struct {
	Origin
	// EventSubscriptionID is the Azure resource id of the subscription.
	EventSubscriptionID string
}

type validationData struct {
	Code string `json:"validationCode"`
	URL  string `json:"validationUrl,omitempty"`
}

type deletedData struct {
	ID string `json:"eventSubscriptionId"`
}

// Event returns the CloudEvent.
func (s SubscriptionValidation) Event() cloudevents.Event {
	return s.event(SubscriptionValidationType, validationData{Code: s.Code, URL: s.URL})
}

// Event returns the CloudEvent.
func (s SubscriptionDeleted) Event() cloudevents.Event {
	return s.event(SubscriptionDeletedType, deletedData{ID: s.EventSubscriptionID})
}

func parseSubscriptionValidation(e cloudevents.Event) (SubscriptionValidation, error) {
	var data validationData
	origin, err := decode(e, &data)
	if err != nil {
		return SubscriptionValidation{}, err
	}
	if err := need("data.validationCode", data.Code); err != nil {
		return SubscriptionValidation{}, err
	}
	if data.URL != "" {
		if u, err := url.Parse(data.URL); err != nil || u.Scheme != "https" || u.Host == "" {
			return SubscriptionValidation{}, &events.FieldError{Field: "data.validationUrl", Reason: fmt.Sprintf("%.80q is not an https URL", data.URL)}
		}
	}
	return SubscriptionValidation{Origin: origin, Code: data.Code, URL: data.URL}, nil
}

func parseSubscriptionDeleted(e cloudevents.Event) (SubscriptionDeleted, error) {
	var data deletedData
	origin, err := decode(e, &data)
	if err != nil {
		return SubscriptionDeleted{}, err
	}
	if err := need("data.eventSubscriptionId", data.ID); err != nil {
		return SubscriptionDeleted{}, err
	}
	return SubscriptionDeleted{Origin: origin, EventSubscriptionID: data.ID}, nil
}
