package tablelog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// compactBatch is the number of log rows read at a time; what they let go fits in one transaction,
// or in a few.
const compactBatch = 32

// Compact removes the changes before a revision, or before the newest change if that is older, and
// returns the oldest revision kept. It removes about maxRows rows at most; call it again while it
// returns less than was asked for.
//
// That revision is the oldest that states can be read at and changes read from; what comes before
// gives ErrCompacted, in this instance at once, in others when they look at the rows.
//
// What stays readable needs no change of the past: every row that a kept change names as its
// predecessor is kept, and every row of an object's present value. So a change that becomes too old
// takes with it the row of the change before it, and its own only if it was a deletion.
//
// Keep changes longer than any commit can be under way: one that was sent before its revision was
// taken by another, and arrives after that row is gone, would be accepted.
func (l *Log) Compact(ctx context.Context, before uint64, maxRows int) (uint64, error) {
	s, err := l.Current(ctx)
	if err != nil {
		return 0, err
	}
	before = min(before, s.Rev)
	for done, lost := 0, 0; ; {
		floor, err := l.readFloor(ctx)
		if err != nil || floor.rev >= before || done >= maxRows || lost == maxAttempts {
			return floor.rev, err
		}
		n, err := l.compactOnce(ctx, floor, before)
		var conflict *table.ConflictError
		switch {
		case errors.As(err, &conflict):
			lost++ // another instance compacts, or our reply was lost: look again
		case err != nil:
			return floor.rev, fmt.Errorf("compacting partition %q: %w", l.partition, err)
		}
		done += n
	}
}

// compactOnce moves the floor by one transaction and returns the number of rows examined or removed, whichever is more.
func (l *Log) compactOnce(ctx context.Context, floor floorRow, before uint64) (int, error) {
	records, err := l.records(ctx, floor.rev, min(before-1, floor.rev+compactBatch-1))
	if err != nil {
		return 0, err
	}
	ops := []table.Op{{}} // the floor's own
	next := floor.rev
	if next == firstRevision {
		next++ // an empty log has that revision without a row
	}
	for _, r := range records {
		if r.rev != next {
			return 0, l.missing(ctx, floor, next)
		}
		gone := r.outlived()
		if len(ops)+len(gone) > table.MaxOps {
			break
		}
		ops = append(ops, gone...)
		next++
	}
	ops[0] = table.Op{Kind: table.Insert, Key: floorKey, Value: binary.BigEndian.AppendUint64([]byte{floorSchema}, next)}
	if floor.etag != "" {
		ops[0].Kind, ops[0].ETag = table.Update, floor.etag
	}
	if err := l.store.Commit(ctx, l.partition, ops); err != nil {
		return 0, err
	}
	return max(len(ops)-1, int(next-floor.rev)), nil //nolint:gosec // one batch
}

// missing returns why a row above a floor is not there.
func (l *Log) missing(ctx context.Context, floor floorRow, rev uint64) error {
	now, err := l.readFloor(ctx)
	if err != nil {
		return err
	}
	if now.rev != floor.rev {
		return &table.ConflictError{Key: floorKey, Err: table.ErrChanged}
	}
	return fmt.Errorf("%w: no revision %d", table.ErrCorrupt, rev)
}

// outlived returns the operations that remove what nobody can ask for once a record is too old.
func (r record) outlived() []table.Op {
	var ops []table.Op
	if r.prev != 0 {
		ops = append(ops, table.Op{Kind: table.Delete, Key: logKey(r.prev), ETag: table.Any})
		for part := range r.prevParts {
			ops = append(ops, table.Op{Kind: table.Delete, Key: valueKey(r.prev, part), ETag: table.Any})
		}
	}
	if r.typ == Deleted {
		ops = append(ops, table.Op{Kind: table.Delete, Key: logKey(r.rev), ETag: table.Any})
	}
	return ops
}

// floorRow is the row that says which revisions are kept.
type floorRow struct {
	rev  uint64
	etag string
}

// readFloor returns the oldest revision kept, and notes it.
func (l *Log) readFloor(ctx context.Context) (floorRow, error) {
	row, err := l.store.Get(ctx, l.partition, floorKey)
	if errors.Is(err, table.ErrNotFound) {
		return floorRow{rev: firstRevision}, nil
	}
	if err != nil {
		return floorRow{}, fmt.Errorf("reading what is kept of partition %q: %w", l.partition, err)
	}
	if len(row.Value) != 9 || row.Value[0] != floorSchema {
		return floorRow{}, fmt.Errorf("row %q: %w", row.Key, table.ErrCorrupt)
	}
	f := floorRow{rev: binary.BigEndian.Uint64(row.Value[1:]), etag: row.ETag}
	for known := l.floor.Load(); f.rev > known; known = l.floor.Load() {
		l.floor.CompareAndSwap(known, f.rev)
	}
	return f, nil
}

// Compacted returns the oldest revision that can still be read, as far as this instance knows, or 0
// if all can.
func (l *Log) Compacted() uint64 {
	if floor := l.floor.Load(); floor > firstRevision {
		return floor
	}
	return 0
}
