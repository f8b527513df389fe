package tablelog

import (
	"context"
	"fmt"
	"strings"
	"sync"
)

// Subscription is a stream of the changes under a prefix, in order, without a gap.
type Subscription struct {
	log    *Log
	prefix string
	// behind is set while what it lacks is not in memory. It belongs to the reader, as the log does not tell it of
	// changes yet.
	behind bool
	// made are entries that the changes to come may replace, while it is behind.
	made map[uint64]*Entry

	mu    sync.Mutex
	queue []Event
	rev   uint64
	err   error
	wake  chan struct{}
}

// Subscribe returns the changes under prefix after revision since, however many they are: what is not in memory
// is read by Next, a part at a time. It fails with ErrCompacted or ErrFuture. The caller must Unsubscribe.
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
	sub := &Subscription{log: l, prefix: prefix, rev: since, wake: make(chan struct{}, 1)}
	if sub.behind = !l.join(sub); sub.behind {
		if err := sub.catchUp(ctx); err != nil {
			return nil, err
		}
	}
	return sub, nil
}

// catchUp reads the next part of what a subscription lacks, and has it join once the rest is in memory.
func (sub *Subscription) catchUp(ctx context.Context) error {
	s, err := sub.log.Known(ctx)
	if err != nil {
		return err
	}
	to := min(s.Rev, sub.rev+replayPart)
	if sub.made == nil || len(sub.made) > maxMade {
		sub.made = map[uint64]*Entry{}
	}
	old, err := sub.log.replay(ctx, sub.rev, to, sub.prefix, sub.made)
	if err != nil {
		return err
	}
	sub.deliver(old, max(sub.rev, to))
	if sub.behind = !sub.log.join(sub); !sub.behind {
		sub.made = nil
	}
	return nil
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
// others. It does not wait for changes, use Wake for that; but what a subscription lacks of the past is
// read with the context, which may fail, with ErrCompacted as well. An error is the last that Next has to give.
func (sub *Subscription) Next(ctx context.Context) ([]Event, uint64, error) {
	if events, rev, err := sub.drain(); !sub.behind || len(events) > 0 || err != nil {
		if sub.behind {
			sub.signal()
		}
		return events, rev, err
	}
	if err := sub.catchUp(ctx); err != nil {
		sub.end(err)
	} else if sub.behind {
		sub.signal()
	}
	return sub.drain()
}

// drain empties the queue.
func (sub *Subscription) drain() ([]Event, uint64, error) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	events := sub.queue
	sub.queue = nil
	return events, sub.rev, sub.err
}
