// Package events is the vocabulary of zeroplane's CloudEvents: one type per thing that can happen,
// one parser per type and version, with a JSON schema and an example of each (docs/events.md). An
// event is a doorbell: it says that something changed and where to look, never what the state now is
// (docs/decisions.md, D4). Samples are the exception: they are data.
package events

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// MaxBytes is the size of the largest data that is read, in bytes: Event Grid's limit for an event and
// for a batch, see https://learn.microsoft.com/en-us/azure/event-grid/quotas-limits.
const MaxBytes = 1 << 20

// maxNameBytes bounds each name in an attribute: Kubernetes has none that is longer.
const maxNameBytes = 253

// Extension attributes.
const (
	partitionKey = "partitionkey"
	sequence     = "sequence"
	traceparent  = "traceparent"
	// instance is who sent a bell and is at work on what it is about. Without it nobody is said to be.
	instance = "instance"
)

var (
	// ErrUnknownType is returned for an event of a type that this program does not know. Such an
	// event is counted and acknowledged.
	ErrUnknownType = errors.New("unknown event type")
	// ErrMalformed is returned for an event that is not what its type says. Such an event is refused
	// and kept among the dead letters. The error is a *FieldError.
	ErrMalformed = errors.New("malformed event")
)

// FieldError says what is wrong with which field of an event. It is an ErrMalformed.
type FieldError struct {
	// Field is the path from the event's root, such as "data.nodes[0].usage.cpu".
	Field  string
	Reason string
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("%v: %s: %s", ErrMalformed, e.Field, e.Reason)
}

// Unwrap returns ErrMalformed.
func (e *FieldError) Unwrap() error { return ErrMalformed }

// Message is what an event says: Changed, Due, Timer or Samples.
type Message interface {
	// Event returns the CloudEvent that says so.
	Event() cloudevents.Event
}

var (
	_ Message = Changed{}
	_ Message = Due{}
	_ Message = Timer{}
	_ Message = Samples{}
)

// Parse reads an event of any type of this package. It returns ErrUnknownType or ErrMalformed.
func Parse(e cloudevents.Event) (Message, error) {
	switch e.Type() {
	case ChangedType:
		return message(ParseChanged(e))
	case DueType:
		return message(ParseDue(e))
	case TimerType:
		return message(ParseTimer(e))
	case SamplesType:
		return message(ParseSamples(e))
	}
	return nil, fmt.Errorf("%w: %.80q", ErrUnknownType, e.Type())
}

// Known reports whether Parse reads events of a type.
func Known(eventType string) bool {
	switch eventType {
	case ChangedType, DueType, TimerType, SamplesType:
		return true
	}
	return false
}

// ClusterOf returns the cluster that a message is of.
func ClusterOf(m Message) string {
	switch m := m.(type) {
	case Changed:
		return m.Cluster
	case Due:
		return m.Cluster
	case Timer:
		return m.Cluster
	case Samples:
		return m.Cluster
	}
	return ""
}

// message keeps a failed parse from returning a half-read value.
func message[M Message](m M, err error) (Message, error) {
	if err != nil {
		return nil, err
	}
	return m, nil
}

const sourcePrefix = "/clusters/"

func sourceOf(cluster string) string { return sourcePrefix + cluster }

// newEvent returns an event of a cluster without subject and data.
func newEvent(eventType, cluster, id string, at time.Time) cloudevents.Event {
	e := cloudevents.NewEvent()
	e.SetType(eventType)
	e.SetSource(sourceOf(cluster))
	e.SetID(id)
	e.SetTime(at)
	return e
}

// clusterOf checks what all types have in common and returns the cluster.
func clusterOf(e cloudevents.Event, eventType string) (string, error) {
	if e.Type() != eventType {
		return "", fmt.Errorf("%w: %.80q", ErrUnknownType, e.Type())
	}
	if size := len(e.Data()); size > MaxBytes {
		return "", &FieldError{"data", fmt.Sprintf("has %d bytes, at most %d are read", size, MaxBytes)}
	}
	cluster, ok := strings.CutPrefix(e.Source(), sourcePrefix)
	if !ok || !isName(cluster) {
		return "", &FieldError{"source", fmt.Sprintf("%.80q is not %sCLUSTER", e.Source(), sourcePrefix)}
	}
	return cluster, nil
}

// subjectOf returns the subject, which says what.
func subjectOf(e cloudevents.Event, what string) (string, error) {
	if !isName(e.Subject()) {
		return "", &FieldError{"subject", fmt.Sprintf("%.80q does not name a %s", e.Subject(), what)}
	}
	return e.Subject(), nil
}

// timeOf returns the time, in UTC.
func timeOf(e cloudevents.Event) (time.Time, error) {
	if e.Time().IsZero() {
		return time.Time{}, &FieldError{"time", "is missing"}
	}
	return CheckTime("time", e.Time())
}

// ParseTime reads the RFC 3339 time of a field and returns it in UTC, as CheckTime.
func ParseTime(field, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, &FieldError{field, fmt.Sprintf("%.80q is not an RFC 3339 time", text)}
	}
	return CheckTime(field, t)
}

// CheckTime returns the time of a field in UTC. Nanoseconds since 1970, which are in ids, must fit in
// 63 bits.
func CheckTime(field string, t time.Time) (time.Time, error) {
	t = t.UTC()
	if t.Year() < 1970 || t.Year() > 2261 {
		return time.Time{}, &FieldError{field, fmt.Sprintf("is in the year %d, want 1970 to 2261", t.Year())}
	}
	return t, nil
}

// TraceOf returns the trace context of an event, empty for none and for what is none: an event is not refused for it. See
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/extensions/distributed-tracing.md.
func TraceOf(e cloudevents.Event) string {
	text, _ := e.Extensions()[traceparent].(string)
	of := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{traceparent: text})
	if !trace.SpanContextFromContext(of).IsValid() {
		return ""
	}
	return text
}

// checkPartitionKey refuses an event that would be put in order with others than those it belongs to.
func checkPartitionKey(e cloudevents.Event, want string) error {
	if got, _ := e.Extensions()[partitionKey].(string); got != want {
		return &FieldError{partitionKey, fmt.Sprintf("is %.80q, want %.80q", got, want)}
	}
	return nil
}

// instanceOf returns the instance that sent a bell, empty if it does not say.
func instanceOf(e cloudevents.Event) (string, error) {
	raw, there := e.Extensions()[instance]
	if !there {
		return "", nil
	}
	name, ok := raw.(string)
	if !ok || !isName(name) {
		return "", &FieldError{instance, fmt.Sprintf("%.80q does not name an instance", fmt.Sprint(raw))}
	}
	return name, nil
}

// SenderOf returns the instance that sent a bell and is at work on what it is about, empty if none is said to be.
func SenderOf(m Message) string {
	switch m := m.(type) {
	case Changed:
		return m.Instance
	case Timer:
		return m.Instance
	}
	return ""
}

// isName reports whether s can be the name of a cluster's partition, a log group, a function or a
// reporter: letters, digits and "._-:", which pass unchanged through URLs, headers and table keys.
func isName(s string) bool {
	return s != "" && len(s) <= maxNameBytes && strings.Trim(s, nameBytes) == ""
}

const nameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-"
