// Package instances runs a cluster on several instances that share a store, in one process and by a virtual clock
// (testing/synctest). They are killed between any two writes or reads and started again, events and delayed bells are dropped,
// doubled and reordered, and the table refuses, keeps its answers to itself and gives short pages; a seed decides.
package instances

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/functions/localhost"
)

const (
	// SealKey is the ZEROPLANE_SEAL_KEY that all instances need.
	SealKey = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	// TimerInterval is that of the host's timer (functions/timer).
	TimerInterval = 5 * time.Minute
	// callTimeout is how long the host lets a call take (functions/azurehost).
	callTimeout = 4 * time.Minute
	// again is after how long the host repeats a call that failed.
	again = 5 * time.Second
	// late is by how much an event may come later than it should.
	late = 2 * time.Second
	// mostCommits and mostReads are how many an instance makes at most before it is killed, and longest how long it lives,
	// if it is to be killed.
	mostCommits, mostReads = 30, 300
	longest                = 2 * time.Minute
)

// Faults are what goes wrong. The zero value is a calm day.
type Faults struct {
	// Drop and Double are of events and bells, from 0 to 1.
	Drop, Double float64
	// Kills is how many instances are killed at most.
	Kills int64
	// Busy is how many requests to the table of all are refused, Lost how many commits have no answer, of which half land,
	// and Short how many pages end early; each from 0 to 1.
	Busy, Lost, Short float64
}

// OfTable reports whether the table is at fault.
func (f *Faults) OfTable() bool { return f.Busy > 0 || f.Lost > 0 || f.Short > 0 }

// Counts is what did go wrong.
type Counts struct {
	Sent, Dropped, Doubled, Kills, Busy, Lost, Short atomic.Int64
}

// Options shape a world.
type Options struct {
	// Instances that run at a time.
	Instances int
	Faults    Faults
	// Committed is told of each commit that lands, in their order, before the next one begins; nil for nobody.
	Committed func(partition string)
}

// World is a store, the instances that share it, and what goes between them.
type World struct {
	t *testing.T
	// Store is what the instances reach through their faults.
	Store  table.Store
	Lister table.Lister
	Counts Counts
	opts   Options
	faults atomic.Pointer[Faults]
	// ctx ends with the round.
	ctx context.Context //nolint:containedctx // the life of the world

	processes []process
	under     sync.WaitGroup
	closed    atomic.Bool
	// committing is held during a commit, where somebody is told of it.
	committing sync.Mutex

	seed uint64
	mu   sync.Mutex
	// drawn counts what was decided by chance, of each kind.
	drawn map[string]int
}

// process is where an instance runs, after the one before was killed. Taken is held by who looks whether it was: a
// channel, since the clock stands while somebody waits for a mutex.
type process struct {
	taken chan struct{}
	alive *instance
}

// instance is one process: when it is killed nothing of it reaches the store, the line or a client any more.
type instance struct {
	world *World
	host  *localhost.Host
	store *mortal
}

// New starts the instances.
func New(t *testing.T, seed uint64, o Options) *World {
	t.Helper()
	store := memory.New()
	w := &World{t: t, Store: store, Lister: store, opts: o, processes: make([]process, o.Instances), ctx: t.Context(), seed: seed, drawn: map[string]int{}}
	w.faults.Store(&o.Faults)
	for i := range w.processes {
		w.processes[i] = process{taken: make(chan struct{}, 1), alive: w.start(nil)}
	}
	return w
}

// StartForTimer starts an instance for one run of the host's timer, and ends it.
func (w *World) StartForTimer(ctx context.Context) error {
	i := w.start(nil)
	return errors.Join(i.host.Attend(ctx, time.Now()), i.host.Close())
}

// Calm ends all faults. Instances that were to be killed still are.
func (w *World) Calm() { w.faults.Store(&Faults{}) }

