package tablelog

import (
	"context"
	"fmt"
	"strings"
	"sync"
)

// Subscription is a stream of the changes under a prefix, in order, without a gap.
type Subscription struct {
	prefix string

	mu    sync.Mutex
	queue []Event
	rev   uint64
	err   error
	wake  chan struct{}
}

// Subscribe returns the changes under prefix after revision since. It fails with ErrCompacted or
// ErrFuture. The caller must Unsubscribe.
func (l *Log) Subscribe(ctx context.Context, prefix string, since uint64) (*Subscription, error) {
	s, err := l.Current(ctx)
	if err != nil {
		return nil, err
	}
	if since > s.Rev {
		return nil, fmt.Errorf("revision %d: %w", since, ErrFuture)
	}
	if since < l.floor.Load() {
		return nil, fmt.Errorf("revision %d: %w", since, ErrCompacted)
	}
	sub := &Subscription{prefix: prefix, rev: since, wake: make(chan struct{}, 1)}
	for range maxLoads {
		// What is not in memory is read first, outside the lock; the rest is in memory by then.
		if sub.rev < l.oldestRecent() {
			old, err := l.eventsBetween(ctx, sub.rev, s.Rev)
			if err != nil {
				return nil, err
			}
			sub.deliver(old, s.Rev)
		}
		if l.join(sub) {
			return sub, nil
		}
		if s, err = l.Current(ctx); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("revision %d: the log moves too fast: %w", since, ErrCompacted)
}

// join delivers what is in memory to a subscription and puts it among those who are told of what
// follows. It fails when not all that the subscription lacks is in memory.
func (l *Log) join(sub *Subscription) bool {
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	now := l.state.Load()
	if now == nil {
		return false // it was dropped to make room
	}
	recent, ok := l.recentAfter(sub.rev, now.Rev)
	if ok {
		sub.deliver(recent, max(sub.rev, now.Rev))
		l.subs[sub] = struct{}{}
		l.follow()
	}
	return ok
}

// Unsubscribe ends a subscription.
func (l *Log) Unsubscribe(sub *Subscription) {
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	delete(l.subs, sub)
}

// Watched reports whether anyone is subscribed.
func (l *Log) Watched() bool {
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	return len(l.subs) > 0
}

// deliver adds events up to a revision. It never blocks.
func (sub *Subscription) deliver(events []Event, rev uint64) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if sub.err != nil {
		return // nobody may get what comes after a gap
	}
	for _, ev := range events {
		if strings.HasPrefix(ev.Key, sub.prefix) {
			sub.queue = append(sub.queue, ev)
		}
	}
	sub.rev = rev
	if len(sub.queue) > maxQueuedEvents {
		sub.err = ErrSlow
	}
	sub.signal()
}

func (sub *Subscription) end(err error) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if sub.err == nil {
		sub.err = err
	}
	sub.signal()
}

func (sub *Subscription) signal() {
	select {
	case sub.wake <- struct{}{}:
	default:
	}
}

// Wake is signalled when Next has something to give.
func (sub *Subscription) Wake() <-chan struct{} { return sub.wake }

// Next returns the changes that came since the last call, and the revision up to which there are no
// others. It does not wait; use Wake.
func (sub *Subscription) Next() ([]Event, uint64, error) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	events := sub.queue
	sub.queue = nil
	return events, sub.rev, sub.err
}
