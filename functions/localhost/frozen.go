package localhost

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/zeroplane/zeroplane/adapters/doorbell"
	"github.com/zeroplane/zeroplane/adapters/tracing"
)

// Where the host freezes the process as soon as a call was answered, for an hour or for ever, nothing may be under way
// then: a transaction that is sent an hour late may land on a log that was compacted since, under a dirty row that
// others took over. So a request does no work of the functions. What it wrote is left to a bell, which is sent before
// the answer begins and has another call do the work; that one answers when the work is done, or was stopped. Nothing is
// armed between two calls: what is due has a bell, and the timer.

// freeze has a cluster do nothing but while work is done for a call.
func (a *awake) freeze(bell *doorbell.Bell) {
	a.held = true
	a.unhear = bell.Subscribe(func(e cloudevents.Event) {
		if a.attending.Load() > 0 {
			a.functions.Ring(e)
		}
	})
	a.dirty.writes = func() {
		if a.attending.Load() == 0 {
			a.owed.Store(true)
		}
	}
}

// workFrozen does the work of a cluster and leaves it. A cluster whose work is not done in time is put to sleep, so that
// none is under way; its row stays, and whoever called calls again.
func (h *Host) workFrozen(ctx context.Context, a *awake) error {
	a.attending.Add(1)
	err := a.functions.Wake(ctx)
	if err == nil {
		err = a.functions.Settle(ctx)
	}
	a.leave()
	if err != nil {
		h.clusters.forget(a.info.Name)
		return err
	}
	a.attending.Add(-1)
	return nil
}

// Rest returns when nothing is under way that a request began, or fails with the context's error. A host that freezes
// the process calls it before.
func (h *Host) Rest(ctx context.Context) error {
	h.clusters.sleepExcess()
	errs := []error{h.issuers.Idle(ctx)}
	for _, a := range h.clusters.allAwake() {
		for _, l := range a.logs {
			errs = append(errs, l.Idle(ctx))
		}
		h.ringOwed(a) // for what was written after its client had left
	}
	tracing.Flush(ctx)
	return errors.Join(errs...)
}

// ringOwed sends the bell for what was written to a cluster, if one is owed.
func (h *Host) ringOwed(a *awake) {
	if a.owed.Swap(false) {
		h.ring(a.info.Name, time.Now())
	}
}

// frozenWriter is an answer before which a bell is sent.
type frozenWriter struct {
	http.ResponseWriter
	ring func()
}

// WriteHeader implements http.ResponseWriter.
func (w *frozenWriter) WriteHeader(code int) {
	w.ring()
	w.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (w *frozenWriter) Write(p []byte) (int, error) {
	w.ring()
	return w.ResponseWriter.Write(p)
}

// Flush implements http.Flusher: watches ask for it.
func (w *frozenWriter) Flush() {
	w.ring()
	_ = http.NewResponseController(w.ResponseWriter).Flush() // an answer that cannot be flushed comes in the end
}

// CloseNotify implements http.CloseNotifier, which the API server asks for beside http.Flusher. The request's context
// says it.
func (w *frozenWriter) CloseNotify() <-chan bool { return nil }

// Unwrap is for http.ResponseController.
func (w *frozenWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ringAhead is how far ahead the timer rings for what is due: until it comes again, and a minute more.
const ringAhead = 6 * time.Minute

// reaching are bells that cannot be put off for longer than that.
type reaching interface{ Reach() time.Duration }

// outOfReach reports whether a bell cannot be put off until a time: then the timer rings when that is near. To send it
// on and on would cost a call for each bell and step.
func (h *Host) outOfReach(at time.Time) bool {
	r, ok := h.opts.Bells.(reaching)
	return ok && time.Until(at) > r.Reach()
}

// ringSoon rings for what is due before the timer comes again, where bells do not reach far enough for whoever put it
// off to have done so.
func (h *Host) ringSoon(marks []dirtyMark, now time.Time) {
	bells, ok := h.opts.Bells.(reaching)
	if !ok {
		return
	}
	type call struct {
		cluster string
		at      int64
	}
	rung := map[call]bool{}
	for _, m := range marks {
		c := call{m.cluster, m.wake.UnixNano()}
		far := !m.wake.IsZero() && m.wake.Sub(m.written) > bells.Reach()
		if far && m.wake.After(now) && m.wake.Before(now.Add(ringAhead)) && !rung[c] {
			rung[c] = true
			h.send(m.cluster, m.wake)
		}
	}
}

// born is the instance whose dirty row a new cluster has, so that its functions look at it though nobody writes.
const born = "born"

// announce has somebody run the functions of a new cluster, behind a front, where a process may end before they have run.
func (h *Host) announce(ctx context.Context, name string) {
	if h.instance == "" || h.listener != nil {
		return
	}
	if err := (&dirty{store: h.store, cluster: name, instance: born}).put(ctx); err != nil {
		slog.Warn("the functions look at a new cluster when it is first written to", "cluster", name, "error", err)
	}
	h.ring(name, time.Now())
}
