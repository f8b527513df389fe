package localhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/table"
)

// sweepClass is of rows that name the time at which somebody looks for what a crash left of a cluster, unless its making
// or deleting has removed the row by then. They stand beside the dirty rows, so that one query reads both.
const (
	sweepClass = "s-"
	sweepEnd   = "s."
)

// create makes a cluster.
func (h *Host) create(ctx context.Context, name string) (cluster.Info, cluster.Keys, error) {
	done, err := h.beforeHalf(ctx)
	if err != nil {
		return cluster.Info{}, cluster.Keys{}, err
	}
	info, keys, err := h.maker.Create(ctx, name, time.Now())
	if err == nil || errors.Is(err, cluster.ErrName) || errors.Is(err, cluster.ErrExists) {
		done()
	}
	return info, keys, err
}

// beforeHalf is called before a cluster is made or deleted, and returns what is called when that was done, or left
// nothing behind. Where an instance is alone it looks at its start instead.
func (h *Host) beforeHalf(ctx context.Context) (done func(), err error) {
	if !h.opts.Store.Shared {
		return func() {}, nil
	}
	// What begins a moment later is old enough to be swept by then, too.
	value, err := dirtyRow{Wake: time.Now().Add(2 * sweepAfter)}.encode()
	if err != nil {
		return nil, err
	}
	key := fmt.Sprintf("%s%016x", sweepClass, rand.Uint64()) //nolint:gosec // a name, no secret
	if err := table.Repeat(ctx, h.store, dirtyPartition, []table.Op{{Kind: table.Put, Key: key, Value: value}}); err != nil {
		return nil, fmt.Errorf("noting that a cluster may be left half made: %w", err)
	}
	return func() {
		if err := removeMark(ctx, h.store, key, table.Any); err != nil {
			slog.Warn("a row stays until somebody has looked for what was left of clusters", "row", key, "error", err)
		}
	}, nil
}

// sweep looks for what was left of clusters, if a row says that it is time.
func (h *Host) sweep(ctx context.Context, rows []dirtyMark, now time.Time) error {
	var due []dirtyMark
	for _, m := range rows {
		if m.left(now) {
			due = append(due, m)
		}
	}
	if len(due) == 0 {
		return nil
	}
	if err := h.maker.Sweep(ctx, now.Add(-sweepAfter)); err != nil {
		return err
	}
	return h.removeMarks(ctx, due)
}
