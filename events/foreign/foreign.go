// Package foreign reads the events of others that matter to a cluster: one file per published schema,
// each to a small value of what is needed of it. Read makes CloudEvents of what is sent in another
// envelope, Parse reads a CloudEvent. Fields that are not known are ignored, the values of
// enumerations that are not known are passed on, and types are matched whatever their case, as Azure
// varies it. docs/events.md has the table.
package foreign

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/zeroplane/zeroplane/events"
)

// Message is what an event says: Alert, RegistryChange, AvailabilityChange, HealthAnnotation,
// ScheduledEvents, SpotInterruption, RebalanceRecommendation, SubscriptionValidation or SubscriptionDeleted.
type Message interface {
	// Event returns a CloudEvent that says so in the published schema, without what is not needed.
	Event() cloudevents.Event
}

// Origin is what the attributes of an event say.
type Origin struct {
	// Source and ID together name the event.
	Source string
	ID     string
	// Subject may be empty, Time zero.
	Subject string
	Time    time.Time
}

type parser func(cloudevents.Event) (Message, error)

// parsers are by type in lower case.
var parsers = map[string]parser{
	strings.ToLower(AlertType):                     of(parseAlert),
	strings.ToLower(ImagePushedType):               of(parseRegistryChange),
	strings.ToLower(ImageDeletedType):              of(parseRegistryChange),
	strings.ToLower(ChartPushedType):               of(parseRegistryChange),
	strings.ToLower(ChartDeletedType):              of(parseRegistryChange),
	strings.ToLower(AvailabilityStatusChangedType): of(parseAvailabilityChange),
	strings.ToLower(ResourceAnnotatedType):         of(parseHealthAnnotation),
	strings.ToLower(ScheduledEventsType):           of(parseScheduledEvents),
	strings.ToLower(SpotInterruptionType):          of(parseSpotInterruption),
	strings.ToLower(RebalanceRecommendationType):   of(parseRebalanceRecommendation),
	strings.ToLower(SubscriptionValidationType):    of(parseSubscriptionValidation),
	strings.ToLower(SubscriptionDeletedType):       of(parseSubscriptionDeleted),
}

// of keeps a failed parse from returning a half-read value.
func of[M Message](parse func(cloudevents.Event) (M, error)) parser {
	return func(e cloudevents.Event) (Message, error) {
		m, err := parse(e)
		if err != nil {
			return nil, err
		}
		return m, nil
	}
}

// Parse reads an event of any type of this package. It returns events.ErrUnknownType or
// events.ErrMalformed.
func Parse(e cloudevents.Event) (Message, error) {
	if size := len(e.Data()); size > events.MaxBytes {
		return nil, tooLarge(size, events.MaxBytes)
	}
	if parse, ok := parsers[strings.ToLower(e.Type())]; ok {
		return parse(e)
	}
	if isAlert(e.Data()) {
		return of(parseAlert)(e)
	}
	return nil, fmt.Errorf("%w: %.80q", events.ErrUnknownType, e.Type())
}

// Known reports whether Parse reads events of a type, whatever their data. An alert may have any type.
func Known(eventType string) bool { return parsers[strings.ToLower(eventType)] != nil }

// Read makes CloudEvents of the body of a request that is none: an event, or an array of them, in Event
// Grid's schema; an event of EventBridge; an alert of the common alert schema; what a container registry's own webhook
// sends. It returns
// events.ErrUnknownType or events.ErrMalformed, and refuses more than events.MaxBytes.
func Read(body []byte) ([]cloudevents.Event, error) {
	if len(body) > events.MaxBytes {
		return nil, tooLarge(len(body), events.MaxBytes)
	}
	var list []eventGridEvent
	if err := json.Unmarshal(body, &list); err == nil {
		return fromEventGrid(list)
	}
	var shape struct {
		EventType  *string `json:"eventType"`
		DetailType *string `json:"detail-type"`
		SchemaID   *string `json:"schemaId"`
		Action     *string `json:"action"`
		Timestamp  *string `json:"timestamp"`
	}
	if err := json.Unmarshal(body, &shape); err != nil {
		return nil, notJSON("body", err)
	}
	switch {
	case shape.EventType != nil:
		var one eventGridEvent
		if err := json.Unmarshal(body, &one); err != nil {
			return nil, notJSON("body", err)
		}
		return fromEventGrid([]eventGridEvent{one})
	case shape.DetailType != nil:
		return fromEventBridge(body)
	case isAlert(body):
		return fromAlert(body)
	case shape.Action != nil && shape.Timestamp != nil:
		return fromRegistry(body)
	}
	return nil, fmt.Errorf("%w: no envelope that is known", events.ErrUnknownType)
}

func tooLarge(size, limit int) error {
	return &events.FieldError{Field: "data", Reason: fmt.Sprintf("has %d bytes, at most %d are read", size, limit)}
}

func notJSON(field string, err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		field += "." + wrong.Field
	}
	return &events.FieldError{Field: field, Reason: err.Error()}
}

// decode reads the data of an event and returns the event's origin.
func decode(e cloudevents.Event, data any) (Origin, error) {
	if err := json.Unmarshal(e.Data(), data); err != nil {
		return Origin{}, notJSON("data", err)
	}
	// The SDK trims what is set, but not what it reads.
	o := Origin{Source: strings.TrimSpace(e.Source()), ID: strings.TrimSpace(e.ID()), Subject: strings.TrimSpace(e.Subject())}
	if err := need("source", o.Source, "id", o.ID); err != nil {
		return Origin{}, err
	}
	if e.Time().IsZero() {
		return o, nil
	}
	var err error
	o.Time, err = events.CheckTime("time", e.Time())
	return o, err
}

// event returns an event of the same origin.
func (o Origin) event(eventType string, data any) cloudevents.Event {
	e := cloudevents.NewEvent()
	e.SetType(eventType)
	e.SetSource(o.Source)
	e.SetID(o.ID)
	e.SetSubject(o.Subject)
	e.SetTime(o.Time)
	if err := e.SetData(cloudevents.ApplicationJSON, data); err != nil {
		panic(err) // strings, numbers and JSON that was read always encode
	}
	return e
}

// need returns an error that names the first of the fields that is empty; they come as pairs of path
// and value.
func need(pairs ...string) error {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			return &events.FieldError{Field: pairs[i], Reason: "is missing"}
		}
	}
	return nil
}

// consistsOf reports whether s has nothing but the characters of a set.
func consistsOf(s, set string) bool { return strings.Trim(s, set) == "" }

const (
	digits = "0123456789"
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	hex    = digits + "abcdef"
)
