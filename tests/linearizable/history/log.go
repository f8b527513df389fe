package history

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// The types of a change, as rows have them.
const (
	Created = 1
	Updated = 2
	Deleted = 3
)

// firstRevision is that of an empty log.
const firstRevision = 1

// Change is one change as its log row tells it.
type Change struct {
	Rev, Prev, Created uint64
	Type               byte
	Key                string
	// Written is when the transaction left, in Unix milliseconds.
	Written uint64
	// Token in the object's value, empty for a deletion and for objects of others.
	Token string
}

// Log is all that a log ever held, from its first change on. It is read as it grows, so that compaction takes
// nothing from it.
type Log struct {
	Partition string
	// Changes holds the change of revision R at R-2.
	Changes []Change
	// Floor is the oldest revision that the store said it keeps.
	Floor uint64

	store table.Store
	// rows are the newest log rows of the objects that there are.
	rows map[string]standing
	// wrong is what the rows had of their own that cannot be.
	wrong []Violation
}

// standing is an object as the log has it.
type standing struct {
	rev, created uint64
	row          []byte
}

// NewLog returns the log of a partition, of which nothing was read.
func NewLog(store table.Store, partition string) *Log {
	return &Log{Partition: partition, Floor: firstRevision, store: store, rows: map[string]standing{}}
}

// Head is the newest revision read.
func (l *Log) Head() uint64 { return firstRevision + uint64(len(l.Changes)) }

// At returns a change, nil if there is none.
func (l *Log) At(rev uint64) *Change {
	if rev <= firstRevision || rev > l.Head() {
		return nil
	}
	return &l.Changes[rev-firstRevision-1]
}

func logKey(rev uint64) string { return fmt.Sprintf("l-%016x", ^rev) }

// Poll reads what was added since the last time. It fails when the store does.
func (l *Log) Poll(ctx context.Context) error {
	var rows [][]byte
	q := table.Query{From: logKey(^uint64(0)), To: logKey(l.Head())}
	err := table.All(ctx, l.store, l.Partition, q, func(row table.Row) bool {
		rows = append(rows, row.Value)
		return true
	})
	if err != nil {
		return fmt.Errorf("reading partition %q: %w", l.Partition, err)
	}
	for _, row := range slices.Backward(rows) {
		if err := l.append(row); err != nil {
			return fmt.Errorf("partition %q after revision %d: %w", l.Partition, l.Head(), err)
		}
	}
	return l.pollFloor(ctx)
}

func (l *Log) pollFloor(ctx context.Context) error {
	row, err := l.store.Get(ctx, l.Partition, "m-floor")
	if errors.Is(err, table.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the floor of %q: %w", l.Partition, err)
	}
	if len(row.Value) != 9 {
		return fmt.Errorf("floor of %q: %w", l.Partition, table.ErrCorrupt)
	}
	floor := binary.BigEndian.Uint64(row.Value[1:])
	if floor < l.Floor {
		l.report("floor", "it went back from %d to %d", l.Floor, floor)
	}
	l.Floor = max(l.Floor, floor)
	return nil
}

func (l *Log) report(rule, format string, args ...any) {
	l.wrong = append(l.wrong, Violation{Rule: rule, Text: l.Partition + ": " + fmt.Sprintf(format, args...)})
}

