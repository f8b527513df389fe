package tablelog

import (
	"context"
	"fmt"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// tail applies the log rows after a state's revision and publishes the result. Rows come newest
// first; they are few, since a tail is read at every request. The caller leads.
func (l *Log) tail(ctx context.Context, s *State) (*State, error) {
	records, err := l.records(ctx, s.Rev+1, ^uint64(0))
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		if l.state.Load() == nil {
			l.publish(s, nil)
		}
		return s, nil
	}
	next := s.clone()
	events := make([]Event, 0, len(records))
	for _, r := range records {
		if r.rev != next.Rev+1 {
			if next.Rev == s.Rev {
				// Compaction removed what we never saw: begin again from the object rows.
				return l.reload(ctx)
			}
			return nil, fmt.Errorf("%w: partition %q has no revision %d", table.ErrCorrupt, l.partition, next.Rev+1)
		}
		ev, err := l.applyRecord(ctx, next, r)
		if err != nil {
			return nil, err
		}
		events = append(events, ev)
	}
	l.publish(next, events)
	return next, nil
}

// reload begins again after the log before our state's head was compacted. Watches cannot go on.
func (l *Log) reload(ctx context.Context) (*State, error) {
	l.watchMu.Lock()
	l.state.Store(nil)
	l.recent = nil
	for sub := range l.subs {
		sub.end(ErrCompacted)
		delete(l.subs, sub)
	}
	l.watchMu.Unlock()
	return l.load(ctx)
}

// applyRecord alters a state by one record. An object row read during a scan may be newer than the
// record; it stays.
func (l *Log) applyRecord(ctx context.Context, s *State, r record) (Event, error) {
	ev := Event{Rev: r.rev, Type: r.typ, Key: r.key}
	s.Rev = r.rev
	current := s.Get(r.key)
	if r.typ == Deleted {
		ev.Prev = current
		if current != nil && current.Rev < r.rev {
			s.remove(r.key)
		}
		return ev, nil
	}
	if current != nil && current.Rev >= r.rev {
		ev.Entry = current
		return ev, nil
	}
	e, err := l.materialize(ctx, r)
	if err != nil {
		return ev, err
	}
	ev.Entry, ev.Prev = e, s.set(e)
	return ev, nil
}

// records returns the records from <= revision <= to, oldest first.
func (l *Log) records(ctx context.Context, from, to uint64) ([]record, error) {
	q := table.Query{From: logKey(to), To: logKey(from - 1)}
	var out []record
	var broken error
	err := table.All(ctx, l.store, l.partition, q, func(row table.Row) bool {
		var r record
		if r, broken = decodeRecord(row.Value); broken != nil {
			broken = fmt.Errorf("row %q: %w", row.Key, broken)
			return false
		}
		out = append(out, r)
		return true
	})
	if err == nil {
		err = broken
	}
	if err != nil {
		return nil, fmt.Errorf("reading the log of partition %q: %w", l.partition, err)
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out, nil
}
