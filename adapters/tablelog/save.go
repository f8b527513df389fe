package tablelog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// Saved is a change as it is kept outside the store.
type Saved struct {
	Type Type
	// WriteID names the transaction that made the change.
	WriteID uint64
	// Written is when that was, in Unix milliseconds, 0 if it was not noted.
	Written int64
	// Rev is the change's revision, Prev that of the object's change before, Created that of its creation.
	Rev, Prev, Created uint64
	// PrevParts is the number of rows that held the value before, if it was large.
	PrevParts int
	// Expires is a Unix time in seconds, 0 for never.
	Expires int64
	Key     string
	Owners  []string
	Value   []byte
	// Object is set for what an object is. The others, two at most, are what the end of a log needs: its
	// newest change if that is a deletion, and the change of the same object before the newest.
	Object bool
}

// Position is the newest change of a log.
type Position struct {
	Rev uint64
	// Written is when it was, in Unix milliseconds, 0 if it was not noted or the log is empty.
	Written int64
}

// Head reads the newest position.
func (l *Log) Head(ctx context.Context) (Position, error) {
	r, err := l.head(ctx)
	return Position{Rev: r.rev, Written: r.written}, err
}

// TooOldError is returned for a time from which a log keeps no state.
type TooOldError struct {
	// Oldest is the earliest time from which it does, zero if it does from none.
	Oldest time.Time
}

func (e *TooOldError) Error() string {
	if e.Oldest.IsZero() {
		return "no times are noted in the log: a program wrote it that did not note them"
	}
	return "the log is kept from " + e.Oldest.UTC().Format(time.RFC3339Nano) + " on"
}

// RevisionAt returns the newest revision that was written at a time or before it, by the writers' clocks. It
// fails with a *TooOldError.
func (l *Log) RevisionAt(ctx context.Context, at time.Time) (Position, error) {
	floor, err := l.readFloor(ctx)
	if err != nil {
		return Position{}, err
	}
	found := Position{Rev: firstRevision}
	var next uint64 // the revision to come, 0 before the first record
	var oldest int64
	whole := true
	err = l.backwards(ctx, floor.rev, ^uint64(0), func(r record) error {
		switch {
		case next != 0 && r.rev != next, r.written == 0:
			whole = false // compaction overtook the walk, or an older program wrote this
			return errEnough
		case r.written <= at.UnixMilli():
			found = Position{Rev: r.rev, Written: r.written}
			return errEnough
		}
		next, oldest = r.rev-1, r.written
		return nil
	})
	if err != nil {
		return Position{}, err
	}
	// Without a find, the walk has to have come to the beginning of the log.
	if found.Rev != firstRevision || whole && floor.rev == firstRevision && (next == firstRevision || next == 0) {
		return found, nil
	}
	old := &TooOldError{}
	if oldest != 0 {
		old.Oldest = time.UnixMilli(oldest)
	}
	return Position{}, old
}

// Save calls yield for what a log consisted of at a revision: what compaction up to there would have left of
// it, had nothing followed. It reads the store, whatever this instance has in memory, and the changes
// after the revision to undo them. It fails with ErrCompacted, also when compaction overtakes it, or with ErrFuture.
func (l *Log) Save(ctx context.Context, rev uint64, yield func(Saved) error) error {
	floor, err := l.readFloor(ctx)
	if err != nil {
		return err
	}
	head, err := l.head(ctx)
	if err != nil {
		return err
	}
	switch {
	case rev < floor.rev:
		return fmt.Errorf("partition %q: revision %d: %w", l.partition, rev, ErrCompacted)
	case rev > head.rev:
		return fmt.Errorf("partition %q: revision %d: %w", l.partition, rev, ErrFuture)
	case rev == firstRevision && head.rev == rev:
		return nil
	}
	v := saving{l: l, rev: rev, yield: yield, given: map[uint64]struct{}{}}
	for _, step := range []func(context.Context) error{v.unchanged, v.changedSince, v.newest} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("saving partition %q: %w", l.partition, err)
		}
	}
	return nil
}

// saving is a Save under way.
type saving struct {
	l     *Log
	rev   uint64
	yield func(Saved) error
	// given are the revisions of the objects that were given.
	given map[uint64]struct{}
}

