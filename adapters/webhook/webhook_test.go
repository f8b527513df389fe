package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/zeroplane/zeroplane/adapters/deadletter"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/events"
)

// sink is a webhook that keeps what it hears.
type sink struct {
	*Handler
	heard []cloudevents.Event
	fails error
	store table.Store
	box   deadletter.Box
}

func newSink() *sink {
	s := &sink{store: memory.New()}
	s.box = deadletter.New(s.store, "default.1")
	s.Handler = New(Options{
		Path: "/events", Cluster: "default", Authorizer: allButDue{}, Letters: s.box,
		Hear: func(_ context.Context, e cloudevents.Event) error {
			if s.fails == nil {
				s.heard = append(s.heard, e)
			}
			return s.fails
		},
	})
	return s
}

// allButDue lets "sender" send everything but what is due.
type allButDue struct{}

func (allButDue) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetUser().GetName() == "sender" && a.GetVerb() == "post" && a.GetPath() != "/events/"+events.DueType {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// post sends a request and returns the answer, whose body must be nothing or a Status.
func (s *sink) post(t *testing.T, who, contentType, body string, header ...string) (*http.Response, metav1.Status) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.ServeHTTP(w, req.WithContext(request.WithUser(req.Context(), &user.DefaultInfo{Name: who})))
	}))
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/events", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	var status metav1.Status
	if len(answer) > 0 {
		if err := json.Unmarshal(answer, &status); err != nil || status.Kind != "Status" {
			t.Fatalf("the answer is no Status: %s", answer)
		}
	}
	return resp, status
}

func encode(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const (
	structured = cloudevents.ApplicationCloudEventsJSON
	batched    = cloudevents.ApplicationCloudEventsBatchJSON
)

func TestEventsAreTakenInEveryMode(t *testing.T) {
	now := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	bell := events.Timer{Cluster: "default", Time: now}.Event()
	binary := []string{
		"Ce-Specversion", "1.0", "Ce-Id", bell.ID(), "Ce-Type", bell.Type(), "Ce-Source", bell.Source(),
		"Ce-Time", now.Format(time.RFC3339), "Ce-Partitionkey", "default",
	}
	for name, tt := range map[string]struct {
		contentType, body string
		header            []string
		n                 int
	}{
		"structured":               {structured, encode(t, bell), nil, 1},
		"structured, with charset": {structured + "; charset=utf-8", encode(t, bell), nil, 1},
		"binary":                   {"", "", binary, 1},
		"batch":                    {batched, encode(t, []cloudevents.Event{bell, bell}), nil, 2},
		"empty batch":              {batched, "[]", nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSink()
			resp, status := s.post(t, "sender", tt.contentType, tt.body, tt.header...)
			if resp.StatusCode != http.StatusAccepted || len(s.heard) != tt.n {
				t.Fatalf("%s %s, %d events were heard, want %d", resp.Status, status.Message, len(s.heard), tt.n)
			}
			for _, e := range s.heard {
				m, err := events.Parse(e)
				if err != nil || m != (events.Timer{Cluster: "default", Time: now}) {
					t.Errorf("%v was heard: %v", m, err)
				}
			}
		})
	}
}

