package tablelog

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// Restoring fills an empty partition with what was saved of a log. Until Close has returned, the partition is
// not a log yet.
type Restoring struct {
	store     table.Store
	partition string
	rev       uint64
	newest    bool
	ops       []table.Op
	bytes     int
}

// Restore begins to fill a partition, which must be empty, with a log as it was at a revision.
func Restore(store table.Store, partition string, rev uint64) *Restoring {
	return &Restoring{store: store, partition: partition, rev: rev, newest: rev == firstRevision}
}

// Add writes a saved change, now or with those to come. It fails with table.ErrInvalid for one that no log
// of that revision can hold.
func (r *Restoring) Add(ctx context.Context, s Saved) error {
	if err := s.check(r.rev); err != nil {
		return err
	}
	rec := record{
		typ: s.Type, writeID: s.WriteID, written: s.Written, rev: s.Rev, prev: s.Prev, prevParts: s.PrevParts,
		created: s.Created, expires: s.Expires, key: s.Key, owners: s.Owners, value: s.Value,
	}
	ops := rec.detach()
	encoded := rec.encode()
	ops = append(ops, table.Op{Kind: table.Put, Key: logKey(s.Rev), Value: encoded})
	if s.Object {
		ops = append(ops, table.Op{Kind: table.Put, Key: objectKey(s.Key), Value: encoded})
	}
	bytes := 0
	for _, op := range ops {
		bytes += len(op.Value)
	}
	if len(r.ops) > 0 && (len(r.ops)+len(ops) > table.MaxOps || r.bytes+bytes > maxBatchBytes) {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	r.ops, r.bytes = append(r.ops, ops...), r.bytes+bytes
	r.newest = r.newest || s.Rev == r.rev
	return nil
}

func (s Saved) check(rev uint64) error {
	reason := ""
	switch {
	case s.Key == "":
		reason = "has no key"
	case s.Type < Created || s.Type > Deleted:
		reason = "is of no known type"
	case s.Rev <= firstRevision || s.Rev > rev:
		reason = fmt.Sprintf("is not among the revisions up to %d", rev)
	case s.Prev >= s.Rev || s.Created > s.Rev || s.Created == 0:
		reason = "names a predecessor or a creation that came later"
	case s.Object && s.Type == Deleted:
		reason = "is a deletion and an object"
	case s.Written < 0 || s.PrevParts < 0 || s.PrevParts > table.MaxOps:
		reason = "has a number that no change has"
	}
	if reason == "" {
		return nil
	}
	return fmt.Errorf("%w: the change of %q at revision %d %s", table.ErrInvalid, s.Key, s.Rev, reason)
}

// Close writes the rest. The log then begins at its revision: what came before cannot be read or watched.
func (r *Restoring) Close(ctx context.Context) error {
	if !r.newest {
		return fmt.Errorf("%w: the change of revision %d is missing", table.ErrInvalid, r.rev)
	}
	if r.rev == firstRevision {
		return nil
	}
	if len(r.ops) == table.MaxOps {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	floor := binary.BigEndian.AppendUint64([]byte{floorSchema}, r.rev)
	r.ops = append(r.ops, table.Op{Kind: table.Put, Key: floorKey, Value: floor})
	return r.flush(ctx)
}

// flush commits what waits. A repetition changes nothing.
func (r *Restoring) flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := table.Repeat(ctx, r.store, r.partition, r.ops); err != nil {
		return fmt.Errorf("restoring partition %q: %w", r.partition, err)
	}
	r.ops, r.bytes = r.ops[:0], 0
	return nil
}
