package tablelog

import (
	"context"
	"fmt"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// checkRecords compares each record with the one of the same object before it, and with what compaction
// keeps. Log rows never change, and rows of one object go oldest first: where two are seen, all between them
// are.
func (v *verification) checkRecords(ctx context.Context) error {
	newest := map[string]*seen{}
	next := map[uint64]*seen{} // by revision, the object's change after it
	var time int64
	for _, rev := range v.ordered() {
		r := v.records[rev]
		if r.written < time {
			v.report(logKey(rev), Times, "it was written before the change that comes before it")
		}
		time = r.written
		if err := v.checkRecord(ctx, r, newest[r.key]); err != nil {
			return err
		}
		if before := newest[r.key]; before != nil {
			next[before.rev] = r
		}
		newest[r.key] = r
	}
	for _, rev := range v.ordered() {
		if err := v.checkKept(ctx, v.records[rev], next[rev]); err != nil {
			return err
		}
	}
	return nil
}

// suspectRecord reports a record from which nothing is concluded any more.
func (v *verification) suspectRecord(r *seen, invariant, format string, args ...any) {
	v.suspect[r.rev] = true
	v.report(logKey(r.rev), invariant, format, args...)
}

// checkRecord checks what a record says of the past. Before is the object's record before it that was seen.
func (v *verification) checkRecord(ctx context.Context, r, before *seen) error {
	if !v.consistent(r) || r.rev < v.out.Floor || v.blind {
		return nil // what it names may be gone
	}
	if r.prev != 0 && v.records[r.prev] == nil && !v.hole(r.prev) {
		return v.checkPredecessorGone(ctx, r)
	}
	if before == nil {
		if r.prev != 0 && v.records[r.prev] != nil {
			v.suspectRecord(r, Predecessors, "revision %d of %q names revision %d as the one before, which is of %q", r.rev, r.key, r.prev, v.records[r.prev].key)
		}
		return nil
	}
	if before.rev < v.out.Floor && before.rev != r.prev || v.holeBetween(before.rev, r.rev) {
		return nil // it should have gone, which is reported as such, or what lies between is not known
	}
	v.compare(r, before)
	return nil
}

// consistent reports whether a record does not contradict itself.
func (v *verification) consistent(r *seen) bool {
	switch {
	case r.prev >= r.rev:
		v.suspectRecord(r, Predecessors, "revision %d of %q names revision %d as the one before", r.rev, r.key, r.prev)
	case (r.typ == Created) != (r.prev == 0):
		v.suspectRecord(r, Predecessors, "revision %d of %q is %s and names revision %d as the one before", r.rev, r.key, r.typ, r.prev)
	case (r.typ == Created) != (r.created == r.rev) || r.created > r.rev || r.created <= firstRevision:
		v.suspectRecord(r, Creations, "revision %d of %q is %s and says that the object was created at revision %d", r.rev, r.key, r.typ, r.created)
	default:
		return true
	}
	return false
}

// compare checks what a record says of the object's record before it.
func (v *verification) compare(r, before *seen) {
	switch {
	case r.prev == 0 && before.typ != Deleted:
		v.suspectRecord(r, Predecessors, "revision %d creates %q, which revision %d has left there", r.rev, r.key, before.rev)
	case r.prev == 0 || v.records[r.prev] == nil:
	case before.rev != r.prev:
		v.suspectRecord(r, Predecessors, "revision %d of %q names revision %d as the one before, and not revision %d", r.rev, r.key, r.prev, before.rev)
	case before.typ == Deleted:
		v.suspectRecord(r, Predecessors, "revision %d of %q is %s after revision %d deleted it", r.rev, r.key, r.typ, before.rev)
	case before.parts != r.prevParts:
		v.suspectRecord(r, Predecessors, "revision %d of %q says that revision %d has %d value rows, and it names %d", r.rev, r.key, r.prev, r.prevParts, before.parts)
	case before.created != r.created && !v.suspect[before.rev]:
		v.suspectRecord(r, Creations, "revision %d of %q says that the object was created at revision %d, revision %d says at %d", r.rev, r.key, r.created, before.rev, before.created)
	}
}

// checkPredecessorGone reports a predecessor that is missing, unless compaction has taken the record
// meanwhile. The floor is read after the row was not found.
func (v *verification) checkPredecessorGone(ctx context.Context, r *seen) error {
	row, err := v.get(ctx, logKey(r.prev))
	if err != nil || row != nil {
		return err
	}
	floor, err := v.l.readFloor(ctx)
	if err == nil && floor.rev <= r.rev {
		v.report(logKey(r.prev), KeptPredecessors, "revision %d of %q is kept, and revision %d before it is missing", r.rev, r.key, r.prev)
	}
	return err
}

// checkKept checks whether a record is to be there. Next is the object's change after it.
func (v *verification) checkKept(ctx context.Context, r, next *seen) error {
	old := r.rev < v.out.Floor && !v.blind
	if next != nil {
		if old && !v.suspect[next.rev] && !v.holeBetween(r.rev, next.rev) && (next.rev < v.out.Floor || next.prev != r.rev) {
			v.report(logKey(r.rev), Compaction, "revision %d of %q is below the oldest kept, %d, and nothing names it", r.rev, r.key, v.out.Floor)
		}
		return nil
	}
	if _, there := v.objects[objectKey(r.key)]; there {
		return nil
	}
	if r.typ == Deleted {
		if old {
			v.report(logKey(r.rev), Compaction, "revision %d deleted %q, and is below the oldest kept, %d", r.rev, r.key, v.out.Floor)
		}
		return nil
	}
	if v.holeBetween(r.rev, v.out.Rev+1) {
		return nil // the change that is not known may have deleted it
	}
	return v.checkObjectGone(ctx, r)
}

// checkObjectGone reports an object whose newest change is no deletion and that has no row, unless it was
// changed since the scan. The log is read after the row was not found, and then the change itself: while that
// is kept, so is the one that came after it.
func (v *verification) checkObjectGone(ctx context.Context, r *seen) error {
	row, err := v.get(ctx, objectKey(r.key))
	if err != nil || row != nil {
		return err
	}
	touched := false
	q := table.Query{From: logClass, To: logKey(v.out.Rev)}
	err = table.All(ctx, v.l.store, v.l.partition, q, func(row table.Row) bool {
		later, err := decodeRecord(row.Value)
		touched = err != nil || later.key == r.key // what cannot be read may be of any object
		return !touched
	})
	if err != nil || touched {
		return err
	}
	row, err = v.get(ctx, logKey(r.rev))
	if err == nil && row != nil {
		v.report(objectKey(r.key), ObjectRows, "revision %d, the newest of %q, is %s, and the object has no row", r.rev, r.key, r.typ)
	}
	return err
}

// checkObjects compares object rows with log rows.
func (v *verification) checkObjects(ctx context.Context) error {
	newest := map[string]uint64{}
	for rev, r := range v.records {
		newest[r.key] = max(newest[r.key], rev)
	}
	for _, key := range sortedRows(v.objects) {
		o := v.objects[key]
		if o == nil || v.hole(o.rev) {
			continue
		}
		if r := v.records[o.rev]; r != nil && r.sum == o.sum && newest[o.key] == o.rev {
			continue
		}
		if err := v.checkObject(ctx, key, newest[o.key]); err != nil {
			return err
		}
	}
	return nil
}

// checkObject reads an object row, then its log row, then the object row again. If that is the same, the log
// row cannot have gone in between: compaction keeps it as long as the object has no newer one.
func (v *verification) checkObject(ctx context.Context, key string, newest uint64) error {
	for range maxAttempts {
		row, err := v.get(ctx, key)
		if err != nil || row == nil {
			return err
		}
		o, err := decodeRecord(row.Value)
		if err != nil {
			return nil //nolint:nilerr // it was written since, and not by us
		}
		logRow, err := v.get(ctx, logKey(o.rev))
		if err != nil {
			return err
		}
		again, err := v.get(ctx, key)
		if err != nil || again == nil {
			return err
		}
		if string(again.Value) != string(row.Value) {
			continue
		}
		switch {
		case logRow == nil:
			v.report(key, ObjectRows, "%q is at revision %d, which has no log row", o.key, o.rev)
		case string(logRow.Value) != string(row.Value):
			v.report(key, ObjectRows, "%q is at revision %d, and differs from the log row of that revision", o.key, o.rev)
		case newest > o.rev:
			v.report(key, ObjectRows, "%q is at revision %d, and its newest change is of revision %d", o.key, o.rev, newest)
		}
		return nil
	}
	return nil // it is changed all the time
}

// checkValues compares value rows with the log rows that name them.
func (v *verification) checkValues(ctx context.Context) error {
	for _, rev := range v.ordered() {
		r := v.records[rev]
		for part := range r.parts {
			if err := v.checkPart(ctx, r, part); err != nil {
				return err
			}
		}
	}
	for _, rev := range sortedRows(v.values) {
		for _, part := range sortedRows(v.values[rev]) {
			r := v.records[rev]
			if v.hole(rev) || r != nil && part < r.parts {
				continue
			}
			if err := v.checkOrphan(ctx, rev, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkPart looks for a value row, and then for the log row that names it: they go together.
func (v *verification) checkPart(ctx context.Context, r *seen, part int) error {
	size, there := v.values[r.rev][part]
	last := part == r.parts-1
	if there && (size == table.MaxRowBytes || last && size > 0 && size < table.MaxRowBytes) {
		return nil
	}
	key, message := valueKey(r.rev, part), fmt.Sprintf("part %d of the value of %q at revision %d has %d bytes", part, r.key, r.rev, size)
	if !there {
		row, err := v.get(ctx, key)
		if err != nil || row != nil {
			return err
		}
		message = fmt.Sprintf("part %d of the value of %q at revision %d is missing", part, r.key, r.rev)
	}
	row, err := v.get(ctx, logKey(r.rev))
	if err == nil && row != nil {
		v.report(key, ValueRows, "%s", message)
	}
	return err
}

// checkOrphan looks for the log row that names a value row, and then for the value row again.
func (v *verification) checkOrphan(ctx context.Context, rev uint64, part int) error {
	row, err := v.get(ctx, logKey(rev))
	if err != nil {
		return err
	}
	if row != nil {
		if r, err := decodeRecord(row.Value); err != nil || part < r.parts {
			return nil //nolint:nilerr // it was written since the scan; if it is damaged, the next one reports it
		}
	}
	key := valueKey(rev, part)
	value, err := v.get(ctx, key)
	if err == nil && value != nil {
		v.report(key, ValueRows, "no log row names it")
	}
	return err
}
