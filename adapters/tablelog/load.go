package tablelog

import (
	"context"
	"errors"
	"fmt"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// load makes the state from nothing: the head of the log, a scan of the object rows, and then the
// log after that head, since pages of a scan are not one snapshot. It fails with ErrCompacted when
// compaction overtook the scan. The caller leads.
//
// The changes of that tail are not kept as events: an object row may be newer than the log row that
// is applied to it, so that what stood before a change is not known.
func (l *Log) load(ctx context.Context) (*State, error) {
	if _, err := l.readFloor(ctx); err != nil {
		return nil, err
	}
	head, err := l.head(ctx)
	if err != nil {
		return nil, err
	}
	s := newState()
	s.Rev, s.written = head.rev, head.written
	var broken error
	err = table.All(ctx, l.store, l.partition, table.Query{From: objectClass, To: objectEnd}, func(row table.Row) bool {
		var e *Entry
		if e, broken = l.entry(ctx, row); broken != nil {
			return false
		}
		s.set(e)
		return true
	})
	if err == nil {
		err = broken
	}
	if err != nil {
		return nil, fmt.Errorf("loading partition %q: %w", l.partition, err)
	}
	for {
		records, err := l.since(ctx, s.Rev, s.Rev+replayPart)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			if _, err := l.applyRecord(ctx, s, r); err != nil {
				return nil, err
			}
		}
		if len(records) < replayPart {
			return s, nil
		}
	}
}

// head returns the newest record, or one of the first revision for an empty log.
func (l *Log) head(ctx context.Context) (record, error) {
	q := table.Query{From: logClass, To: logEnd, Limit: 1}
	head := record{rev: firstRevision}
	var broken error
	err := table.All(ctx, l.store, l.partition, q, func(row table.Row) bool {
		head, broken = decodeRecord(row.Value)
		return false
	})
	if err == nil {
		err = broken
	}
	if err != nil {
		return record{}, fmt.Errorf("reading the head of partition %q: %w", l.partition, err)
	}
	return head, nil
}

// entry decodes an object row.
func (l *Log) entry(ctx context.Context, row table.Row) (*Entry, error) {
	r, err := decodeRecord(row.Value)
	if err != nil {
		return nil, fmt.Errorf("row %q: %w", row.Key, err)
	}
	return l.materialize(ctx, r)
}

// materialize makes the entry that a record describes, fetching a value that stands in rows of its
// own. It fails with ErrCompacted when those are gone: the record was read before they went.
func (l *Log) materialize(ctx context.Context, r record) (*Entry, error) {
	e := &Entry{Key: r.key, Rev: r.rev, Created: r.created, Expires: r.expires, Owners: r.owners, Value: r.value}
	for part := range r.parts {
		row, err := l.store.Get(ctx, l.partition, valueKey(r.rev, part))
		if errors.Is(err, table.ErrNotFound) {
			err = fmt.Errorf("%w: %w", ErrCompacted, err)
		}
		if err != nil {
			return nil, fmt.Errorf("part %d of the value of %q at revision %d: %w", part, r.key, r.rev, err)
		}
		e.Value = append(e.Value, row.Value...)
	}
	return e, nil
}
