package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
)

const (
	// retryKind names the due row with which a failed batch asks to come again.
	retryKind = "retry"
	// toldKey is where a cursor keeps what the function was told. No log group has such a name.
	toldKey = "#told"
	// firstRetry and maxRetry bound the pause after a failed batch, which doubles.
	firstRetry = 100 * time.Millisecond
	maxRetry   = time.Minute
)

// runner runs one function of one cluster. It has a goroutine only while there is work.
type runner struct {
	fn      Function
	cluster *Cluster

	mu      sync.Mutex
	running bool
	again   bool
	stopped bool
	// rung is when the function was last rung: its next batch holds at least what was committed by then.
	rung tablelog.Moment
	// cursor is nil until it was read.
	cursor   map[string]uint64
	unstored bool
	failures int
}

// ring starts the runner, or tells it to look once more. Where everything is held, the next Wake finds what there is.
// All who are rung for one thing are given the same moment, so that the first of them looks at a log for all.
func (r *runner) ring(at tablelog.Moment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rung = max(r.rung, at)
	if r.stopped {
		return
	}
	if r.running {
		r.again = true
		return
	}
	if r.cluster.enterUnheld() {
		r.running = true
		go r.run()
	}
}

// listens reports whether changes of a log group wake the function.
func (r *runner) listens(group string) bool {
	return slices.Contains(r.fn.Groups, group)
}

// run handles batches until it is at the head of its logs and nothing is due.
func (r *runner) run() {
	defer r.cluster.leave()
	for {
		r.mu.Lock()
		r.again = false
		ctx := tablelog.BeginAt(r.cluster.ctx, r.rung)
		r.mu.Unlock()
		more, err := r.batch(ctx)
		if err != nil {
			r.failed(err)
		} else {
			r.mu.Lock()
			r.failures = 0
			r.mu.Unlock()
			r.cluster.ledger.resume(r.fn.Name)
		}
		r.mu.Lock()
		if r.stopped || !more && !r.again {
			r.running = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
	}
}

// failed asks to be called again, later each time.
func (r *runner) failed(err error) {
	if r.cluster.ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	pause := min(firstRetry<<min(r.failures, 16), maxRetry)
	r.failures++
	r.mu.Unlock()
	slog.Warn("function failed, will try again", "cluster", r.cluster.Name, "function", r.fn.Name, "in", pause, "error", err)
	l := plan.Later{At: r.cluster.now().Add(pause), Kind: retryKind}
	// What is due stays so, and must not ring before.
	r.cluster.ledger.pause(r.fn.Name, l.At)
	if err := r.cluster.ledger.settle(r.cluster.ctx, r.fn.Name, nil, nil, []plan.Later{l}); err != nil {
		slog.Error("cannot store a retry; the timer will find the cursor behind", "cluster", r.cluster.Name, "function", r.fn.Name, "error", err)
	}
	r.cluster.arm()
}

// batch handles what there is. It reports whether there may be more.
func (r *runner) batch(ctx context.Context) (bool, error) {
	ctx = table.WithOrigin(ctx, "function/"+r.fn.Name)
	cursor, err := r.at(ctx)
	if err != nil {
		return false, err
	}
	now := r.cluster.now()
	due, err := r.cluster.ledger.dueFor(ctx, r.fn.Name, now)
	if err != nil {
		return false, err
	}
	b := &Batch{Cluster: r.cluster.forFunction(r.fn), Due: due, Now: now}
	next, err := r.collect(ctx, b, cursor)
	if err != nil {
		return false, err
	}
	if len(b.Changes) == 0 && len(due) == 0 && !b.Resync {
		return false, nil
	}
	began := time.Now()
	defer func() {
		slog.Debug("handled a batch", "cluster", r.cluster.Name, "function", r.fn.Name,
			"changes", len(b.Changes), "due", len(due), "resync", b.Resync, "took", time.Since(began))
	}()
	err = r.fn.Handle(ctx, b)
	counted(r.fn.Name, err)
	if err != nil {
		return false, fmt.Errorf("handling %d changes: %w", len(b.Changes), err)
	}
	if len(due)+len(b.later) > 0 {
		if err := r.cluster.ledger.settle(ctx, r.fn.Name, next, due, b.later); err != nil {
			return false, err
		}
		r.cluster.arm()
	}
	r.move(next)
	return true, nil
}

// move moves the cursor. It is stored a moment later, with those of others: a crash in between
// handles the batch again, which changes nothing.
func (r *runner) move(next map[string]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cursor = next
	r.unstored = true
}

// takeUnstored returns the cursor if it has moved since it was last taken.
func (r *runner) takeUnstored() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.unstored {
		return nil
	}
	r.unstored = false
	return r.cursor
}

// putBackUnstored says that the cursor could not be stored.
func (r *runner) putBackUnstored() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unstored = true
}

// at returns the cursor, reading it if it never was. The lock is not held while reading: those who
// hold a log ring.
func (r *runner) at(ctx context.Context) (map[string]uint64, error) {
	r.mu.Lock()
	cursor := r.cursor
	r.mu.Unlock()
	if cursor != nil {
		return cursor, nil
	}
	cursor, err := r.cluster.ledger.cursor(ctx, r.fn.Name)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cursor == nil {
		r.cursor = cursor
	}
	return r.cursor, nil
}

// collect fills a batch with the snapshot and the changes up to it, and returns the cursor that the
// batch moves to. A function that has never run, was told something else, fell behind what is kept, or is ahead of a log that
// was brought back from a backup, begins with Resync.
func (r *runner) collect(ctx context.Context, b *Batch, cursor map[string]uint64) (map[string]uint64, error) {
	var err error
	if b.Snapshot, err = r.cluster.snapshot(ctx, b.groups); err != nil {
		return nil, err
	}
	next := map[string]uint64{}
	if r.fn.Told != 0 {
		next[toldKey] = r.fn.Told
	}
	b.Resync = cursor[toldKey] != r.fn.Told
	for _, group := range r.fn.Groups {
		state := b.States[group]
		next[group] = state.Rev
		since, known := cursor[group]
		if !known || since > state.Rev {
			b.Resync = true
			continue
		}
		if since == state.Rev {
			continue
		}
		events, err := r.cluster.Logs[group].Between(ctx, since, state.Rev)
		if errors.Is(err, tablelog.ErrCompacted) {
			b.Resync = true
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the log %s: %w", group, err)
		}
		b.Changes = append(b.Changes, events...)
	}
	return next, nil
}

// behind reports whether a log has moved past the cursor, or the function was told something else since.
func (r *runner) behind(ctx context.Context) (bool, error) {
	cursor, err := r.at(ctx)
	if err != nil {
		return false, err
	}
	if cursor[toldKey] != r.fn.Told {
		return true, nil
	}
	for _, group := range r.fn.Groups {
		s, err := r.cluster.Logs[group].Current(ctx)
		if err != nil {
			return false, err
		}
		if since, known := cursor[group]; !known || since != s.Rev {
			return true, nil
		}
	}
	return false, nil
}

// missed reports whether this instance knows of changes past the cursor, or may have made one that it does not know of, reading
// nothing. A function that failed does not miss them: it comes again by its due row.
func (r *runner) missed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failures > 0 || r.stopped {
		return false
	}
	for _, group := range r.fn.Groups {
		if log := r.cluster.Logs[group]; log.InDoubt() || r.cursor != nil && log.Seen() > r.cursor[group] {
			return true
		}
	}
	return false
}

func (r *runner) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
}
