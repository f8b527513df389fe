package localhost

import (
	"context"
	"log/slog"
	"time"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/events"
)

// Where instances share a store, any of them may vanish, and what it was at falls to the others.
const (
	// visitInterval is how often an instance looks for what others left, with one query.
	visitInterval = time.Minute
	// takeOverAfter a row was written, its instance counts as gone. An instance renews its row before it writes
	// (renewAfter), so the clocks of instances may differ by a minute and a half.
	takeOverAfter = 2 * time.Minute
	// verifyInterval is how long an instance may serve a cluster that was deleted elsewhere.
	verifyInterval = 10 * time.Second
	// sweepInterval is how often what was left of clusters is looked for, and sweepAfter how long their
	// making or deleting may take.
	sweepInterval, sweepAfter = time.Hour, time.Hour
)

// neighbours are the instances that share the store, as their dirty rows show them.
type neighbours struct {
	host  *Host
	swept time.Time
}

// run visits until the context ends.
func (n *neighbours) run(ctx context.Context) {
	ticker := time.NewTicker(visitInterval)
	defer ticker.Stop()
	n.swept = time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if err := n.visit(ctx, now); err != nil && ctx.Err() == nil {
				slog.Warn("cannot look for what other instances left, will try again", "error", err)
			}
		}
	}
}

// visit takes over what instances left that are gone.
func (n *neighbours) visit(ctx context.Context, now time.Time) error {
	marks, sweeps, err := leftRows(ctx, n.host.store)
	if err != nil {
		return err
	}
	for _, m := range marks {
		if m.instance != n.host.instance && m.left(now) && now.Sub(m.wake) >= takeOverAfter {
			if err := n.takeOver(ctx, m); err != nil {
				return err
			}
		}
	}
	if now.Sub(n.swept) >= sweepInterval {
		n.swept = now
		if err := n.host.maker.Sweep(ctx, now.Add(-sweepAfter)); err != nil {
			return err
		}
	}
	return n.host.sweep(ctx, sweeps, now)
}

// takeOver makes what another instance left this one's own: its row first, so that it is never nobody's.
func (n *neighbours) takeOver(ctx context.Context, m dirtyMark) error {
	a, err := n.host.takeOver(ctx, m.cluster, []dirtyMark{m})
	if a == nil {
		return err
	}
	defer a.leave()
	a.functions.Ring(events.Timer{Cluster: m.cluster, Time: time.Now()}.Event())
	return nil
}

// verify returns cluster.ErrNotFound for a cluster that another instance deleted. It asks now and then.
func (h *Host) verify(ctx context.Context, a *awake) error {
	if !h.opts.Store.Shared || !a.unverified() {
		return nil
	}
	info, err := h.maker.Registry.Get(ctx, a.info.Name)
	if err == nil && info.ID != a.info.ID {
		err = cluster.ErrNotFound
	}
	return err
}

// unverified reports whether it is time to ask whether the cluster exists, and has others not ask.
func (a *awake) unverified() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ago(a.verified) < verifyInterval {
		return false
	}
	a.verified = time.Now()
	return true
}
