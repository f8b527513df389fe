package tablelog

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// Invariants of a log that Verify names (docs/row-schema.md).
const (
	KnownRows        = "known-rows"
	Records          = "records"
	Keys             = "keys"
	DenseRevisions   = "dense-revisions"
	Floor            = "floor"
	KeptPredecessors = "kept-predecessors"
	Predecessors     = "predecessors"
	Creations        = "creations"
	ObjectRows       = "object-rows"
	Compaction       = "compaction"
	ValueRows        = "value-rows"
	Times            = "times"
)

// Finding is something that no writer of the log can have left there.
type Finding struct {
	Row       string
	Invariant string
	Message   string
}

// Verified is what Verify saw.
type Verified struct {
	// Rev is the newest revision, Floor the oldest that is kept.
	Rev, Floor uint64
	Rows       int
	Findings   []Finding
}

// VerifyOptions of Verify.
type VerifyOptions struct {
	// Value, if set, is asked for what is wrong with the value of each change, and names the invariant.
	Value func(key string, value []byte) (invariant, message string)
	// Progress, if set, is told the number of rows that were read.
	Progress func(rows int)
}

// Verify reads all rows of a partition and says where they break an invariant. Others may write to the log
// and compact it meanwhile: what may have moved is read again, in an order that settles it, before it is
// reported. What follows from a row that is missing or cannot be read is not reported beside it.
func Verify(ctx context.Context, store table.Store, partition string, o VerifyOptions) (Verified, error) {
	v := &verification{
		l: New(store, partition, Options{}), o: o, records: map[uint64]*seen{},
		suspect: map[uint64]bool{}, objects: map[string]*seen{}, values: map[uint64]map[int]int{},
	}
	steps := []func(context.Context) error{
		v.readFloor, v.scan, v.checkFloor, v.checkDensity, v.checkRecords, v.checkObjects, v.checkValues,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return v.out, fmt.Errorf("verifying partition %q: %w", partition, err)
		}
	}
	sort.SliceStable(v.out.Findings, func(i, j int) bool { return v.out.Findings[i].Row < v.out.Findings[j].Row })
	return v.out, nil
}

// seen is a record without its value.
type seen struct {
	record
	sum [sha256.Size]byte
}

// verification is a Verify under way.
type verification struct {
	l   *Log
	o   VerifyOptions
	out Verified
	// records by revision, and holes: the revisions whose rows are missing or unreadable, and reported.
	records map[uint64]*seen
	holes   []gap
	// suspect are records that were reported: nothing is concluded from them.
	suspect map[uint64]bool
	// objects by row key, nil for a row that was reported.
	objects map[string]*seen
	// values are the sizes of the value rows, by revision and part.
	values map[uint64]map[int]int
	// blind is set when the floor is not known: nothing can be said about what is below.
	blind bool
}

func (v *verification) report(row, invariant, format string, args ...any) {
	v.out.Findings = append(v.out.Findings, Finding{Row: row, Invariant: invariant, Message: fmt.Sprintf(format, args...)})
}

// readFloor comes before all else: what it says is true of everything read later.
func (v *verification) readFloor(ctx context.Context) error {
	floor, err := v.l.readFloor(ctx)
	v.blind = errors.Is(err, table.ErrCorrupt) || floor.etag != "" && floor.rev <= firstRevision
	if v.blind {
		v.report(floorKey, Floor, "the row does not hold a revision that can be the oldest kept")
		err = nil
	}
	v.out.Floor = floor.rev
	return err
}

// scan reads all rows. Log rows come first, the newest before the others, then object rows, then value rows.
func (v *verification) scan(ctx context.Context) error {
	const progressRows = 1000
	var broken error
	err := table.All(ctx, v.l.store, v.l.partition, table.Query{From: " ", To: "\x7f"}, func(row table.Row) bool {
		if v.out.Rows++; v.o.Progress != nil && v.out.Rows%progressRows == 0 {
			v.o.Progress(progressRows)
		}
		if broken = ctx.Err(); broken == nil {
			broken = v.note(ctx, row)
		}
		return broken == nil
	})
	v.out.Rev = max(v.out.Rev, firstRevision)
	return errors.Join(err, broken)
}

func (v *verification) note(ctx context.Context, row table.Row) error {
	switch {
	case strings.HasPrefix(row.Key, logClass):
		return v.noteLogRow(ctx, row)
	case strings.HasPrefix(row.Key, objectClass):
		return v.noteObjectRow(ctx, row)
	case strings.HasPrefix(row.Key, valueClass):
		if rev, part, ok := parseValueKey(row.Key); ok {
			if v.values[rev] == nil {
				v.values[rev] = map[int]int{}
			}
			v.values[rev][part] = len(row.Value)
			return nil
		}
	case row.Key == floorKey:
		return nil
	}
	v.report(row.Key, KnownRows, "no row of a log has such a key")
	return nil
}

