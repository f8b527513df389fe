package tablelog

import (
	"context"
	"fmt"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// tail applies the log rows after a state's revision and publishes the result. It fails with
// ErrCompacted when some of them are gone. The caller leads.
func (l *Log) tail(ctx context.Context, s *State) (*State, error) {
	records, err := l.since(ctx, s.Rev)
	if err != nil || len(records) == 0 {
		return s, err
	}
	next := s.clone()
	events := make([]Event, 0, len(records))
	for _, r := range records {
		ev, err := l.applyRecord(ctx, next, r)
		if err != nil {
			return nil, err
		}
		events = append(events, ev)
	}
	l.publish(next, events)
	return next, nil
}

// since returns the records after a revision, oldest first, without a gap. Rows are read newest
// first; they are few, since a tail is read at every request.
func (l *Log) since(ctx context.Context, rev uint64) ([]record, error) {
	records, err := l.records(ctx, rev+1, ^uint64(0))
	if err != nil {
		return nil, err
	}
	for i, r := range records {
		want := rev + 1 + uint64(i)
		if r.rev == want {
			continue
		}
		floor, err := l.readFloor(ctx)
		if err != nil {
			return nil, err
		}
		if want < floor.rev {
			return nil, fmt.Errorf("partition %q: revision %d: %w", l.partition, want, ErrCompacted)
		}
		return nil, fmt.Errorf("%w: partition %q has no revision %d", table.ErrCorrupt, l.partition, want)
	}
	return records, nil
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

// records returns the records from <= revision <= to that are kept, oldest first. It fails with
// ErrCompacted when there are more than maxReplay.
func (l *Log) records(ctx context.Context, from, to uint64) ([]record, error) {
	q := table.Query{From: logKey(to), To: logKey(from - 1)}
	var out []record
	var broken error
	err := table.All(ctx, l.store, l.partition, q, func(row table.Row) bool {
		var r record
		if r, broken = decodeRecord(row.Value); broken == nil && row.Key != logKey(r.rev) {
			broken = fmt.Errorf("%w: it is of revision %d", table.ErrCorrupt, r.rev)
		}
		if broken != nil {
			broken = fmt.Errorf("row %q: %w", row.Key, broken)
			return false
		}
		if out = append(out, r); len(out) > maxReplay {
			broken = fmt.Errorf("%w: more than %d changes behind", ErrCompacted, maxReplay)
		}
		return broken == nil
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