// unchanged gives the objects whose rows are not newer than the revision.
func (v *saving) unchanged(ctx context.Context) error {
	var broken error
	err := table.All(ctx, v.l.store, v.l.partition, table.Query{From: objectClass, To: objectEnd}, func(row table.Row) bool {
		var r record
		if r, broken = decodeRecord(row.Value); broken != nil {
			broken = fmt.Errorf("row %q: %w", row.Key, broken)
			return false
		}
		if r.rev <= v.rev {
			broken = v.give(ctx, r, true)
		}
		return broken == nil
	})
	if err == nil {
		err = broken
	}
	return err
}

// changedSince gives the objects that were changed after the revision, as they were at it.
func (v *saving) changedSince(ctx context.Context) error {
	before := map[string]uint64{} // by key, the revision that the oldest change names as its predecessor
	var next uint64
	err := v.l.backwards(ctx, v.rev+1, ^uint64(0), func(r record) error {
		if next != 0 && r.rev != next {
			return fmt.Errorf("revision %d: %w", next, ErrCompacted)
		}
		before[r.key], next = r.prev, r.rev-1
		return nil
	})
	if err != nil {
		return err
	}
	if next != 0 && next != v.rev {
		return fmt.Errorf("revision %d: %w", next, ErrCompacted)
	}
	var missing []uint64
	for _, rev := range before {
		if _, given := v.given[rev]; rev != 0 && !given {
			missing = append(missing, rev)
		}
	}
	slices.Sort(missing)
	for _, rev := range missing {
		r, err := v.l.recordAt(ctx, rev)
		if err == nil {
			err = v.give(ctx, r, true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// newest gives what the log's end needs beside objects.
func (v *saving) newest(ctx context.Context) error {
	if v.rev == firstRevision {
		return nil
	}
	last, err := v.l.recordAt(ctx, v.rev)
	if err != nil {
		return err
	}
	if last.typ == Deleted {
		if err := v.give(ctx, last, false); err != nil {
			return err
		}
	}
	if last.prev == 0 {
		return nil
	}
	prev, err := v.l.recordAt(ctx, last.prev)
	if err != nil {
		return err
	}
	return v.give(ctx, prev, false)
}

func (v *saving) give(ctx context.Context, r record, object bool) error {
	e, err := v.l.materialize(ctx, r)
	if err != nil {
		return err
	}
	if object {
		v.given[r.rev] = struct{}{}
	}
	return v.yield(r.saved(e.Value, object))
}

// recordAt returns the record of a revision, or ErrCompacted.
func (l *Log) recordAt(ctx context.Context, rev uint64) (record, error) {
	row, err := l.store.Get(ctx, l.partition, logKey(rev))
	if errors.Is(err, table.ErrNotFound) {
		return record{}, fmt.Errorf("revision %d: %w", rev, ErrCompacted)
	}
	if err != nil {
		return record{}, err
	}
	return decodeRecord(row.Value)
}

// Floor reads the oldest revision that is kept.
func (l *Log) Floor(ctx context.Context) (uint64, error) {
	floor, err := l.readFloor(ctx)
	return floor.rev, err
}

// Peek returns what a row of a log says of its change, without a value that stands in rows of its own, and
// whether it is the row of an object. A row that holds no change gives none.
func Peek(row table.Row) (change Saved, object bool, err error) {
	object = strings.HasPrefix(row.Key, objectClass)
	if !object && !strings.HasPrefix(row.Key, logClass) {
		return Saved{}, false, nil
	}
	r, err := decodeRecord(row.Value)
	if err != nil {
		return Saved{}, object, fmt.Errorf("row %q: %w", row.Key, err)
	}
	return r.saved(r.value, object), object, nil
}

func (r record) saved(value []byte, object bool) Saved {
	return Saved{
		Type: r.typ, WriteID: r.writeID, Written: r.written, Rev: r.rev, Prev: r.prev, Created: r.created, PrevParts: r.prevParts,
		Expires: r.expires, Key: r.key, Owners: r.owners, Value: value, Object: object,
	}
}
