package eventgrid_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/zeroplane/zeroplane/adapters/doorbell/eventgrid"
	"github.com/zeroplane/zeroplane/events"
	standin "github.com/zeroplane/zeroplane/tests/eventgrid"
)

func changed(rev uint64) cloudevents.Event {
	return events.Changed{Cluster: "default", Group: "pods", Revision: rev, Time: time.Unix(1, 0), Instance: "a"}.Event()
}

func open(t *testing.T, o eventgrid.Options) *eventgrid.Topic {
	t.Helper()
	topic, err := eventgrid.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

func TestEventsArePublishedToBothKindsOfTopic(t *testing.T) {
	s := standin.Start()
	t.Cleanup(s.Stop)
	for _, endpoint := range []string{s.Topic(), s.Stream()} {
		topic := open(t, eventgrid.Options{Endpoint: endpoint, Key: standin.Key})
		if err := topic.Publish(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if err := topic.Publish(t.Context(), []cloudevents.Event{changed(1), changed(2)}); err != nil {
			t.Error(err)
		}
	}
	if c, want := s.Counts(), (standin.Counts{Published: 2, Events: 2, Streamed: 2}); c != want {
		t.Errorf("the service saw %+v, want %+v", c, want)
	}
	m, err := events.ParseChanged(s.Streamed()[1])
	if err != nil || m.Revision != 2 || m.Instance != "a" {
		t.Errorf("%+v came: %v", m, err)
	}
}

func TestWhatNoRequestHoldsIsSentInSeveral(t *testing.T) {
	s := standin.Start()
	t.Cleanup(s.Stop)
	topic := open(t, eventgrid.Options{Endpoint: s.Stream(), Key: standin.Key})
	large := changed(1)
	if err := large.SetData(cloudevents.ApplicationJSON, strings.Repeat("x", eventgrid.MaxBytes/2)); err != nil {
		t.Fatal(err)
	}
	many := []cloudevents.Event{large, large, changed(2)}
	for rev := range uint64(2*eventgrid.MaxEvents - 2) {
		many = append(many, changed(rev))
	}
	if err := topic.Publish(t.Context(), many); err != nil {
		t.Fatal(err)
	}
	if c := s.Counts(); c.Streamed != len(many) || c.Published != 3 || c.Refused > 0 {
		t.Errorf("%d events came as %+v", len(many), c)
	}
	if err := large.SetData(cloudevents.ApplicationJSON, strings.Repeat("x", eventgrid.MaxBytes)); err != nil {
		t.Fatal(err)
	}
	if err := topic.Publish(t.Context(), []cloudevents.Event{large}); !errors.Is(err, eventgrid.ErrTooLarge) {
		t.Errorf("got %v, want %v", err, eventgrid.ErrTooLarge)
	}
}

func TestAWrongKeyIsSaidAndNotTriedAgain(t *testing.T) {
	s := standin.Start()
	t.Cleanup(s.Stop)
	for _, endpoint := range []string{s.Topic(), s.Stream()} {
		err := open(t, eventgrid.Options{Endpoint: endpoint, Key: "wrong"}).Publish(t.Context(), []cloudevents.Event{changed(1)})
		var said *azcore.ResponseError
		if !errors.As(err, &said) || said.StatusCode != http.StatusUnauthorized {
			t.Errorf("got %v", err)
		}
	}
	if c := s.Counts(); c.Published != 2 {
		t.Errorf("the service saw %+v", c)
	}
}

func TestAServiceThatIsBusyIsAskedAgainAFewTimes(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	t.Cleanup(server.Close)
	topic := open(t, eventgrid.Options{Endpoint: server.URL + "/api/events", Key: "k"})
	if err := topic.Publish(t.Context(), []cloudevents.Event{changed(1)}); err != nil || asked.Load() != 3 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
	asked.Store(-100)
	if err := topic.Publish(t.Context(), []cloudevents.Event{changed(1)}); err == nil || asked.Load() != -97 {
		t.Errorf("asked %d times: %v", asked.Load()+100, err)
	}
}

// tokens is an identity.
type tokens struct{ scopes []string }

func (c *tokens) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.scopes = o.Scopes
	return azcore.AccessToken{Token: "of-an-identity", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func TestWithoutAKeyAnIdentityIsLetIn(t *testing.T) {
	var got string
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { got = req.Header.Get("Authorization") }))
	t.Cleanup(server.Close)
	var identity tokens
	topic := open(t, eventgrid.Options{Endpoint: server.URL + "/api/events", Credential: &identity, Client: server.Client()})
	if err := topic.Publish(t.Context(), []cloudevents.Event{changed(1)}); err != nil {
		t.Fatal(err)
	}
	if want := "Bearer of-an-identity"; got != want || fmt.Sprint(identity.scopes) != "[https://eventgrid.azure.net/.default]" {
		t.Errorf("%q was sent, for %v", got, identity.scopes)
	}
}

func TestWhatIsNoEndpointIsRefused(t *testing.T) {
	for _, endpoint := range []string{"", "zeroplane", "http://topic.example.com/api/events", "https://t.example.com/api/events?api-version=1", "ftp://t.example.com"} {
		if _, err := eventgrid.Open(eventgrid.Options{Endpoint: endpoint, Key: "k"}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", endpoint)) {
			t.Errorf("%q: got %v", endpoint, err)
		}
	}
}
