// Package workload drives instances that share a store with clients and watches, and returns the history.
package workload

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/tests/linearizable/history"
)

// Instance is one instance, as clients see it.
type Instance interface {
	// Do carries out an operation and notes how it ended.
	Do(ctx context.Context, o *history.Operation)
	// Watch yields what a watch delivers until it ends. It reports whether that was with 410, and what else the
	// watch said of its end; that a connection broke, or was refused, is no error.
	Watch(ctx context.Context, r history.Request, yield func(history.Delivery)) (gone bool, err error)
}

// Site is what a workload drives.
type Site interface {
	// Instance returns the instance of a number as it now runs.
	Instance(i int) Instance
	// Disturb kills instances until the context ends, and returns when all run again.
	Disturb(ctx context.Context)
	// Calm ends all faults.
	Calm()
	// Compact lets go of what is before a revision of a log.
	Compact(ctx context.Context, log int, before uint64)
}

// Target is one kind in one log.
type Target struct {
	// Partition of the log, Prefix of the kind's keys, as core/configmaps/.
	Partition, Prefix string
}

// Options of a run.
type Options struct {
	Seed      uint64
	Instances int
	Clients   int
	// Length of the time in which clients ask; Epoch after which they turn to new objects, so that the history is in
	// pieces; Pause between two operations of a client, at most; Timeout of an operation.
	Length, Epoch, Pause, Timeout time.Duration
	// Settle bounds the time that watches have to come to the end.
	Settle  time.Duration
	Targets []Target
	// Namespaces that exist.
	Namespaces []string
	// Plans are made, too.
	Plans bool
	// Store as nobody disturbs it, and Poll how often its logs are looked at.
	Store table.Store
	Poll  time.Duration
	// CompactAfter is how long changes are kept, 0 if nobody here compacts.
	CompactAfter time.Duration
}

// run is one run.
type run struct {
	Options
	site     Site
	recorder *history.Recorder
	tokens   atomic.Int64
	// settling is set once nobody writes any more: all watches then go for the end.
	settling atomic.Bool

	logsMu sync.Mutex
	logs   []*history.Log

	mu sync.Mutex
	// seen are objects as clients last saw them, heads the newest revisions of logs that they did.
	seen  map[string]history.Seen
	heads []uint64
}

// Run lets clients and watches work and returns what happened. It fails when the store does.
func Run(ctx context.Context, site Site, o Options) (*history.History, error) {
	r := &run{Options: o, site: site, recorder: history.NewRecorder(), seen: map[string]history.Seen{}, heads: make([]uint64, len(o.Targets))}
	for _, t := range o.Targets {
		r.logs = append(r.logs, history.NewLog(o.Store, t.Partition))
	}
	if err := r.poll(ctx); err != nil {
		return &history.History{Logs: r.logs}, err
	}
	watching, endWatches := context.WithCancel(ctx)
	defer endWatches()
	watches := r.watches()
	var readers sync.WaitGroup
	for i, w := range watches {
		readers.Go(func() { r.follow(watching, w, r.random(1000+i)) })
	}
	polling, endPolling := context.WithCancel(ctx)
	polled := make(chan error, 1)
	go func() { polled <- r.pollUntil(polling) }()
	working, endWork := context.WithTimeout(ctx, o.Length)
	defer endWork()
	var workers sync.WaitGroup
	workers.Go(func() { site.Disturb(working) })
	for id := range o.Clients {
		workers.Go(func() { r.client(working, id, r.random(id)) })
	}
	workers.Go(func() { r.sweep(working) })
	workers.Wait()
	site.Calm()
	r.look(ctx)
	r.settling.Store(true)
	endPolling()
	h := &history.History{Logs: r.logs}
	for _, w := range watches {
		h.Watches = append(h.Watches, w.Watch)
	}
	if err := <-polled; err != nil {
		// What the log's rows have of their own is in the history.
		h.Operations = r.recorder.Operations()
		endWatches()
		readers.Wait()
		return h, err
	}
	err := r.settle(ctx, watches)
	endWatches()
	readers.Wait()
	h.Operations, h.Settled = r.recorder.Operations(), err == nil
	return h, err
}

func (r *run) random(stream int) *rand.Rand {
	return rand.New(rand.NewPCG(r.Seed, uint64(stream))) //nolint:gosec // a small number
}

