package tablelog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"
	"weak"
)

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
// fails with ErrCompacted, also when they are more than maxReplay.
func (l *Log) eventsBetween(ctx context.Context, since, to uint64) ([]Event, error) {
	if since >= to {
		return nil, nil
	}
	if recent, ok := l.remembered(since, to); ok {
		return recent, nil
	}
	if to-since > maxReplay {
		return nil, fmt.Errorf("revision %d: %w", since, errFarBehind)
	}
	return l.replay(ctx, since, to, "", map[uint64]*Entry{})
}

// window is what was read back from the log rows for a guard: each change since < revision <= to.
type window struct {
	since, to uint64
	events    []Event
}

// eventsFor returns the changes that a guard is held against, up to a revision, as eventsBetween does. What is not in memory
// any more is kept for the guards that follow, until memory is collected: many plans of one batch have one Since, and each
// would read all rows that those before it wrote. The caller leads.
func (l *Log) eventsFor(ctx context.Context, g *Guard, to uint64) ([]Event, error) {
	if recent, ok := l.remembered(g.Since, to); ok {
		return recent, nil
	}
	w := l.window.Value()
	if w == nil || g.Since < w.since || g.Since > w.to || to < w.to || to-w.since > maxReplay {
		w = &window{since: g.Since, to: g.Since}
	}
	more, err := l.eventsBetween(ctx, w.to, to)
	if err != nil {
		return nil, err
	}
	w = &window{since: w.since, to: to, events: append(w.events, more...)}
	l.window = weak.Make(w)
	return w.events[g.Since-w.since:], nil
}