func TestWhatCannotBeTakenIsRefusedAndChangesNothing(t *testing.T) {
	now := time.Now()
	bell := events.Timer{Cluster: "default", Time: now}.Event()
	due := events.Due{Cluster: "default", Function: "workloads", Time: now}.Event()
	elsewhere := events.Timer{Cluster: "other", Time: now}.Event()
	without := func(attribute string) string {
		return strings.Replace(encode(t, bell), `"`+attribute+`":`, `"else":`, 1)
	}
	for name, tt := range map[string]struct {
		who, contentType, body string
		code                   int
		says                   string
	}{
		"no rights at all":           {"nobody", structured, encode(t, bell), http.StatusForbidden, `User "nobody" cannot post path "/events/` + events.TimerType},
		"no right to the type":       {"sender", structured, encode(t, due), http.StatusForbidden, events.DueType},
		"one of a batch":             {"sender", batched, encode(t, []cloudevents.Event{bell, due}), http.StatusForbidden, "event 1 of 2: "},
		"of another cluster":         {"sender", structured, encode(t, elsewhere), http.StatusForbidden, `source: the event is of the cluster "other"`},
		"another content type":       {"sender", "text/plain", "hello", http.StatusUnsupportedMediaType, `"text/plain"`},
		"a format that nobody reads": {"sender", "application/cloudevents+protobuf", "", http.StatusUnsupportedMediaType, "protobuf"},
		"no JSON":                    {"sender", structured, "hello", http.StatusBadRequest, "body: is not JSON"},
		"no event":                   {"sender", structured, "{}", http.StatusBadRequest, "no CloudEvent"},
		"no id":                      {"sender", structured, without("id"), http.StatusBadRequest, "id"},
		"no time":                    {"sender", structured, without("time"), http.StatusBadRequest, "time"},
		"no list":                    {"sender", batched, encode(t, bell), http.StatusBadRequest, "no CloudEvent"},
		"too large":                  {"sender", structured, strings.Repeat(" ", MaxBytes+1), http.StatusRequestEntityTooLarge, fmt.Sprint(MaxBytes)},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSink()
			resp, status := s.post(t, tt.who, tt.contentType, tt.body)
			if resp.StatusCode != tt.code || int(status.Code) != tt.code || !strings.Contains(status.Message, tt.says) {
				t.Errorf("%s: %q, want %d and %q", resp.Status, status.Message, tt.code, tt.says)
			}
			if len(s.heard) > 0 {
				t.Errorf("%d events were heard", len(s.heard))
			}
		})
	}
}

func TestABodyOfUnknownLengthIsBoundToo(t *testing.T) {
	req := httptest.NewRequest(http.MethodPost, "/events", io.MultiReader(strings.NewReader(strings.Repeat(" ", MaxBytes+1))))
	req.ContentLength = -1
	req.Header.Set("Content-Type", structured)
	w := httptest.NewRecorder()
	newSink().ServeHTTP(w, req)
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestWhatMayPassLaterIsSentAgain(t *testing.T) {
	bell := encode(t, events.Timer{Cluster: "default", Time: time.Now()}.Event())
	s := newSink()
	s.fails = errors.New("the store is busy")
	resp, status := s.post(t, "sender", structured, bell)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || strings.Contains(status.Message, "store") {
		t.Errorf("%s, Retry-After %q: %s", resp.Status, resp.Header.Get("Retry-After"), status.Message)
	}
	s.limit.all.SetBurst(0)
	if resp, _ = s.post(t, "sender", structured, bell); resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a flood: %s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
}

func TestATypeThatNobodyKnowsIsAcknowledged(t *testing.T) {
	s := newSink()
	s.fails = events.ErrUnknownType
	e := cloudevents.NewEvent()
	e.SetID("1")
	e.SetType("com.example.strange")
	e.SetSource("https://example.com")
	if resp, status := s.post(t, "sender", structured, encode(t, e)); resp.StatusCode != http.StatusAccepted {
		t.Errorf("%s: %s", resp.Status, status.Message)
	}
}

func TestASenderIsLetIn(t *testing.T) {
	req := httptest.NewRequest(http.MethodOptions, "/events", nil)
	req.Header.Set("Webhook-Request-Origin", "eventgrid.azure.net")
	w := httptest.NewRecorder()
	Handshake(w, req)
	if w.Code != http.StatusOK || w.Header().Get("WebHook-Allowed-Origin") != "eventgrid.azure.net" || w.Header().Get("WebHook-Allowed-Rate") == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	w = httptest.NewRecorder()
	Handshake(w, httptest.NewRequest(http.MethodOptions, "/events", nil))
	if w.Code != http.StatusBadRequest {
		t.Errorf("%d without an origin", w.Code)
	}
}
