package localhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/table"
)

const (
	dirtyPartition = "_dirty"
	dirtyClass     = "d-"
)

// dirtyRow says that an instance left work of a cluster: at once, or at a time.
type dirtyRow struct {
	// Wake is when something is due, zero for at once.
	Wake time.Time `json:"wake"`
	// Written is when the instance wrote the row, by its own clock.
	Written time.Time `json:"written"`
}

// dirty keeps one cluster's row. The row is there before the first write after a quiet period, and
// goes, or names a time, once every function has seen the last one. Where instances share a store each
// keeps a row of its own, and takes over the rows of those that are gone (neighbours.go).
type dirty struct {
	store   table.Store
	cluster string
	// instance is the one that keeps the row, empty where there is but one.
	instance string

	mu sync.Mutex
	// known is set once it is known what the row is: there or not, and when it names a time, wake.
	known, there bool
	wake         time.Time
	// written is when the row last was, and named when it last was with a time.
	written  time.Time
	named    time.Time
	inFlight int
	// timer runs only while the cluster is dirty; tick is what it does.
	timer *time.Timer
	tick  func()
	// marks, if set, is called when the row was written because there is work.
	marks func()
	// writes, if set, is called before each write.
	writes func()
}

// timerInterval is how long a cluster may stay dirty before the timer looks for cursors that were
// left behind: a bell is quick, and no guarantee.
const timerInterval = 30 * time.Second

// renewAfter is how old a row may be before a write renews it. It is much less than the time after which
// others take it over: a write is never made under a row that somebody else removes.
const renewAfter = 30 * time.Second

// renewNamedAfter is how old a row that names a time may be before its instance writes it again when it settles: long
// before others may take it for one of an instance that is gone (goneAfter).
const renewNamedAfter = 30 * time.Minute

// ago is how long ago something was, by the clock that says longer: where a host freezes the process the monotonic
// one may stand still, and the other may be set back.
func ago(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

func (d *dirty) key() string {
	if d.instance == "" {
		return dirtyClass + d.cluster
	}
	return dirtyClass + d.cluster + "." + d.instance
}

// arm starts the timer. The caller holds mu.
func (d *dirty) arm() {
	if d.timer == nil {
		d.timer = time.AfterFunc(timerInterval, d.fire)
		return
	}
	d.timer.Reset(timerInterval)
}

func (d *dirty) fire() {
	d.mu.Lock()
	still := d.atOnce() && d.tick != nil
	if still {
		d.arm()
	}
	d.mu.Unlock()
	if still {
		d.tick()
	}
}

// stop ends the timer, for a cluster that goes to sleep.
func (d *dirty) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tick = nil
	if d.timer != nil {
		d.timer.Stop()
	}
}

// marked reports whether the row says that there is work left at once.
func (d *dirty) marked() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.atOnce()
}

func (d *dirty) atOnce() bool { return d.known && d.there && d.wake.IsZero() }

// beforeWrite marks the cluster dirty. The write has ended when the returned function is called.
func (d *dirty) beforeWrite(ctx context.Context) (ended func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.mark(ctx); err != nil {
		return nil, err
	}
	d.inFlight++
	if d.writes != nil {
		d.writes()
	}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.inFlight--
	}, nil
}

// mark writes the row unless it is there. The caller holds mu.
func (d *dirty) mark(ctx context.Context) error {
	if d.atOnce() && (d.instance == "" || ago(d.written) < renewAfter) {
		return nil
	}
	if err := d.put(ctx); err != nil {
		return err
	}
	if d.marks != nil {
		d.marks()
	}
	d.arm()
	return nil
}

// takeOver marks the cluster dirty for what another instance left.
func (d *dirty) takeOver(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mark(ctx)
}

// put writes the row that says "at once". One that comes late does no harm.
func (d *dirty) put(ctx context.Context) error {
	written := time.Now()
	value, err := dirtyRow{Written: written.UTC()}.encode()
	if err != nil {
		return err
	}
	d.known = false
	op := table.Op{Kind: table.Put, Key: d.key(), Value: value}
	if err := table.Repeat(ctx, d.store, dirtyPartition, []table.Op{op}); err != nil {
		return fmt.Errorf("marking cluster %q dirty: %w", d.cluster, err)
	}
	d.known, d.there, d.wake, d.written = true, true, time.Time{}, written
	return nil
}

