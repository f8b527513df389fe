package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/adapters/deadletter"
	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/events/foreign"
)

// item is one event of a request, or what cannot be read as one.
type item struct {
	index int
	event cloudevents.Event
	// err says why it is malformed. The event has then what can be read of it.
	err error
	// content is what would carry it alone.
	content deadletter.Content
}

// Modes in which a request has events.
const (
	batchMode      = "batch"
	structuredMode = "structured"
	binaryMode     = "binary"
	// foreignMode is another's envelope, in JSON.
	foreignMode = "foreign"
)

// modeOf returns the mode of a request, or nothing.
func modeOf(header http.Header) string {
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	switch {
	case err == nil && media == cloudevents.ApplicationCloudEventsBatchJSON:
		return batchMode
	case err == nil && media == cloudevents.ApplicationCloudEventsJSON:
		return structuredMode
	case strings.HasPrefix(media, "application/cloudevents"):
		return ""
	case header.Get("Ce-Specversion") != "":
		return binaryMode
	case err == nil && media == cloudevents.ApplicationJSON:
		return foreignMode
	}
	return ""
}

// readContent reads a request's body, and what its header says of it.
func readContent(w http.ResponseWriter, req *http.Request) (deadletter.Content, error) {
	c := deadletter.Content{Header: map[string]string{}}
	if modeOf(req.Header) == "" {
		return c, unsupported(req.Header.Get("Content-Type"))
	}
	for name, values := range req.Header {
		if name == "Content-Type" || strings.HasPrefix(name, "Ce-") {
			c.Header[name] = values[0]
		}
	}
	var err error
	c.Body, err = readBody(w, req)
	return c, err
}

func unsupported(contentType string) error {
	return status(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType, fmt.Sprintf(
		"Content-Type %.80q without the header ce-specversion is no CloudEvent, and no envelope that is known: send %s or %s, or the attributes as ce- headers",
		contentType, cloudevents.ApplicationCloudEventsJSON, cloudevents.ApplicationCloudEventsBatchJSON))
}

// readBody reads a body that is not too large and does not come too slowly.
func readBody(w http.ResponseWriter, req *http.Request) ([]byte, error) {
	if req.ContentLength > MaxBytes {
		return nil, tooLarge()
	}
	// Where the connection has no deadlines, whoever buffers bodies has.
	connection := http.NewResponseController(w)
	if err := connection.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, apierrors.NewInternalError(err)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, MaxBytes))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, status(http.StatusRequestTimeout, metav1.StatusReasonTimeout, fmt.Sprintf("the body did not come within %s", bodyTimeout))
	case err != nil:
		return nil, apierrors.NewBadRequest("the body cannot be read: " + err.Error())
	}
	// What the events cause may take longer: the server would take the deadline for a client that has gone.
	if err := connection.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, apierrors.NewInternalError(err)
	}
	return body, nil
}

// itemsOf returns what a request has. What is malformed is among it; an error is of the request.
func itemsOf(c deadletter.Content) ([]item, error) {
	header := http.Header{}
	for name, value := range c.Header {
		header.Set(name, value)
	}
	switch modeOf(header) {
	case batchMode:
		return batchItems(c)
	case structuredMode:
		return []item{structuredItem(0, c)}, nil
	case binaryMode:
		return []item{binaryItem(header, c)}, nil
	case foreignMode:
		return foreignItems(c)
	}
	return nil, unsupported(c.Header["Content-Type"])
}

func batchItems(c deadletter.Content) ([]item, error) {
	var raw []json.RawMessage
	if err := json.Unmarshal(c.Body, &raw); err != nil {
		return []item{{err: notEvent(err), content: c}}, nil
	}
	if len(raw) > MaxEvents {
		return nil, tooLarge()
	}
	list := make([]item, 0, len(raw))
	for i, r := range raw {
		one := deadletter.Content{Header: map[string]string{"Content-Type": cloudevents.ApplicationCloudEventsJSON}, Body: r}
		list = append(list, structuredItem(i, one))
	}
	return list, nil
}

func structuredItem(index int, c deadletter.Content) item {
	it := item{index: index, content: c}
	if err := json.Unmarshal(c.Body, &it.event); err != nil {
		it.err = notEvent(err)
		// For the authorisation, and for whoever looks at it.
		var said struct{ Type, Source, ID any }
		_ = json.Unmarshal(c.Body, &said)
		it.event = cloudevents.NewEvent()
		for set, value := range map[*any]func(string){&said.Type: it.event.SetType, &said.Source: it.event.SetSource, &said.ID: it.event.SetID} {
			if s, ok := (*set).(string); ok {
				value(s)
			}
		}
	}
	return it
}

func binaryItem(header http.Header, c deadletter.Content) item {
	it := item{content: c}
	e, err := cehttp.NewEventFromHTTPRequest(&http.Request{Header: header, Body: io.NopCloser(bytes.NewReader(c.Body))})
	if err != nil {
		it.err = notEvent(err)
		it.event = cloudevents.NewEvent()
		it.event.SetType(header.Get("Ce-Type"))
		it.event.SetSource(header.Get("Ce-Source"))
		it.event.SetID(header.Get("Ce-Id"))
		return it
	}
	it.event = *e
	return it
}

func foreignItems(c deadletter.Content) ([]item, error) {
	read, err := foreign.Read(c.Body)
	switch {
	case errors.Is(err, events.ErrUnknownType):
		return nil, unsupported(c.Header["Content-Type"])
	case err != nil:
		return []item{{err: err, content: c}}, nil //nolint:nilerr // the item is what is wrong
	}
	list := make([]item, 0, len(read))
	for i, e := range read {
		list = append(list, item{index: i, event: e, content: structuredContent(e)})
	}
	return list, nil
}

// structuredContent is what would carry an event alone.
func structuredContent(e cloudevents.Event) deadletter.Content {
	body, err := json.Marshal(e)
	if err != nil { // it was read from what cannot be said so
		body = e.Data()
	}
	return deadletter.Content{Header: map[string]string{"Content-Type": cloudevents.ApplicationCloudEventsJSON}, Body: body}
}

// notEvent says why something is no CloudEvent.
func notEvent(err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return &events.FieldError{Field: "body", Reason: fmt.Sprintf("is not JSON: %v at byte %d", syntax, syntax.Offset)}
	}
	return &events.FieldError{Field: "body", Reason: "is no CloudEvent: " + err.Error()}
}