// start starts an instance in place of one that was killed.
func (w *World) start(after *instance) *instance {
	if after != nil {
		_ = after.host.Close() // it cannot do anything any more
	}
	for {
		i := &instance{world: w, store: &mortal{world: w}}
		w.live(i.store)
		host, err := localhost.OpenBehind(localhost.Options{
			Store: localhost.Store{Store: i.store, Close: func() error { return nil }, Shared: true},
			Front: localhost.Front{Address: "app.example.com"}, MaxAwake: 2, KeepMemory: true, Bells: i, Deliver: i.deliver,
		})
		if err == nil {
			i.host = host
			return i
		}
		if !errors.Is(err, errKilled) && !w.faults.Load().OfTable() {
			w.t.Errorf("an instance does not start: %v", err)
			return nil
		}
	}
}

// draw decides something by chance: the n-th of a kind is always the same for a seed, whatever was decided meanwhile, by
// whichever goroutine. So a seed gives events and instances their fates, though not the order in which goroutines run.
func (w *World) draw(kind string) *rand.Rand {
	w.mu.Lock()
	w.drawn[kind]++
	n := w.drawn[kind]
	w.mu.Unlock()
	h := fnv.New64a()
	fmt.Fprintf(h, "%d/%s/%d", w.seed, kind, n)
	return rand.New(rand.NewPCG(w.seed, h.Sum64())) //nolint:gosec // chance that a seed repeats
}

// live decides when an instance is killed: after some commits, of which the last was done or not, after some reads, or
// after a while.
func (w *World) live(m *mortal) {
	if w.Counts.Kills.Load() >= w.faults.Load().Kills {
		return
	}
	r := w.draw("life")
	m.lands = r.IntN(2) == 0
	switch r.IntN(4) {
	case 0:
		m.reads.Store(1 + r.Int64N(mostReads))
	case 1:
		time.AfterFunc(1+time.Duration(r.Int64N(int64(longest))), func() { m.dead.Store(true) })
	default:
		m.commits.Store(1 + r.Int64N(mostCommits))
	}
}

// any returns some instance. One that was killed is replaced first.
func (w *World) any() *instance {
	p := &w.processes[w.draw("call").IntN(len(w.processes))]
	p.taken <- struct{}{}
	defer func() { <-p.taken }()
	if p.alive.store.dead.Load() {
		w.Counts.Kills.Add(1)
		p.alive = w.start(p.alive)
	}
	return p.alive
}

// disturb calls send as often as an event arrives, each time a little later. Events of one kind are those that are told
// apart by nothing but their number.
func (w *World) disturb(kind string, at time.Time, send func()) {
	w.Counts.Sent.Add(1)
	r := w.draw(kind)
	times, f := 1, w.faults.Load()
	switch chance := r.Float64(); {
	case chance < f.Drop:
		w.Counts.Dropped.Add(1)
		return
	case chance < f.Drop+f.Double:
		w.Counts.Doubled.Add(1)
		times = 2
	}
	for range times {
		wait := max(0, time.Until(at))
		if f.Double > 0 {
			wait += time.Duration(r.Int64N(int64(late)))
		}
		time.AfterFunc(wait, send)
	}
}

// deliver disturbs the events of a commit inside an instance.
func (i *instance) deliver(e cloudevents.Event, hear func(cloudevents.Event)) {
	sequence, _ := e.Extensions()["sequence"].(string)
	i.world.disturb(e.Type()+" "+e.Subject()+" "+sequence, time.Now(), func() {
		if !i.store.dead.Load() {
			hear(e)
		}
	})
}

// Send implements localhost.Bells: any instance hears the bell.
func (i *instance) Send(_ context.Context, e cloudevents.Event, at time.Time) error {
	if i.store.dead.Load() {
		return errKilled
	}
	w := i.world
	w.disturb("bell of "+e.Source(), at, func() {
		if w.ctx.Err() == nil {
			w.work(func(ctx context.Context, by *instance) error { return by.host.Hear(ctx, e) })
		}
	})
	return nil
}

