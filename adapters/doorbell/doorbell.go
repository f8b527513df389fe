// Package doorbell carries events inside one process: at once, without a guarantee. What is lost
// with the process is found again by its timer.
package doorbell

import (
	"sync"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

// Handler takes an event. It must not block: it starts work, or notes that there is some.
type Handler func(cloudevents.Event)

// Bell rings handlers.
type Bell struct {
	mu       sync.RWMutex
	handlers map[int]Handler
	next     int
}

// New returns a bell that nobody hears.
func New() *Bell { return &Bell{handlers: map[int]Handler{}} }

// Subscribe adds a handler for every event. The returned function removes it.
func (b *Bell) Subscribe(h Handler) (remove func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := b.next
	b.next++
	b.handlers[id] = h
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.handlers, id)
	}
}

// Ring gives an event to every handler.
func (b *Bell) Ring(e cloudevents.Event) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, h := range b.handlers {
		h(e)
	}
}
