package foreign

import (
	"fmt"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/zeroplane/zeroplane/events"
)

// ScheduledEventsType is the type of a CloudEvent whose data is the document of scheduled events. Azure
// sends none: an agent on the machine posts what it got from the metadata service.
const ScheduledEventsType = "dev.zeroplane.azure.scheduledevents.v1"

// MaxScheduledEventsBytes is the size of the largest document that is read: an event has some 500 bytes, and
// there are few at a time.
const MaxScheduledEventsBytes = 64 << 10

// Kinds of scheduled events.
const (
	Preempt   = "Preempt" // a spot machine is taken away, after 30 s at least
	Terminate = "Terminate"
	Redeploy  = "Redeploy"
	Reboot    = "Reboot"
	Freeze    = "Freeze" // for some seconds
)

// ScheduledEvents is the document of the Azure Instance Metadata Service. See
// https://learn.microsoft.com/en-us/azure/virtual-machines/linux/scheduled-events.
type ScheduledEvents struct {
	Origin
	// Incarnation changes whenever the document does.
	Incarnation int64
	// Events is empty when nothing is scheduled any more.
	Events []ScheduledEvent
}

// ScheduledEvent is what will happen to some machines.
type ScheduledEvent struct {
	ID   string
	Kind string
	// Resources are the names of the machines.
	Resources []string
	// Status is Scheduled or Started.
	Status string
	// NotBefore is zero once the event has started.
	NotBefore time.Time
	// DurationSeconds is for how long the machine is interrupted; -1 if that is not known.
	DurationSeconds int64
}

type scheduledDocument struct {
	DocumentIncarnation *int64           `json:"DocumentIncarnation"`
	Events              []scheduledEvent `json:"Events"`
}

type scheduledEvent struct {
	EventID           string   `json:"EventId"`
	EventType         string   `json:"EventType"`
	Resources         []string `json:"Resources"`
	EventStatus       string   `json:"EventStatus"`
	NotBefore         string   `json:"NotBefore"`
	DurationInSeconds *int64   `json:"DurationInSeconds,omitempty"`
}

// scheduledTime is the format of NotBefore, which is always in GMT.
const scheduledTime = "Mon, 02 Jan 2006 15:04:05 GMT"

const started = "Started"

// Event returns the CloudEvent.
func (s ScheduledEvents) Event() cloudevents.Event {
	document := scheduledDocument{DocumentIncarnation: &s.Incarnation, Events: []scheduledEvent{}}
	for _, e := range s.Events {
		out := scheduledEvent{EventID: e.ID, EventType: e.Kind, Resources: e.Resources, EventStatus: e.Status, DurationInSeconds: &e.DurationSeconds}
		if !e.NotBefore.IsZero() {
			out.NotBefore = e.NotBefore.Format(scheduledTime)
		}
		document.Events = append(document.Events, out)
	}
	return s.event(ScheduledEventsType, document)
}

func parseScheduledEvents(e cloudevents.Event) (ScheduledEvents, error) {
	if size := len(e.Data()); size > MaxScheduledEventsBytes {
		return ScheduledEvents{}, tooLarge(size, MaxScheduledEventsBytes)
	}
	var document scheduledDocument
	origin, err := decode(e, &document)
	if err != nil {
		return ScheduledEvents{}, err
	}
	if document.DocumentIncarnation == nil {
		return ScheduledEvents{}, need("data.DocumentIncarnation", "")
	}
	s := ScheduledEvents{Origin: origin, Incarnation: *document.DocumentIncarnation}
	for i, raw := range document.Events {
		one, err := raw.read(fmt.Sprintf("data.Events[%d].", i))
		if err != nil {
			return ScheduledEvents{}, err
		}
		s.Events = append(s.Events, one)
	}
	return s, nil
}

func (raw scheduledEvent) read(at string) (ScheduledEvent, error) {
	if err := need(at+"EventId", raw.EventID, at+"EventType", raw.EventType, at+"EventStatus", raw.EventStatus); err != nil {
		return ScheduledEvent{}, err
	}
	e := ScheduledEvent{ID: raw.EventID, Kind: raw.EventType, Resources: raw.Resources, Status: raw.EventStatus, DurationSeconds: -1}
	if len(raw.Resources) == 0 {
		return ScheduledEvent{}, need(at+"Resources", "")
	}
	if raw.DurationInSeconds != nil {
		if e.DurationSeconds = *raw.DurationInSeconds; e.DurationSeconds < -1 {
			return ScheduledEvent{}, &events.FieldError{Field: at + "DurationInSeconds", Reason: fmt.Sprintf("is %d", e.DurationSeconds)}
		}
	}
	if raw.NotBefore == "" && raw.EventStatus == started {
		return e, nil
	}
	notBefore, err := time.Parse(scheduledTime, raw.NotBefore)
	if err != nil {
		return ScheduledEvent{}, &events.FieldError{Field: at + "NotBefore", Reason: fmt.Sprintf("%.80q is not a time such as %q", raw.NotBefore, scheduledTime)}
	}
	e.NotBefore, err = events.CheckTime(at+"NotBefore", notBefore)
	return e, err
}