// remembered returns the changes since < revision <= to, and whether they are all in memory.
func (l *Log) remembered(since, to uint64) ([]Event, bool) {
	l.watchMu.Lock()
	recent, ok := l.recentAfter(since, to)
	l.watchMu.Unlock()
	n := sort.Search(len(recent), func(i int) bool { return recent[i].Rev > to })
	return recent[:n], ok
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

// replay reads the changes since < revision <= to under a prefix back from the log rows. Made has entries that were read
// before, by their revisions; those that nothing replaces by the end are left in it.
func (l *Log) replay(ctx context.Context, since, to uint64, prefix string, made map[uint64]*Entry) ([]Event, error) {
	if since >= to {
		return nil, nil
	}
	records, err := l.records(ctx, since+1, to)
	if err != nil {
		return nil, err
	}
	if uint64(len(records)) != to-since {
		return nil, fmt.Errorf("revision %d: %w", since, ErrCompacted)
	}
	records = slices.DeleteFunc(records, func(r record) bool { return !strings.HasPrefix(r.key, prefix) })
	for _, r := range records {
		if r.typ == Deleted {
			continue
		}
		if made[r.rev], err = l.materialize(ctx, r); err != nil {
			return nil, err
		}
	}
	var before []uint64
	for _, r := range records {
		if r.prev != 0 && made[r.prev] == nil {
			before = append(before, r.prev)
		}
	}
	if err := l.entriesAt(ctx, before, made); err != nil {
		return nil, err
	}
	events := make([]Event, 0, len(records))
	for _, r := range records {
		events = append(events, Event{Rev: r.rev, Type: r.typ, Key: r.key, Entry: made[r.rev], Prev: made[r.prev], Cause: r.cause})
		delete(made, r.prev)
	}
	return events, nil
}

// entriesAt adds the entries that the changes of some revisions made to a map. It fails with ErrCompacted.
func (l *Log) entriesAt(ctx context.Context, revs []uint64, entries map[uint64]*Entry) error {
	slices.Sort(revs)
	revs = slices.Compact(revs)
	for len(revs) > 0 {
		n := 1
		for n < len(revs) && revs[n]-revs[n-1] <= maxGap && revs[n]-revs[0] < maxSpan {
			n++
		}
		records, err := l.records(ctx, revs[0], revs[n-1])
		if err != nil {
			return err
		}
		for _, r := range records {
			if _, wanted := slices.BinarySearch(revs[:n], r.rev); !wanted {
				continue
			}
			if entries[r.rev], err = l.materialize(ctx, r); err != nil {
				return err
			}
		}
		for _, rev := range revs[:n] {
			if entries[rev] == nil {
				return fmt.Errorf("revision %d: %w", rev, ErrCompacted)
			}
		}
		revs = revs[n:]
	}
	return nil
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
	if past := l.recall(rev); past != nil {
		return past, nil
	}
	return l.undo(ctx, s, rev)
}

// recall returns the state of the past that was read back last, if it is that of a revision.
func (l *Log) recall(rev uint64) *State {
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	if l.past == nil || l.past.Rev != rev {
		return nil
	}
	l.pastUsed = time.Now()
	return l.past
}

// keepPast keeps a state of the past for the next that asks, unless what is in it alone takes too much.
func (l *Log) keepPast(past *State, alone map[uint64]*Entry) {
	size := int64(0)
	for _, e := range alone {
		size += e.size()
	}
	l.watchMu.Lock()
	defer l.watchMu.Unlock()
	if size <= recentBytes {
		l.past, l.pastSize, l.pastUsed = past, size, time.Now()
	}
}

// forgetPast drops it. The caller holds watchMu.
func (l *Log) forgetPast() { l.past, l.pastSize = nil, 0 }

// undo makes the state at a revision of the past from a later one. What each object was is in memory or what its
// first change since names as its predecessor.
func (l *Log) undo(ctx context.Context, s *State, rev uint64) (*State, error) {
	l.watchMu.Lock()
	events, ok := l.recentAfter(rev, s.Rev)
	l.watchMu.Unlock()
	past := s.clone()
	past.Rev = rev
	if ok {
		for _, ev := range slices.Backward(events) {
			if ev.Rev <= s.Rev {
				past.revert(ev.Key, ev.Prev)
			}
		}
		return past, nil
	}
	first, err := l.firstSince(ctx, rev, s.Rev)
	if err != nil {
		return nil, err
	}
	entries := map[uint64]*Entry{}
	if err := l.entriesAt(ctx, slices.DeleteFunc(slices.Collect(maps.Values(first)), isZero), entries); err != nil {
		return nil, err
	}
	for key, prev := range first {
		past.revert(key, entries[prev])
	}
	l.keepPast(past, entries)
	return past, nil
}

func isZero(rev uint64) bool { return rev == 0 }

// firstSince returns, for every key changed since < revision <= to, the revision of what its first change replaced,
// 0 for nothing. It fails with ErrCompacted.
func (l *Log) firstSince(ctx context.Context, since, to uint64) (map[string]uint64, error) {
	first := map[string]uint64{}
	next := to
	err := l.backwards(ctx, since+1, to, func(r record) error {
		if r.rev != next {
			return fmt.Errorf("revision %d: %w", next, ErrCompacted)
		}
		next--
		first[r.key] = r.prev
		return nil
	})
	if err == nil && next != since {
		err = fmt.Errorf("revision %d: %w", next, ErrCompacted)
	}
	return first, err
}

// revert makes an object what it was, nil for not there.
func (s *State) revert(key string, prev *Entry) {
	if prev != nil {
		s.set(prev)
	} else {
		s.remove(key)
	}
}

// Between returns the changes since < revision <= to. It fails with ErrCompacted.
func (l *Log) Between(ctx context.Context, since, to uint64) ([]Event, error) {
	return l.eventsBetween(ctx, since, to)
}

// Past is a change of the past without the object.
type Past struct {
	Rev  uint64
	Type Type
	Key  string
	// Written is when it was made, by its writer's clock, zero if that was not noted.
	Written time.Time
	// Cause of the change, nil if it was not noted.
	Cause *Cause
}

// Back calls yield for the changes that are kept, newest first, until it returns false. It reads them from the table.
func (l *Log) Back(ctx context.Context, yield func(Past) bool) error {
	return l.backwards(ctx, firstRevision+1, newest, func(r record) error {
		p := Past{Rev: r.rev, Type: r.typ, Key: r.key, Cause: r.cause}
		if r.written != 0 {
			p.Written = time.UnixMilli(r.written)
		}
		if !yield(p) {
			return errEnough
		}
		return nil
	})
}