func (r dirtyRow) encode() ([]byte, error) {
	value, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding a dirty row: %w", err)
	}
	return value, nil
}

// clean removes the row, or lets it name the next time, unless a write is under way or the
// functions have not caught up. It reports whether it did.
func (d *dirty) clean(ctx context.Context, next time.Time, caughtUp func() bool) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inFlight > 0 || !caughtUp() {
		return false, nil
	}
	wanted := !next.IsZero()
	if d.known && d.there == wanted && (!wanted || d.wake.Equal(next) && (d.instance == "" || ago(d.named) < renewNamedAfter)) {
		return true, nil
	}
	d.known = false
	if err := d.replace(ctx, next); err != nil {
		return false, fmt.Errorf("cleaning the dirty row %q: %w", d.key(), err)
	}
	d.known, d.there, d.wake, d.named = true, wanted, next, time.Now()
	return true, nil
}

// replace has the row name a time, or removes it where that is zero, if the row stays as it is read here: where the
// outcome is unknown this may come late, and then it must not undo what was marked since. The caller holds mu.
func (d *dirty) replace(ctx context.Context, next time.Time) error {
	row, err := d.store.Get(ctx, dirtyPartition, d.key())
	missing := errors.Is(err, table.ErrNotFound)
	if err != nil && !missing {
		return err
	}
	if missing && next.IsZero() {
		return nil
	}
	op := table.Op{Kind: table.Delete, Key: d.key(), ETag: row.ETag}
	if !next.IsZero() {
		op.Kind = table.Update
		if missing {
			op.Kind = table.Insert
		}
		if op.Value, err = (dirtyRow{Wake: next, Written: time.Now().UTC()}).encode(); err != nil {
			return err
		}
	}
	return d.store.Commit(ctx, dirtyPartition, []table.Op{op})
}

// removeMark removes a row, if it is there and has the ETag.
func removeMark(ctx context.Context, store table.Store, key, etag string) error {
	err := table.Repeat(ctx, store, dirtyPartition, []table.Op{{Kind: table.Delete, Key: key, ETag: etag}})
	if err != nil && !errors.Is(err, table.ErrNotFound) && !errors.Is(err, table.ErrChanged) {
		return fmt.Errorf("removing the dirty row %q: %w", key, err)
	}
	return nil
}

// removeDirty removes all rows of a cluster that is no more. Those of another that was made since stay.
func removeDirty(ctx context.Context, store table.Store, name string) error {
	marks, err := dirtyMarks(ctx, store)
	if err != nil {
		return err
	}
	if _, err := (cluster.Registry{Store: store}).Get(ctx, name); !errors.Is(err, cluster.ErrNotFound) {
		return err
	}
	for _, m := range marks {
		if m.cluster == name {
			if err := removeMark(ctx, store, m.key, m.etag); err != nil {
				return err
			}
		}
	}
	return nil
}

// dirtyMark is a row that was read.
type dirtyMark struct {
	cluster, instance string
	// wake is when the work is due, zero for at once; written is when the row was.
	wake, written time.Time
	key, etag     string
}

// dirtyMarks returns the rows of all clusters with work left.
func dirtyMarks(ctx context.Context, store table.Store) ([]dirtyMark, error) {
	marks, _, err := leftRows(ctx, store)
	return marks, err
}

// leftRows returns the rows of all clusters with work left, and those that say when to look for what was left of
// clusters.
func leftRows(ctx context.Context, store table.Store) (marks, sweeps []dirtyMark, err error) {
	var broken error
	err = table.All(ctx, store, dirtyPartition, table.Query{From: dirtyClass, To: sweepEnd}, func(row table.Row) bool {
		var r dirtyRow
		if broken = json.Unmarshal(row.Value, &r); broken != nil {
			broken = fmt.Errorf("%w: row %q: %w", table.ErrCorrupt, row.Key, broken)
			return false
		}
		m := dirtyMark{wake: r.Wake, written: r.Written, key: row.Key, etag: row.ETag}
		if strings.HasPrefix(row.Key, sweepClass) {
			sweeps = append(sweeps, m)
			return true
		}
		m.cluster, m.instance, _ = strings.Cut(row.Key[len(dirtyClass):], ".")
		marks = append(marks, m)
		return true
	})
	if err = errors.Join(err, broken); err != nil {
		return nil, nil, fmt.Errorf("reading dirty rows: %w", err)
	}
	return marks, sweeps, nil
}
