package doorbell

import (
	"context"
	"log/slog"
	"sync"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/zeroplane/zeroplane/events"
)

const (
	// maxWaiting is how many different messages wait for their turn, of some hundred bytes each. More are dropped.
	maxWaiting = 1000
	// sendTimeout bounds how long messages may take to be sent.
	sendTimeout = 5 * time.Second
	// maxPause is how long nothing is sent at most after several failures: so a service that is down costs little.
	maxPause = time.Minute
	// maxDoublings of the pause: more would not fit in a duration.
	maxDoublings = 16
)

// Outcomes of messages, for GatherOptions.Count.
const (
	// Sent messages went out, Merged ones went out as one with another.
	Sent   = "sent"
	Merged = "merged"
	// Failed messages could not be sent, Dropped ones came while too many waited.
	Failed  = "failed"
	Dropped = "dropped"
)

// GatherOptions say what is sent together, and how.
type GatherOptions struct {
	// Name of where messages go, for the log.
	Name string
	// Send sends events. One that it lost is lost.
	Send func(context.Context, []cloudevents.Event) error
	// Key of a message: of those that wait under one key, Merge makes one.
	Key   func(events.Message) string
	Merge func(older, newer events.Message) events.Message
	// Window is how far apart sends begin at least.
	Window time.Duration
	// Count, if set, is called with how many messages had an outcome.
	Count func(outcome string, n int)
}

// Gather sends messages out of the process: the first after a quiet time at once, those that come within a window of it
// together when that is over. Nothing waits for it, and nothing is certain to arrive. A nil Gather drops all.
type Gather struct {
	o    GatherOptions
	stop chan struct{}

	mu      sync.Mutex
	waiting map[string]events.Message
	// order of the keys that wait.
	order []string
	// under is closed when the goroutine ends that sends, nil while there is none.
	under    chan struct{}
	closed   bool
	failures int
}

// NewGather returns a Gather that has nothing to send.
func NewGather(o GatherOptions) *Gather {
	if o.Count == nil {
		o.Count = func(string, int) {}
	}
	return &Gather{o: o, stop: make(chan struct{}), waiting: map[string]events.Message{}}
}

// Ring has a message be sent. It does not block.
func (g *Gather) Ring(m events.Message) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	key := g.o.Key(m)
	older, there := g.waiting[key]
	switch {
	case g.closed, !there && len(g.waiting) >= maxWaiting:
		g.o.Count(Dropped, 1)
		return
	case there:
		g.waiting[key] = g.o.Merge(older, m)
		g.o.Count(Merged, 1)
	default:
		g.waiting[key] = m
		g.order = append(g.order, key)
	}
	if g.under == nil {
		g.under = make(chan struct{})
		go g.run(g.under)
	}
}

// Close sends what waits, and returns when that is over, which takes twice sendTimeout at most. What comes later is
// dropped.
func (g *Gather) Close() {
	if g == nil {
		return
	}
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		close(g.stop)
	}
	under := g.under
	g.mu.Unlock()
	if under != nil {
		<-under
	}
}

// run sends what waits, once a window, until nothing does.
func (g *Gather) run(done chan struct{}) {
	defer close(done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		batch := g.take()
		if len(batch) == 0 {
			return
		}
		timer.Reset(g.send(batch))
		select {
		case <-timer.C:
		case <-g.stop:
		}
	}
}

// take returns what waits, or notes that nobody sends any more.
func (g *Gather) take() []cloudevents.Event {
	g.mu.Lock()
	defer g.mu.Unlock()
	batch := make([]cloudevents.Event, 0, len(g.order))
	for _, key := range g.order {
		batch = append(batch, g.waiting[key].Event())
	}
	clear(g.waiting)
	g.order = nil
	if len(batch) == 0 {
		g.under = nil
	}
	return batch
}

// send sends a batch and returns how long to wait for the next.
func (g *Gather) send(batch []cloudevents.Event) time.Duration {
	ctx, cancel := context.WithTimeout(context.Background(), sendTimeout)
	defer cancel()
	began := time.Now()
	err := g.o.Send(ctx, batch)
	if err != nil {
		g.o.Count(Failed, len(batch))
		pause := max(min(g.o.Window<<min(g.failures, maxDoublings), maxPause), g.o.Window)
		g.failures++
		slog.Warn("cannot ring", "at", g.o.Name, "events", len(batch), "again in", pause, "error", err)
		return pause
	}
	g.o.Count(Sent, len(batch))
	g.failures = 0
	return max(g.o.Window-time.Since(began), 0)
}
