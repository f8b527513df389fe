package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/zeroplane/zeroplane/tests/linearizable/history"
)

// watch is one reader.
type watch struct {
	*history.Watch
	request history.Request
	// stay bounds how long it stays at an instance, 0 for until that ends it.
	stay time.Duration
	// old begins every connection some revisions back, fresh with the state; slow takes its time over what it reads.
	old, fresh, slow bool
}

// reconnectPause is the longest pause before a watch is opened again.
const reconnectPause = 20 * time.Millisecond

// readPause is the longest pause of a slow reader after an event.
const readPause = 20 * time.Millisecond

// watches returns the readers of all logs.
func (r *run) watches() []*watch {
	var out []*watch
	for log, t := range r.Targets {
		all := history.Request{Log: log, Prefix: t.Prefix, From: r.logs[log].Head()}
		add := func(name string, w watch) {
			w.Watch = &history.Watch{Name: fmt.Sprintf("%d-%s", log, name)}
			out = append(out, &w)
		}
		some := all
		some.Prefix += r.Namespaces[0] + "/"
		with := func(req history.Request, colour string, bookmarks bool) history.Request {
			req.Colour, req.Bookmarks = colour, bookmarks
			return req
		}
		for i := range r.Instances {
			add(fmt.Sprintf("all-%d", i), watch{request: with(all, "", i == 0)})
		}
		add("short", watch{request: with(all, "", true), stay: r.Epoch / 3})
		add("slow", watch{request: with(all, "", true), stay: r.Epoch, old: true, slow: true})
		add("colour", watch{request: with(all, history.Colours[0], false)})
		add("colour-short", watch{request: with(all, history.Colours[1], true), stay: r.Epoch / 2})
		add("namespace", watch{request: with(some, "", true)})
		add("old", watch{request: with(all, "", false), stay: r.Epoch / 2, old: true})
		add("fresh", watch{request: with(some, "", true), stay: r.Epoch / 3, fresh: true})
		add("fresh-colour", watch{request: with(all, history.Colours[1], true), stay: r.Epoch / 2, fresh: true})
	}
	return out
}

// follow watches until the context ends, at one instance after another.
func (r *run) follow(ctx context.Context, w *watch, rng *rand.Rand) {
	req := w.request
	req.Initial = w.fresh
	for ctx.Err() == nil {
		i := rng.IntN(r.Instances)
		r.connect(ctx, w, req, i)
		from, whole := w.Reach()
		req.From = from
		if w.old && from > 2 && !r.settling.Load() {
			req.From -= rng.Uint64N(min(from-1, pastDepth))
			if w.slow { // enough for its server to wait for it
				req.From = from - min(from-1, pastDepth)
			}
		}
		// Whoever was told that it is too late begins again.
		if req.Initial = w.fresh || !whole; req.Initial {
			req.From, req.Bookmarks = 0, true
		} else {
			req.Bookmarks = w.request.Bookmarks
		}
		time.Sleep(rand.N(reconnectPause)) //nolint:gosec // a pause
	}
}

func (r *run) connect(ctx context.Context, w *watch, req history.Request, i int) {
	cancel := func() {}
	if w.stay > 0 {
		ctx, cancel = context.WithTimeout(ctx, w.stay)
	}
	defer cancel()
	s := w.Begin(req, i, r.recorder.Now())
	gone, err := r.site.Instance(i).Watch(ctx, req, func(d history.Delivery) {
		d.At = r.recorder.Now()
		w.Add(s, d)
		if w.slow && !r.settling.Load() {
			time.Sleep(rand.N(readPause)) //nolint:gosec // a pause
		}
	})
	w.End(s, gone, err)
}
