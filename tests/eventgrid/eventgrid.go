// Package eventgrid stands in for Azure Event Grid: a custom topic, a topic of a namespace, and the subscription of a
// webhook. What it imitates of the service:
//
//   - publishing: POST to the endpoint with the right api-version, key and content type; arrays of 1 MiB at most, of
//     CloudEvents 1.0 with what those need (https://learn.microsoft.com/azure/event-grid/post-to-custom-topic,
//     https://learn.microsoft.com/azure/event-grid/publisher-operations);
//   - the handshake with OPTIONS before the first delivery (https://github.com/cloudevents/spec/blob/v1.0/http-webhook.md);
//   - delivery in batches, with the headers that the subscription adds; what is not answered 2xx is delivered again after
//     pauses that grow, unless the answer says that it would never be taken
//     (https://learn.microsoft.com/azure/event-grid/delivery-and-retry).
//
// Events can be lost, doubled and put out of order on purpose: the service promises that none of it is rare.
package eventgrid

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

const (
	// Key of both topics.
	Key = "c2VjcmV0"
	// topicPath and streamPath are where they are published to.
	topicPath, streamPath = "/api/events", "/topics/changes"
	// maxBytes and maxEvents of what is published at a time. The service documents the first; the second is the bound of
	// what a subscriber gets at a time.
	maxBytes, maxEvents = 1 << 20, 5000
	// MaxDelivered events of a delivery, as infra/azure asks for.
	MaxDelivered = 64
	// answerWithin is how long a subscriber may take.
	answerWithin = 30 * time.Second
	// origin is who the service says that it is.
	origin = "eventgrid.azure.net"
)

// schedule are the pauses before an event is delivered again, as documented, up to the ten minutes for which infra/azure
// has one live.
var schedule = []time.Duration{10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute}

// never are the answers of a webhook after which there is no other delivery.
var never = []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestEntityTooLarge}

// Faults are what happens to events between a topic and its subscriber.
type Faults struct {
	// Lose has none of them be delivered, Double has each be twice.
	Lose, Double bool
	// Shuffle has those that come within so much time be delivered in any order.
	Shuffle time.Duration
}

// Subscription is where events go.
type Subscription struct {
	// Endpoint is the webhook's URL, Header what each delivery has besides.
	Endpoint string
	Header   map[string]string
	// Client delivers, nil for http.DefaultClient.
	Client *http.Client
	// Schedule of the deliveries after the first, the service's if nil.
	Schedule []time.Duration
}

// Counts are what a service has seen so far.
type Counts struct {
	// Published and Refused are requests to the topics, Events what was published to the custom one, Streamed to the
	// namespace's.
	Published, Refused, Events, Streamed int
	// Troubled events suffered from Faults.
	Troubled int
	// Deliveries are requests to the subscriber, Delivered the events in those that were taken, Dead what was given up.
	Deliveries, Delivered, Dead int
}

// Service is a running stand-in.
type Service struct {
	server *httptest.Server
	ctx    context.Context //nolint:containedctx // the life of the service
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	to       *Subscription
	faults   Faults
	counts   Counts
	streamed []cloudevents.Event
	refusals []string
	// held are events that are about to be delivered.
	held []cloudevents.Event
}

// Start starts a service.
func Start() *Service {
	s := &Service{}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.Handle("POST "+topicPath, s.publish("2018-01-01", "aeg-sas-key", Key, s.take))
	mux.Handle("POST "+streamPath+":publish", s.publish("2024-06-01", "Authorization", "SharedAccessKey "+Key, s.stream))
	s.server = httptest.NewServer(mux)
	return s
}

// Stop ends it. What was not delivered is lost.
func (s *Service) Stop() {
	s.cancel()
	s.server.Close()
	s.wg.Wait()
}

// Topic is the endpoint of the custom topic, Stream that of the namespace's.
func (s *Service) Topic() string { return s.server.URL + topicPath }

// Stream is the endpoint of the namespace's topic.
func (s *Service) Stream() string { return s.server.URL + streamPath }

// Environment has an app publish to both.
func (s *Service) Environment() []string {
	return []string{
		"ZEROPLANE_EVENTGRID_TOPIC=" + s.Topic(), "ZEROPLANE_EVENTGRID_KEY=" + Key,
		"ZEROPLANE_EVENTGRID_STREAM=" + s.Stream(), "ZEROPLANE_EVENTGRID_STREAM_KEY=" + Key,
	}
}

// Counts returns what was seen so far.
func (s *Service) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Refusals are what publishers were told that did wrong.
func (s *Service) Refusals() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.refusals)
}

// Streamed are the events of the namespace's topic.
func (s *Service) Streamed() []cloudevents.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.streamed)
}