// Logs that are read while they grow.
func (r *run) poll(ctx context.Context) error {
	r.logsMu.Lock()
	defer r.logsMu.Unlock()
	for _, l := range r.logs {
		if err := l.Poll(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) pollUntil(ctx context.Context) error {
	ticker := time.NewTicker(r.Poll)
	defer ticker.Stop()
	last := time.Now()
	heads := make([]uint64, len(r.logs))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := r.poll(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		if r.CompactAfter > 0 && time.Since(last) >= r.CompactAfter {
			last = time.Now()
			for i, l := range r.logs {
				r.site.Compact(ctx, i, heads[i])
				heads[i] = l.Head()
			}
		}
	}
}

// settle waits until watches have everything, and looks at the rows once nobody writes.
func (r *run) settle(ctx context.Context, watches []*watch) error {
	for _, l := range r.logs {
		if err := l.CheckRows(ctx); err != nil {
			return err
		}
	}
	for deadline := time.Now().Add(r.Settle); time.Now().Before(deadline); time.Sleep(r.Poll) {
		lacking := false
		for _, w := range watches {
			lacking = lacking || w.Lacks(r.logs[w.request.Log])
		}
		if !lacking {
			return nil
		}
	}
	return nil // the check says what is lacking
}

// look has every instance list every space of the last epoch: they must agree.
func (r *run) look(ctx context.Context) {
	for i := range r.Instances {
		for log := range r.Targets {
			for ns := range r.Namespaces {
				o := &history.Operation{Client: r.Clients, Verb: history.List, Log: log, Space: r.space(log, ns, r.epoch())}
				r.do(ctx, o, i)
			}
		}
	}
}

func (r *run) epoch() int { return int(r.recorder.Now() / int64(r.Epoch)) }

func (r *run) space(log, ns, epoch int) string {
	return fmt.Sprintf("%s%s/e%d-", r.Targets[log].Prefix, r.Namespaces[ns], epoch)
}

// sweep deletes what earlier epochs left, so that logs stay small. It is a client as any other.
func (r *run) sweep(ctx context.Context) {
	for next := 0; ctx.Err() == nil; time.Sleep(r.Epoch / 10) {
		for ; next < r.epoch()-1; next++ {
			for log := range r.Targets {
				for ns := range r.Namespaces {
					r.empty(ctx, log, r.space(log, ns, next))
				}
			}
		}
	}
}

// empty deletes the objects of a space that nobody works on any more. Some may be left.
func (r *run) empty(ctx context.Context, log int, space string) {
	const tries = 5
	for try := range tries {
		instance := try % r.Instances
		list := &history.Operation{Client: r.Clients + 1, Verb: history.List, Log: log, Space: space}
		r.do(ctx, list, instance)
		if ctx.Err() != nil || list.Outcome == history.OK && len(list.Objects) == 0 {
			return
		}
		for _, key := range slices.Sorted(maps.Keys(list.Objects)) {
			r.do(ctx, &history.Operation{
				Client: r.Clients + 1, Verb: history.Delete, Log: log, Space: space, Key: key, Expect: list.Objects[key].Rev,
			}, instance)
		}
	}
}

func (r *run) client(ctx context.Context, id int, rng *rand.Rand) {
	for ctx.Err() == nil {
		o := r.draw(rng)
		o.Client = id
		r.do(ctx, o, rng.IntN(r.Instances))
		if r.Pause > 0 {
			time.Sleep(rand.N(r.Pause)) //nolint:gosec // a pause
		}
	}
}

// do carries an operation out at an instance. It ends after its time, not with the run.
func (r *run) do(ctx context.Context, o *history.Operation, instance int) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.Timeout)
	defer cancel()
	o.Instance, o.Invoked = instance, r.recorder.Now()
	r.site.Instance(instance).Do(ctx, o)
	o.Returned = r.recorder.Now()
	if o.Outcome == history.Unsent {
		time.Sleep(reconnectPause)
		return
	}
	r.recorder.Add(o)
	r.learn(o)
}

// learn notes what a client saw, for those who come after it.
func (r *run) learn(o *history.Operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case o.Outcome == history.NotFound, o.Outcome == history.OK && (o.Verb == history.Delete || o.Verb == history.DeleteUID):
		delete(r.seen, o.Key)
	case o.Outcome == history.OK && o.Verb != history.ListAt:
		for key, s := range o.Objects {
			if s.Rev > r.seen[key].Rev {
				r.seen[key] = s
			}
			r.heads[o.Log] = max(r.heads[o.Log], s.Rev)
		}
		r.heads[o.Log] = max(r.heads[o.Log], o.Revision)
	}
}

const (
	// pastDepth is how many revisions back lists of the past and old watches go, at most: some to where nothing is kept.
	pastDepth = 150
	// planDepth is how old what a plan was decided on is. More, and no plan would succeed.
	planDepth = 10
)

func (r *run) past(log int, depth uint64, rng *rand.Rand) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	head := r.heads[log]
	return max(2, head-min(head, rng.Uint64N(depth)))
}

// draw returns the next operation of a client.
func (r *run) draw(rng *rand.Rand) *history.Operation {
	o := &history.Operation{Log: rng.IntN(len(r.Targets))}
	o.Space = r.space(o.Log, rng.IntN(len(r.Namespaces)), r.epoch())
	switch n := rng.IntN(100); {
	case n < 14:
		o.Verb, o.Limit = history.List, rng.IntN(3)
		return o
	case n < 17:
		o.Verb, o.Since = history.ListAt, r.past(o.Log, pastDepth, rng)
		return o
	}
	o.Key = o.Space + "k" + strconv.Itoa(rng.IntN(history.Keys))
	r.mu.Lock()
	seen, there := r.seen[o.Key]
	r.mu.Unlock()
	r.choose(o, seen, there, rng)
	switch o.Verb {
	case history.Create, history.Update, history.Patch, history.Plan:
		o.Token = history.Token(r.tokens.Add(1))
	default:
	}
	return o
}

// choose draws the verb of an operation on one object.
func (r *run) choose(o *history.Operation, seen history.Seen, there bool, rng *rand.Rand) {
	n := rng.IntN(100)
	switch {
	case n < 25:
		o.Verb = history.Get
	case !there && r.Plans && n < 50:
		o.Verb, o.Since = history.Plan, r.past(o.Log, planDepth, rng)
	case !there && n < 92 || n < 33:
		o.Verb = history.Create
	case n < 65 && there:
		o.Verb, o.Expect, o.UID = history.Update, seen.Rev, seen.UID
	case n < 80 || !there:
		o.Verb = history.Patch
	case n < 92:
		o.Verb, o.Expect = history.Delete, seen.Rev
	default:
		o.Verb, o.Expect, o.UID = history.DeleteUID, seen.Rev, seen.UID
	}
}
