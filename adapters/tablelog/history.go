package tablelog

import (
	"context"
	"fmt"
	"slices"
	"sort"
)

// oldestRecent returns the revision after which every change is in memory.
func (l *Log) oldestRecent() uint64 {
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	if len(l.recent) == 0 {
		if s := l.state.Load(); s != nil {
			return s.Rev
		}
		return 0
	}
	return l.recent[0].Rev - 1
}

// recentAfter returns the changes in memory after since, and whether they are all up to head. The
// caller holds watchMu.
func (l *Log) recentAfter(since, head uint64) ([]Event, bool) {
	if since >= head {
		return nil, true
	}
	if len(l.recent) == 0 || l.recent[0].Rev > since+1 {
		return nil, false
	}
	i := sort.Search(len(l.recent), func(i int) bool { return l.recent[i].Rev > since })
	return l.recent[i:len(l.recent):len(l.recent)], true
}

// eventsBetween returns the changes since < revision <= to, from memory or from the log rows. It
// fails with ErrCompacted.
func (l *Log) eventsBetween(ctx context.Context, since, to uint64) ([]Event, error) {
	if since >= to {
		return nil, nil
	}
	l.watchMu.Lock()
	recent, ok := l.recentAfter(since, to)
	l.watchMu.Unlock()
	if ok {
		n := sort.Search(len(recent), func(i int) bool { return recent[i].Rev > to })
		return recent[:n], nil
	}
	return l.replay(ctx, since, to)
}

// EventsSince returns the changes after a revision up to the state's, which it also returns. It
// fails with ErrCompacted: the caller must begin again from the state.
func (l *Log) EventsSince(ctx context.Context, since uint64) ([]Event, *State, error) {
	s, err := l.Current(ctx)
	if err != nil {
		return nil, nil, err
	}
	if since < l.floor.Load() {
		return nil, s, fmt.Errorf("revision %d: %w", since, ErrCompacted)
	}
	events, err := l.eventsBetween(ctx, since, s.Rev)
	return events, s, err
}

// replay reads changes back from the log rows.
func (l *Log) replay(ctx context.Context, since, to uint64) ([]Event, error) {
	records, err := l.records(ctx, since+1, to)
	if err != nil {
		return nil, err
	}
	if uint64(len(records)) != to-since {
		return nil, fmt.Errorf("revision %d: %w", since, ErrCompacted)
	}
	made := map[uint64]*Entry{}
	events := make([]Event, 0, len(records))
	for _, r := range records {
		ev := Event{Rev: r.rev, Type: r.typ, Key: r.key}
		if r.typ != Deleted {
			if ev.Entry, err = l.materialize(ctx, r); err != nil {
				return nil, err
			}
			made[r.rev] = ev.Entry
		}
		if r.prev != 0 {
			if ev.Prev = made[r.prev]; ev.Prev == nil {
				if ev.Prev, err = l.entryAt(ctx, r.prev); err != nil {
					return nil, err
				}
			}
		}
		events = append(events, ev)
	}
	return events, nil
}

// entryAt returns the entry that the change of a revision made.
func (l *Log) entryAt(ctx context.Context, rev uint64) (*Entry, error) {
	records, err := l.records(ctx, rev, rev)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("revision %d: %w", rev, ErrCompacted)
	}
	return l.materialize(ctx, records[0])
}

// At returns the state at a revision of the past, by undoing the changes since. It fails with
// ErrCompacted or ErrFuture.
func (l *Log) At(ctx context.Context, rev uint64) (*State, error) {
	s, err := l.Current(ctx)
	if err != nil {
		return nil, err
	}
	if rev == s.Rev {
		return s, nil
	}
	if rev > s.Rev {
		return nil, fmt.Errorf("revision %d: %w", rev, ErrFuture)
	}
	if rev < l.floor.Load() {
		return nil, fmt.Errorf("revision %d: %w", rev, ErrCompacted)
	}
	events, err := l.eventsBetween(ctx, rev, s.Rev)
	if err != nil {
		return nil, err
	}
	past := s.clone()
	for _, ev := range slices.Backward(events) {
		if prev := ev.Prev; prev != nil {
			past.set(prev)
		} else {
			past.remove(ev.Key)
		}
	}
	past.Rev = rev
	return past, nil
}

// Between returns the changes since < revision <= to. It fails with ErrCompacted.
func (l *Log) Between(ctx context.Context, since, to uint64) ([]Event, error) {
	return l.eventsBetween(ctx, since, to)
}