// Fail has events suffer from now on.
func (s *Service) Fail(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// publish takes events as the service does.
func (s *Service) publish(version, header, key string, take func([]cloudevents.Event)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		list, status, err := read(w, req)
		switch {
		case req.URL.Query().Get("api-version") != version:
			status, err = http.StatusBadRequest, fmt.Errorf("the api-version is %q", req.URL.Query().Get("api-version"))
		case req.Header.Get(header) != key:
			status, err = http.StatusUnauthorized, errors.New("the key is wrong")
		}
		s.mu.Lock()
		s.counts.Published++
		if err != nil {
			s.counts.Refused++
			s.refusals = append(s.refusals, err.Error())
		}
		s.mu.Unlock()
		if err != nil {
			http.Error(w, err.Error(), status)
			return
		}
		take(list)
		w.WriteHeader(http.StatusOK)
	})
}

// read reads an array of events, or one.
func read(w http.ResponseWriter, req *http.Request) ([]cloudevents.Event, int, error) {
	media, _, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if err != nil || media != cloudevents.ApplicationCloudEventsBatchJSON && media != cloudevents.ApplicationCloudEventsJSON {
		return nil, http.StatusUnsupportedMediaType, fmt.Errorf("the content type is %q", req.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBytes))
	if err != nil {
		return nil, http.StatusRequestEntityTooLarge, err
	}
	if media == cloudevents.ApplicationCloudEventsJSON {
		body = slices.Concat([]byte("["), body, []byte("]"))
	}
	var list []cloudevents.Event
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, http.StatusBadRequest, err
	}
	if len(list) == 0 || len(list) > maxEvents {
		return nil, http.StatusBadRequest, fmt.Errorf("there are %d events", len(list))
	}
	for _, e := range list {
		if err := e.Validate(); err != nil {
			return nil, http.StatusBadRequest, err
		}
	}
	return list, 0, nil
}

func (s *Service) stream(list []cloudevents.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streamed = append(s.streamed, list...)
	s.counts.Streamed += len(list)
}

// take has events be delivered, if anyone has subscribed.
func (s *Service) take(list []cloudevents.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Events += len(list)
	if s.faults != (Faults{}) {
		s.counts.Troubled += len(list)
	}
	if s.to == nil || s.faults.Lose || s.ctx.Err() != nil {
		return
	}
	if s.faults.Double {
		list = slices.Concat(list, list)
	}
	if s.held = append(s.held, list...); len(s.held) > len(list) {
		return // they go with those before
	}
	to, after := *s.to, s.faults.Shuffle
	s.wg.Go(func() {
		if !s.sleep(after) {
			return
		}
		s.mu.Lock()
		held := s.held
		s.held = nil
		s.mu.Unlock()
		if after > 0 {
			rand.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] }) //nolint:gosec // any order will do
		}
		for batch := range slices.Chunk(held, MaxDelivered) {
			s.wg.Go(func() { s.deliver(to, batch) })
		}
	})
}

func (s *Service) sleep(d time.Duration) bool {
	select {
	case <-s.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Subscribe asks a webhook for its consent, and delivers to it from then on. There is one subscription.
func (s *Service) Subscribe(ctx context.Context, to Subscription) error {
	if to.Client == nil {
		to.Client = http.DefaultClient
	}
	if to.Schedule == nil {
		to.Schedule = schedule
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodOptions, to.Endpoint, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("WebHook-Request-Origin", origin)
	resp, err := to.Client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	allowed := resp.Header.Get("WebHook-Allowed-Origin")
	if resp.StatusCode != http.StatusOK || allowed != origin && allowed != "*" {
		return fmt.Errorf("the webhook does not consent: %s, WebHook-Allowed-Origin %q", resp.Status, allowed)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = &to
	return nil
}

// deliver delivers a batch until it is taken or given up.
func (s *Service) deliver(to Subscription, batch []cloudevents.Event) {
	body, err := json.Marshal(batch)
	if err != nil {
		panic(err) // they were read from JSON
	}
	for attempt := 0; ; attempt++ {
		code := s.attempt(to, body)
		taken := code/100 == 2
		over := taken || slices.Contains(never, code) || attempt == len(to.Schedule)
		s.mu.Lock()
		s.counts.Deliveries++
		switch {
		case taken:
			s.counts.Delivered += len(batch)
		case over:
			s.counts.Dead += len(batch)
		}
		s.mu.Unlock()
		if over || !s.sleep(to.Schedule[attempt]) {
			return
		}
	}
}

// attempt delivers once and returns the answer's status, 0 for none.
func (s *Service) attempt(to Subscription, body []byte) int {
	ctx, cancel := context.WithTimeout(s.ctx, answerWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.Endpoint, bytes.NewReader(body))
	if err != nil {
		return 0
	}
	req.Header.Set("Content-Type", cloudevents.ApplicationCloudEventsBatchJSON+"; charset=utf-8")
	req.Header.Set("Aeg-Event-Type", "Notification")
	req.Header.Set("WebHook-Request-Origin", origin)
	for name, value := range to.Header {
		req.Header.Set(name, value)
	}
	resp, err := to.Client.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