// append takes the next row, which must follow from those before.
func (l *Log) append(row []byte) error {
	c, err := decode(row)
	if err != nil {
		return err
	}
	if want := l.Head() + 1; c.Rev != want {
		// What follows cannot be told apart from what is missing.
		l.report("dense", "revision %d is missing, %d is there", want, c.Rev)
		return fmt.Errorf("%w: revision %d is missing", errNotDense, want)
	}
	if last := l.At(l.Head()); last != nil && c.Written < last.Written {
		l.report("times", "revision %d was written at %d, the one before at %d", c.Rev, c.Written, last.Written)
	}
	before, there := l.rows[c.Key]
	switch {
	case c.Type == Created && (there || c.Prev != 0 || c.Created != c.Rev):
		l.report("chain", "revision %d creates %s, which stands at %d (previous %d, created %d)", c.Rev, c.Key, before.rev, c.Prev, c.Created)
	case c.Type != Created && (!there || c.Prev != before.rev || c.Created != before.created):
		l.report("chain", "revision %d of %s follows %d (created %d), but %d (created %d) stands there",
			c.Rev, c.Key, c.Prev, c.Created, before.rev, before.created)
	}
	if c.Type == Deleted {
		delete(l.rows, c.Key)
	} else {
		l.rows[c.Key] = standing{rev: c.Rev, created: c.Created, row: row}
	}
	l.Changes = append(l.Changes, c)
	return nil
}

var errNotDense = errors.New("the log is not dense")

// CheckRows compares the object rows with the newest log rows. Nobody may write meanwhile.
func (l *Log) CheckRows(ctx context.Context) error {
	if err := l.Poll(ctx); err != nil {
		return err
	}
	found := map[string]bool{}
	err := table.All(ctx, l.store, l.Partition, table.Query{From: "o-", To: "o."}, func(row table.Row) bool {
		c, err := decode(row.Value)
		if err != nil {
			l.report("object row", "%s: %v", row.Key, err)
			return true
		}
		s, there := l.rows[c.Key]
		switch {
		case !there:
			l.report("object row", "%s stands at revision %d, and was deleted", c.Key, c.Rev)
		case !bytes.Equal(s.row, row.Value):
			l.report("object row", "%s is of revision %d, the log has it at %d", c.Key, c.Rev, s.rev)
		}
		found[c.Key] = true
		return true
	})
	if err != nil {
		return fmt.Errorf("reading the objects of %q: %w", l.Partition, err)
	}
	for key, s := range l.rows {
		if !found[key] {
			l.report("object row", "%s at revision %d has none", key, s.rev)
		}
	}
	return nil
}

// StateAt returns the objects whose keys begin with a prefix, as they were at a revision.
func (l *Log) StateAt(prefix string, rev uint64) map[string]Seen {
	out := map[string]Seen{}
	for i := range l.Changes {
		c := &l.Changes[i]
		if c.Rev > rev {
			break
		}
		if !strings.HasPrefix(c.Key, prefix) {
			continue
		}
		if c.Type == Deleted {
			delete(out, c.Key)
		} else {
			out[c.Key] = Seen{Rev: c.Rev, Token: c.Token}
		}
	}
	return out
}

// decode reads a row as docs/row-schema.md has it.
func decode(row []byte) (Change, error) {
	const fixed = 1 + 1 + 8 + 8 // schema, type, write-id, written
	if len(row) < fixed || row[0] != 3 {
		return Change{}, fmt.Errorf("%w: row of %d bytes", table.ErrCorrupt, len(row))
	}
	c := Change{Type: row[1], Written: binary.BigEndian.Uint64(row[fixed-8:])}
	r := bytes.NewReader(row[fixed:])
	read := func() uint64 {
		v, err := binary.ReadUvarint(r)
		if err != nil {
			return 0
		}
		return v
	}
	c.Rev, c.Prev = read(), read()
	read() // previous parts
	c.Created = read()
	read()                                              // expires, whose sign does not matter here
	cause := make([]byte, min(read(), uint64(r.Len()))) //nolint:gosec // a length
	_, _ = r.Read(cause)
	name := make([]byte, min(read(), uint64(r.Len()))) //nolint:gosec // a length
	if _, err := r.Read(name); err != nil || c.Rev == 0 || c.Type < Created || c.Type > Deleted {
		return c, fmt.Errorf("%w: row of %d bytes", table.ErrCorrupt, len(row))
	}
	c.Key = string(name)
	if c.Type != Deleted {
		c.Token = string(token.Find(row[len(row)-r.Len():]))
	}
	return c, nil
}
