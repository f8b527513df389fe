package instances

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/zeroplane/zeroplane/adapters/table"
)

var (
	errKilled = errors.New("the instance was killed")
	errBusy   = errors.New("the table is busy")
	errLost   = errors.New("no answer from the table")
)

// mortal is the store as one instance reaches it, until it is killed.
type mortal struct {
	world *World
	// commits and reads are how many are left, 0 for as many as it likes. The last commit lands or does not.
	commits, reads atomic.Int64
	lands          bool
	dead           atomic.Bool
}

// last reports whether this was the last of what is counted.
func last(left *atomic.Int64) bool { return left.Load() > 0 && left.Add(-1) == 0 }

// Commit implements table.Store.
func (m *mortal) Commit(ctx context.Context, partition string, ops []table.Op) error {
	if m.dead.Load() {
		return errKilled
	}
	if last(&m.commits) {
		if m.lands {
			_ = m.world.commit(ctx, partition, ops)
		}
		m.dead.Store(true)
		return errKilled
	}
	f, counts := m.world.faults.Load(), &m.world.Counts
	if !f.OfTable() {
		return m.world.commit(ctx, partition, ops)
	}
	r := m.world.draw("commit")
	switch chance := r.Float64(); {
	case chance < f.Busy:
		counts.Busy.Add(1)
		return errBusy
	case chance < f.Busy+f.Lost:
		counts.Lost.Add(1)
		if r.IntN(2) == 0 {
			_ = m.world.commit(ctx, partition, ops)
		}
		return errLost
	}
	return m.world.commit(ctx, partition, ops)
}

// commit is that of the store itself, one after the other if somebody is told.
func (w *World) commit(ctx context.Context, partition string, ops []table.Op) error {
	if w.opts.Committed == nil {
		return w.Store.Commit(ctx, partition, ops)
	}
	w.committing.Lock()
	defer w.committing.Unlock()
	if err := w.Store.Commit(ctx, partition, ops); err != nil {
		return err
	}
	w.opts.Committed(partition)
	return nil
}

// read is an error where the instance does not live to read, or the table refuses.
func (m *mortal) read() error {
	if last(&m.reads) {
		m.dead.Store(true)
	}
	if m.dead.Load() {
		return errKilled
	}
	if f := m.world.faults.Load(); f.OfTable() && m.world.draw("read").Float64() < f.Busy {
		m.world.Counts.Busy.Add(1)
		return errBusy
	}
	return nil
}

// Get implements table.Store.
func (m *mortal) Get(ctx context.Context, partition, key string) (table.Row, error) {
	if err := m.read(); err != nil {
		return table.Row{}, err
	}
	return m.world.Store.Get(ctx, partition, key)
}

// Range implements table.Store.
func (m *mortal) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	if err := m.read(); err != nil {
		return table.Page{}, err
	}
	if f := m.world.faults.Load(); f.Short > 0 {
		if r := m.world.draw("page"); r.Float64() < f.Short {
			m.world.Counts.Short.Add(1)
			q.Limit = 1 + r.IntN(shortest)
		}
	}
	return m.world.Store.Range(ctx, partition, q)
}

// shortest is up to how many rows a short page has.
const shortest = 3
