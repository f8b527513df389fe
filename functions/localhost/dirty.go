package localhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table"
)

const (
	dirtyPartition = "_dirty"
	dirtyClass     = "d-"
	dirtyEnd       = "d."
)

// dirtyRow says that a cluster has work left: at once, or at a time.
type dirtyRow struct {
	// Wake is when something is due, zero for at once.
	Wake time.Time `json:"wake"`
}

// dirty keeps one cluster's row. The row is there before the first write after a quiet period, and
// goes, or names a time, once every function has seen the last one.
type dirty struct {
	store   table.Store
	cluster string

	mu sync.Mutex
	// known is set once it is known what the row is: there or not, and when it names a time, wake.
	known, there bool
	wake         time.Time
	inFlight     int
	// timer runs only while the cluster is dirty; tick is what it does.
	timer *time.Timer
	tick  func()
}

// timerInterval is how long a cluster may stay dirty before the timer looks for cursors that were
// left behind: a bell is quick, and no guarantee.
const timerInterval = 30 * time.Second

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
	if !d.atOnce() {
		if err := d.put(ctx, dirtyRow{}); err != nil {
			return nil, err
		}
		d.arm()
	}
	d.inFlight++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.inFlight--
	}, nil
}

func (d *dirty) put(ctx context.Context, row dirtyRow) error {
	value, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("encoding a dirty row: %w", err)
	}
	d.known = false
	op := table.Op{Kind: table.Put, Key: dirtyClass + d.cluster, Value: value}
	if err := d.store.Commit(ctx, dirtyPartition, []table.Op{op}); err != nil {
		return fmt.Errorf("marking cluster %q dirty: %w", d.cluster, err)
	}
	d.known, d.there, d.wake = true, true, row.Wake
	return nil
}

// clean removes the row, or lets it name the next time, unless a write is under way or the
// functions have not caught up. It reports whether it did.
func (d *dirty) clean(ctx context.Context, next time.Time, caughtUp func() bool) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inFlight > 0 || !caughtUp() {
		return false, nil
	}
	if !next.IsZero() {
		if d.known && d.there && d.wake.Equal(next) {
			return true, nil
		}
		err := d.put(ctx, dirtyRow{Wake: next})
		return err == nil, err
	}
	if d.known && !d.there {
		return true, nil
	}
	d.known = false
	if err := removeDirty(ctx, d.store, d.cluster); err != nil {
		return false, err
	}
	d.known, d.there = true, false
	return true, nil
}

// removeDirty removes a cluster's row, if there is one.
func removeDirty(ctx context.Context, store table.Store, name string) error {
	err := store.Commit(ctx, dirtyPartition, []table.Op{{Kind: table.Delete, Key: dirtyClass + name, ETag: table.Any}})
	if err != nil && !errors.Is(err, table.ErrNotFound) {
		return fmt.Errorf("marking cluster %q clean: %w", name, err)
	}
	return nil
}

// dirtyClusters returns the clusters with work left, and when it is due, zero for at once.
func dirtyClusters(ctx context.Context, store table.Store) (map[string]time.Time, error) {
	out := map[string]time.Time{}
	var broken error
	err := table.All(ctx, store, dirtyPartition, table.Query{From: dirtyClass, To: dirtyEnd}, func(row table.Row) bool {
		var r dirtyRow
		if broken = json.Unmarshal(row.Value, &r); broken == nil {
			out[row.Key[len(dirtyClass):]] = r.Wake
		}
		return broken == nil
	})
	if err = errors.Join(err, broken); err != nil {
		return nil, fmt.Errorf("reading dirty rows: %w", err)
	}
	return out, nil
}
