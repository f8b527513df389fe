package tablelog

import (
	"context"
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
		return nil, ErrFuture
	}
	// What is not in memory is read first, outside the lock; the rest is in memory by then.
	var old []Event
	if since < l.oldestRecent() {
		if old, err = l.eventsBetween(ctx, since, s.Rev); err != nil {
			return nil, err
		}
		since = s.Rev
	}
	sub := &Subscription{prefix: prefix, rev: since, wake: make(chan struct{}, 1)}
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	now := l.state.Load()
	recent, ok := l.recentAfter(since, now.Rev)
	if !ok {
		return nil, ErrCompacted
	}
	sub.deliver(old, since)
	sub.deliver(recent, now.Rev)
	l.subs[sub] = struct{}{}
	return sub, nil
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
	for _, ev := range events {
		if strings.HasPrefix(ev.Key, sub.prefix) {
			sub.queue = append(sub.queue, ev)
		}
	}
	sub.rev = rev
	if len(sub.queue) > maxQueuedEvents && sub.err == nil {
		sub.err = ErrSlow
	}
	sub.signal()
}

func (sub *Subscription) end(err error) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	sub.err = err
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
