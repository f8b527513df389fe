package tablelog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// tail applies the log rows after a state's revision and publishes the result. It fails with
// ErrCompacted when some of them are gone. The caller leads.
func (l *Log) tail(ctx context.Context, s *State) (*State, error) {
	records, err := l.since(ctx, s.Rev, newest)
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

// since returns the records after a revision, up to another, oldest first, without a gap. Rows are read newest
// first; they are few, since a tail is read at every request. It fails with errFarBehind when they are not.
func (l *Log) since(ctx context.Context, rev, to uint64) ([]record, error) {
	records, err := l.records(ctx, rev+1, to)
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
	ev := Event{Rev: r.rev, Type: r.typ, Key: r.key, Cause: r.cause}
	s.Rev, s.written = r.rev, max(s.written, r.written)
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

// newest is a revision that no log reaches.
const newest = ^uint64(0)

// records returns the records from <= revision <= to that are kept, oldest first. It fails with
// errFarBehind when there are more than maxReplay.
func (l *Log) records(ctx context.Context, from, to uint64) ([]record, error) {
	var out []record
	err := l.backwards(ctx, from, to, func(r record) error {
		if out = append(out, r); len(out) > maxReplay {
			return errFarBehind
		}
		return nil
	})
	slices.Reverse(out)
	return out, err
}

// errEnough ends a walk through the log that has what it wants.
var errEnough = errors.New("enough")

// backwards calls yield for the records from <= revision <= to that are kept, newest first, until it
// fails, perhaps with errEnough.
func (l *Log) backwards(ctx context.Context, from, to uint64, yield func(record) error) error {
	q := table.Query{From: logKey(to), To: logKey(from - 1)}
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
		broken = yield(r)
		return broken == nil
	})
	if err == nil && !errors.Is(broken, errEnough) {
		err = broken
	}
	if err != nil {
		return fmt.Errorf("reading the log of partition %q: %w", l.partition, err)
	}
	return nil
}
