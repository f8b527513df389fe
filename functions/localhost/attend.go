package localhost

import (
	"context"
	"errors"
	"log/slog"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"golang.org/x/sync/errgroup"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/adapters/tracing"
	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/functions/metrics"
)

// A process that others start for an event, and may end after it, does what the event is about before it answers.

const (
	// leftAfter a cluster was marked dirty, a bell has somebody look whether the work was done.
	leftAfter = time.Minute
	// sendTimeout bounds how long a bell may take to be sent.
	sendTimeout = 5 * time.Second
	// maxNamed rows of one cluster may name times though their instances are gone, as those that have not written theirs
	// for goneAfter are taken to be. Each process that worked on a cluster leaves one until something is due.
	maxNamed, goneAfter = 4, time.Hour
	// attendedAtOnce are the clusters that one run of the timer attends to at the same time.
	attendedAtOnce = 4
)

// Attend is the timer: it does what is due and what instances left that are gone, and returns when that is done or
// the context ends. Where there is nothing it costs one query, however many clusters there are.
func (h *Host) Attend(ctx context.Context, now time.Time) error {
	marks, sweeps, err := leftRows(ctx, h.store)
	if err != nil {
		return err
	}
	left := leftOf(marks, now)
	h.ringSoon(marks, now)
	var g errgroup.Group
	g.SetLimit(attendedAtOnce)
	for name, marks := range left {
		g.Go(func() error { return h.attend(ctx, name, marks) })
	}
	return errors.Join(g.Wait(), h.sweep(ctx, sweeps, now))
}

// leftOf returns the rows of the clusters that somebody must look at. Of a cluster with many that name times those of
// instances that are gone are among them: whoever takes them over leaves one in their place.
func leftOf(marks []dirtyMark, now time.Time) map[string][]dirtyMark {
	left, named := map[string][]dirtyMark{}, map[string][]dirtyMark{}
	for _, m := range marks {
		switch {
		case m.left(now):
			left[m.cluster] = append(left[m.cluster], m)
		case !m.wake.IsZero() && now.Sub(m.written) >= goneAfter:
			named[m.cluster] = append(named[m.cluster], m)
		}
	}
	for name, some := range named {
		if len(some) > maxNamed {
			left[name] = append(left[name], some...)
		}
	}
	return left
}

// left reports whether nobody is at what a row says is left: it is due, or its instance has not renewed it.
func (m dirtyMark) left(now time.Time) bool {
	if !m.wake.IsZero() {
		return !m.wake.After(now)
	}
	return now.Sub(m.written) >= takeOverAfter
}

// attend takes a cluster's work over and does it.
func (h *Host) attend(ctx context.Context, name string, marks []dirtyMark) error {
	a, err := h.takeOver(ctx, name, marks)
	if a == nil {
		return err
	}
	return h.work(ctx, a)
}

// takeOver makes what rows say is left of a cluster this instance's own, and returns the cluster, which the caller
// must leave, or nil if there is none or it failed.
func (h *Host) takeOver(ctx context.Context, name string, marks []dirtyMark) (*awake, error) {
	a, err := h.clusters.get(ctx, name)
	if errors.Is(err, cluster.ErrNotFound) {
		return nil, h.removeMarks(ctx, marks)
	}
	if err != nil {
		return nil, err
	}
	// Its own row first, so that the work is never nobody's.
	if err = a.dirty.takeOver(ctx); err == nil {
		err = h.removeMarks(ctx, marks)
	}
	if err != nil {
		a.leave()
		return nil, err
	}
	return a, nil
}

func (h *Host) removeMarks(ctx context.Context, marks []dirtyMark) error {
	for _, m := range marks {
		if m.instance == h.instance {
			continue // it is this one's own, and goes when the work is done
		}
		if err := removeMark(ctx, h.store, m.key, m.etag); err != nil {
			return err
		}
	}
	return nil
}

// work does what the functions of a cluster have not seen yet, and what is due, and leaves it.
func (h *Host) work(ctx context.Context, a *awake) error {
	if h.opts.Front.Freezes {
		return h.workFrozen(ctx, a)
	}
	defer a.leave()
	return a.attend(ctx)
}