// work has some instance do something that comes from outside.
func (w *World) work(do func(context.Context, *instance) error) {
	if w.closed.Load() {
		return
	}
	w.under.Add(1)
	defer w.under.Done()
	for {
		ctx, cancel := context.WithTimeout(w.ctx, callTimeout)
		by := w.any()
		err := do(ctx, by)
		cancel()
		switch {
		case err == nil || by.store.dead.Load() || w.ctx.Err() != nil:
			return
		case !w.opts.Faults.OfTable():
			w.t.Errorf("an instance fails: %v", err)
			return
		}
		time.Sleep(again) // the host delivers what failed once more
	}
}

// Timer runs the host's timer until the context ends.
func (w *World) Timer(ctx context.Context) {
	for {
		select {
		case <-time.After(TimerInterval):
			w.work(func(ctx context.Context, by *instance) error { return by.host.Attend(ctx, time.Now()) })
		case <-ctx.Done():
			return
		}
	}
}

// Close ends all instances, after what they are at.
func (w *World) Close() {
	synctest.Wait()
	w.closed.Store(true)
	w.under.Wait()
	for n := range w.processes {
		if i := w.processes[n].alive; i.host.Close() != nil && !i.store.dead.Load() {
			w.t.Error("an instance does not close")
		}
	}
}

// Client returns a client whose every request goes to some instance.
func (w *World) Client() *kubernetes.Clientset {
	w.t.Helper()
	var file []byte
	w.Insist("get a kubeconfig", func(ctx context.Context) (err error) {
		file, err = w.any().host.Kubeconfig(ctx)
		return err
	})
	return w.ClientFor(file)
}

// ClientFor returns the client of a kubeconfig.
func (w *World) ClientFor(file []byte) *kubernetes.Clientset {
	w.t.Helper()
	config, err := clientcmd.RESTConfigFromKubeConfig(file)
	if err != nil {
		w.t.Fatal(err)
	}
	config.CAData, config.Transport, config.QPS = nil, w, -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		w.t.Fatal(err)
	}
	return client
}

// RoundTrip implements http.RoundTripper: the answer of an instance that was killed meanwhile never arrives.
func (w *World) RoundTrip(req *http.Request) (*http.Response, error) {
	by := w.any()
	in := httptest.NewRequest(req.Method, req.URL.String(), req.Body).WithContext(req.Context())
	in.Header = req.Header.Clone()
	out := httptest.NewRecorder()
	if err := answer(by.host.Handler(), out, in); err != nil {
		return nil, err
	}
	if by.store.dead.Load() {
		return nil, errKilled
	}
	return out.Result(), nil
}

// answer serves a request as net/http's server does, which ends the connection of an answer that is given up.
func answer(h http.Handler, w http.ResponseWriter, req *http.Request) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			err = http.ErrAbortHandler
		default:
			panic(p)
		}
	}()
	h.ServeHTTP(w, req)
	return nil
}

// Quiet keeps the log of instances that are killed out of the tests'.
func Quiet(t *testing.T) {
	t.Helper()
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	// One of these waits, since the error before, by a clock that goes on from round to round.
	handlers := utilruntime.ErrorHandlers
	utilruntime.ErrorHandlers = nil
	t.Cleanup(func() {
		slog.SetDefault(before)
		klog.LogToStderr(true)
		utilruntime.ErrorHandlers = handlers
	})
}

func (c *Counts) String() string {
	return fmt.Sprintf("%d events, %d dropped, %d doubled, %d kills, %d requests refused, %d answers lost, %d short pages",
		c.Sent.Load(), c.Dropped.Load(), c.Doubled.Load(), c.Kills.Load(), c.Busy.Load(), c.Lost.Load(), c.Short.Load())
}

// Faults is how much went wrong.
func (c *Counts) Faults() int64 {
	return c.Dropped.Load() + c.Doubled.Load() + c.Kills.Load() + c.Busy.Load() + c.Lost.Load() + c.Short.Load()
}