func (v *verification) noteLogRow(ctx context.Context, row table.Row) error {
	complement, err := strconv.ParseUint(row.Key[len(logClass):], 16, 64)
	rev := ^complement
	if known := err == nil && row.Key == logKey(rev) && rev > firstRevision; !known {
		v.report(row.Key, KnownRows, "no row of a log has such a key")
		return nil
	}
	v.out.Rev = max(v.out.Rev, rev)
	r, err := decodeRecord(row.Value)
	invariant, message := Records, ""
	switch {
	case err != nil:
		message = err.Error()
	case r.rev != rev:
		invariant, message = DenseRevisions, fmt.Sprintf("the row of revision %d holds the change of revision %d", rev, r.rev)
	case r.typ == Deleted && (len(r.value) > 0 || r.parts > 0):
		message = "a deletion with a value"
	}
	if message != "" {
		v.holes = append(v.holes, gap{rev, rev})
		return v.reportIfStill(ctx, row, invariant, message)
	}
	v.records[rev] = &seen{record: r, sum: sha256.Sum256(row.Value)}
	if v.o.Value != nil && r.typ != Deleted {
		err = v.checkValue(ctx, row, r)
	}
	v.records[rev].value = nil
	return err
}

// checkValue asks what is wrong with a record's value. A value whose rows are not all there is reported
// elsewhere, or went with its log row.
func (v *verification) checkValue(ctx context.Context, row table.Row, r record) error {
	e, err := v.l.materialize(ctx, r)
	if errors.Is(err, ErrCompacted) {
		return nil
	}
	if err != nil {
		return err
	}
	if invariant, message := v.o.Value(r.key, e.Value); message != "" {
		return v.reportIfStill(ctx, row, invariant, message)
	}
	return nil
}

func (v *verification) noteObjectRow(ctx context.Context, row table.Row) error {
	v.objects[row.Key] = nil
	r, err := decodeRecord(row.Value)
	invariant, message := Records, ""
	switch {
	case err != nil:
		message = err.Error()
	case row.Key != objectKey(r.key):
		invariant, message = Keys, fmt.Sprintf("the row holds %q, whose row is %q", r.key, objectKey(r.key))
	case r.typ == Deleted:
		message = "the row of an object holds a deletion"
	}
	if message != "" {
		return v.reportIfStill(ctx, row, invariant, message)
	}
	v.objects[row.Key] = &seen{record: r, sum: sha256.Sum256(row.Value)}
	v.objects[row.Key].value = nil
	return nil
}

// reportIfStill reports a row unless it has changed or gone since it was read.
func (v *verification) reportIfStill(ctx context.Context, row table.Row, invariant, message string) error {
	now, err := v.get(ctx, row.Key)
	if err == nil && now != nil && string(now.Value) == string(row.Value) {
		v.report(row.Key, invariant, "%s", message)
	}
	return err
}

// get returns a row, nil if there is none.
func (v *verification) get(ctx context.Context, key string) (*table.Row, error) {
	row, err := v.l.store.Get(ctx, v.l.partition, key)
	if errors.Is(err, table.ErrNotFound) {
		return nil, nil
	}
	return &row, err
}

// parseValueKey takes the key of a value row apart.
func parseValueKey(key string) (rev uint64, part int, ok bool) {
	a, b, _ := strings.Cut(key[len(valueClass):], "-")
	rev, err := strconv.ParseUint(a, 16, 64)
	n, err2 := strconv.ParseUint(b, 16, 8)
	part = int(n)
	return rev, part, err == nil && err2 == nil && key == valueKey(rev, part)
}

// checkFloor comes after the scan: the head can only have moved on since the floor was read.
func (v *verification) checkFloor(context.Context) error {
	if v.out.Floor > v.out.Rev {
		v.report(floorKey, Floor, "revision %d is the oldest kept, and the newest is %d", v.out.Floor, v.out.Rev)
		v.blind = true
	}
	if v.blind {
		v.out.Floor = v.out.Rev
	}
	return nil
}

// gap is a range of revisions.
type gap struct{ from, to uint64 }

// checkDensity finds revisions that have no row. A floor that is read after the scan settles which of them
// compaction took.
func (v *verification) checkDensity(ctx context.Context) error {
	gaps := v.missing()
	if len(gaps) == 0 {
		return nil
	}
	now := floorRow{rev: v.out.Floor}
	if !v.blind {
		var err error
		if now, err = v.l.readFloor(ctx); err != nil {
			return err
		}
	}
	for _, g := range gaps {
		g.from = max(g.from, now.rev)
		switch {
		case g.from > g.to:
			continue
		case g.from == g.to:
			v.report(logKey(g.from), DenseRevisions, "revision %d is missing", g.from)
		default:
			v.report(logKey(g.from), DenseRevisions, "revisions %d to %d are missing", g.from, g.to)
		}
		v.holes = append(v.holes, g)
	}
	return nil
}

// missing returns the revisions above the floor without a row, and sorts the holes.
func (v *verification) missing() []gap {
	sort.Slice(v.holes, func(i, j int) bool { return v.holes[i].from < v.holes[j].from })
	revs := v.ordered()
	for _, h := range v.holes {
		revs = append(revs, h.from)
	}
	slices.Sort(revs)
	var gaps []gap
	next := max(v.out.Floor, firstRevision+1)
	for _, rev := range revs {
		if rev > next {
			gaps = append(gaps, gap{next, rev - 1})
		}
		next = max(next, rev+1)
	}
	return gaps
}

// hole reports whether the row of a revision is missing or cannot be read.
func (v *verification) hole(rev uint64) bool { return v.holeBetween(rev-1, rev+1) }

// holeBetween reports whether that is so of one between two revisions.
func (v *verification) holeBetween(after, before uint64) bool {
	return slices.ContainsFunc(v.holes, func(h gap) bool { return h.from < before && h.to > after })
}

// ordered returns the revisions of the records in their order.
func (v *verification) ordered() []uint64 { return sortedRows(v.records) }

// sortedRows returns the keys of a map in their order.
func sortedRows[K cmp.Ordered, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}