// attend does what the functions have not seen yet, and what is due.
func (a *awake) attend(ctx context.Context) error {
	if err := a.functions.Wake(ctx); err != nil {
		return err
	}
	return a.settle(ctx)
}

// Hear does what an event that came from outside is about, and returns when that is done or the context ends. An
// event of a cluster that is no more is nothing, and one of somebody else is the default cluster's. It fails with
// events.ErrMalformed or events.ErrUnknownType.
func (h *Host) Hear(ctx context.Context, e cloudevents.Event) error {
	m, err := events.Parse(e)
	if errors.Is(err, events.ErrUnknownType) {
		return h.hearOthers(ctx, e)
	}
	if err != nil {
		return err
	}
	name := events.ClusterOf(m)
	a, err := h.clusters.get(ctx, name)
	if errors.Is(err, cluster.ErrNotFound) {
		slog.Info("an event of a cluster that does not exist", "cluster", name, "type", e.Type())
		return nil
	}
	if err != nil {
		return err
	}
	if s, ok := m.(events.Samples); ok {
		if err := a.measure(ctx, e, s); err != nil {
			a.leave()
			return err
		}
	}
	return h.work(ctx, a)
}

// measure stores samples and has the autoscalers that they concern looked at. Both are durable when it returns.
func (a *awake) measure(ctx context.Context, e cloudevents.Event, s events.Samples) error {
	ctx, end := because(ctx, e)
	defer end()
	taken, err := a.samples.Take(ctx, s)
	if err != nil {
		return err
	}
	asks, err := metrics.Asks(ctx, a.logs, a.server.Decoder(), taken, time.Now())
	if err != nil || len(asks) == 0 {
		return err
	}
	// Whoever goes on after a crash looks at clusters that are marked.
	ended, err := a.dirty.beforeWrite(ctx)
	if err != nil {
		return err
	}
	defer ended()
	return a.functions.Ask(ctx, metrics.Name, asks...)
}

// hear takes an event that came to the cluster's webhook. A bell does not wait: it only says that there may be something
// to do, and of many that come at once, one is enough. Samples are stored, and what somebody else's event asks for is
// done, when it returns.
func (a *awake) hear(ctx context.Context, e cloudevents.Event) error {
	m, err := events.Parse(e)
	if errors.Is(err, events.ErrUnknownType) {
		return a.signal(ctx, e)
	}
	if err != nil {
		return err
	}
	if a.sees(m) {
		return nil
	}
	if s, ok := m.(events.Samples); ok {
		if err := a.measure(ctx, e, s); err != nil || !a.held {
			return err
		}
	}
	if a.held {
		a.owed.Store(true)
		return nil
	}
	pushesHeard.WithLabelValues(takenOn).Inc()
	if !a.looking.Swap(true) {
		a.enter()
		go a.lookForWork()
	}
	return nil
}

// because returns a context in which an event is what led to all that is done, until the end.
func because(ctx context.Context, e cloudevents.Event) (context.Context, func()) {
	parent := tracing.Parse(events.TraceOf(e))
	if parent == nil {
		parent = tablelog.CauseOf(ctx, "") // of the request that brought it
	}
	cause, span := tracing.Begin(ctx, parent, tracing.Work{Name: "event " + e.Type(), By: e.Type()})
	return tablelog.WithCause(ctx, func(string) *tablelog.Cause { return cause }), func() { span.End() }
}

// lookForWork has the functions look for what they have not seen, for a request that was counted.
func (a *awake) lookForWork() {
	defer a.leave()
	a.looking.Store(false)
	if err := a.functions.Wake(a.requests); err != nil && a.requests.Err() == nil {
		slog.Warn("cannot look for what an event is about; the timer will", "cluster", a.info.Name, "error", err)
	}
}

// ring has somebody look at a cluster at a time, if there are bells that outlast this process.
func (h *Host) ring(name string, at time.Time) {
	if h.opts.Bells != nil && !h.outOfReach(at) {
		h.send(name, at)
	}
}

// send sends a bell. What is lost the timer finds.
func (h *Host) send(name string, at time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), sendTimeout)
	defer cancel()
	if err := h.opts.Bells.Send(ctx, events.Timer{Cluster: name, Time: at}.Event(), at); err != nil {
		slog.Warn("cannot ring; the timer will look", "cluster", name, "at", at, "error", err)
	}
}
