package chaos

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
	// instances run at a time.
	instances = 3
	// timerInterval is that of the host's timer (functions/timer).
	timerInterval = 5 * time.Minute
	// callTimeout is how long the host lets a call take (functions/azurehost).
	callTimeout = 4 * time.Minute
	// late is by how much an event may come later than it should.
	late = 2 * time.Second
	// mostCommits and mostReads are how many an instance makes at most before it is killed, and longest how long it lives,
	// if it is to be killed.
	mostCommits, mostReads = 30, 300
	longest                = 2 * time.Minute
)

// faults are what goes wrong. The zero value is a calm day.
type faults struct {
	// drop and double are of events and bells, from 0 to 1.
	drop, double float64
	// kills is how many instances are killed at most.
	kills int64
}

// counts is what did go wrong.
type counts struct {
	sent, dropped, doubled, kills atomic.Int64
}

// world is a store, the instances that share it, and what goes between them.
type world struct {
	t      *testing.T
	store  table.Store
	lister table.Lister
	faults faults
	counts counts
	// ctx ends with the round.
	ctx context.Context //nolint:containedctx // the life of the world

	processes [instances]process
	under     sync.WaitGroup
	closed    atomic.Bool

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
	world *world
	host  *localhost.Host
	store *mortal
}

func newWorld(t *testing.T, seed uint64, f faults) *world {
	t.Helper()
	store := memory.New()
	w := &world{t: t, store: store, lister: store, faults: f, ctx: t.Context(), seed: seed, drawn: map[string]int{}}
	for i := range w.processes {
		w.processes[i] = process{taken: make(chan struct{}, 1), alive: w.start(nil)}
	}
	return w
}

// start starts an instance in place of one that was killed.
func (w *world) start(after *instance) *instance {
	if after != nil {
		_ = after.host.Close() // it cannot do anything any more
	}
	for {
		i := &instance{world: w, store: &mortal{Store: w.store}}
		w.live(i.store)
		host, err := localhost.OpenBehind(localhost.Options{
			Store: localhost.Store{Store: i.store, Close: func() error { return nil }, Shared: true},
			Front: localhost.Front{Address: "app.example.com"}, MaxAwake: 2, Bells: i, Deliver: i.deliver,
		})
		if err == nil {
			i.host = host
			return i
		}
		if !errors.Is(err, errKilled) {
			w.t.Errorf("an instance does not start: %v", err)
			return nil
		}
	}
}

// draw decides something by chance: the n-th of a kind is always the same for a seed, whatever was decided meanwhile, by
// whichever goroutine. So a seed gives events and instances their fates, though not the order in which goroutines run.
func (w *world) draw(kind string) *rand.Rand {
	w.mu.Lock()
	w.drawn[kind]++
	n := w.drawn[kind]
	w.mu.Unlock()
	h := fnv.New64a()
	fmt.Fprintf(h, "%d/%s/%d", w.seed, kind, n)
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

// live decides when an instance is killed: after some commits, of which the last was done or not, after some reads, or
// after a while.
func (w *world) live(m *mortal) {
	if w.counts.kills.Load() >= w.faults.kills {
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
func (w *world) any() *instance {
	p := &w.processes[w.draw("call").IntN(instances)]
	p.taken <- struct{}{}
	defer func() { <-p.taken }()
	if p.alive.store.dead.Load() {
		w.counts.kills.Add(1)
		p.alive = w.start(p.alive)
	}
	return p.alive
}

// disturb calls send as often as an event arrives, each time a little later. Events of one kind are those that are told
// apart by nothing but their number.
func (w *world) disturb(kind string, at time.Time, send func()) {
	w.counts.sent.Add(1)
	r := w.draw(kind)
	times := 1
	switch chance := r.Float64(); {
	case chance < w.faults.drop:
		w.counts.dropped.Add(1)
		return
	case chance < w.faults.drop+w.faults.double:
		w.counts.doubled.Add(1)
		times = 2
	}
	for range times {
		wait := max(0, time.Until(at))
		if w.faults.double > 0 {
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
func (w *world) work(do func(context.Context, *instance) error) {
	if w.closed.Load() {
		return
	}
	w.under.Add(1)
	defer w.under.Done()
	ctx, cancel := context.WithTimeout(w.ctx, callTimeout)
	defer cancel()
	by := w.any()
	if err := do(ctx, by); err != nil && !by.store.dead.Load() && w.ctx.Err() == nil {
		w.t.Errorf("an instance fails: %v", err)
	}
}

// timer runs the host's timer until the context ends.
func (w *world) timer(ctx context.Context) {
	for {
		select {
		case <-time.After(timerInterval):
			w.work(func(ctx context.Context, by *instance) error { return by.host.Attend(ctx, time.Now()) })
		case <-ctx.Done():
			return
		}
	}
}

// close ends all instances, after what they are at.
func (w *world) close() {
	synctest.Wait()
	w.closed.Store(true)
	w.under.Wait()
	for n := range w.processes {
		if i := w.processes[n].alive; i.host.Close() != nil && !i.store.dead.Load() {
			w.t.Error("an instance does not close")
		}
	}
}

var errKilled = errors.New("the instance was killed")

// mortal is the store as one instance reaches it, until it is killed.
type mortal struct {
	table.Store
	// commits and reads are how many are left, 0 for as many as it likes. The last commit lands or does not.
	commits, reads atomic.Int64
	lands          bool
	dead           atomic.Bool
}

// last reports whether this was the last of what is counted.
func last(left *atomic.Int64) bool { return left.Load() > 0 && left.Add(-1) == 0 }

func (m *mortal) Commit(ctx context.Context, partition string, ops []table.Op) error {
	if m.dead.Load() {
		return errKilled
	}
	if last(&m.commits) {
		if m.lands {
			_ = m.Store.Commit(ctx, partition, ops)
		}
		m.dead.Store(true)
		return errKilled
	}
	return m.Store.Commit(ctx, partition, ops)
}

// read reports whether the instance lives to read.
func (m *mortal) read() bool {
	if last(&m.reads) {
		m.dead.Store(true)
	}
	return !m.dead.Load()
}

func (m *mortal) Get(ctx context.Context, partition, key string) (table.Row, error) {
	if !m.read() {
		return table.Row{}, errKilled
	}
	return m.Store.Get(ctx, partition, key)
}

func (m *mortal) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	if !m.read() {
		return table.Page{}, errKilled
	}
	return m.Store.Range(ctx, partition, q)
}

// client returns a client whose every request goes to some instance.
func (w *world) client() *kubernetes.Clientset {
	w.t.Helper()
	var file []byte
	w.insist("get a kubeconfig", func(ctx context.Context) (err error) {
		file, err = w.any().host.Kubeconfig(ctx)
		return err
	})
	return w.clientFor(file)
}

// clientFor returns the client of a kubeconfig.
func (w *world) clientFor(file []byte) *kubernetes.Clientset {
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
func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
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

// quiet keeps the log of instances that are killed out of the tests'.
func quiet(t *testing.T) {
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

func (c *counts) String() string {
	return fmt.Sprintf("%d events, %d dropped, %d doubled, %d kills", c.sent.Load(), c.dropped.Load(), c.doubled.Load(), c.kills.Load())
}
