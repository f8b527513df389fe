package chaos

import (
	"context"
	"errors"
	"fmt"
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
	// mostCommits an instance makes before it is killed.
	mostCommits = 30
)

// faults are what goes wrong. The zero value is a calm day.
type faults struct {
	// drop and double are of events and bells, from 0 to 1.
	drop, double float64
	// kills is how many instances are killed.
	kills int
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

	mu     sync.Mutex
	random *rand.Rand
	kills  int
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
	w := &world{t: t, store: store, lister: store, faults: f, ctx: t.Context(), random: rand.New(rand.NewPCG(seed, seed))}
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
		i.store.left.Store(w.life())
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

// life returns after how many commits an instance is killed, 0 for never.
func (w *world) life() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.kills == w.faults.kills {
		return 0
	}
	w.kills++
	return 1 + w.random.Int64N(mostCommits)
}

// chance is true with a probability.
func (w *world) chance(p float64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.Float64() < p
}

func (w *world) below(n int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.Int64N(n)
}

// any returns some instance. One that was killed is replaced first.
func (w *world) any() *instance {
	p := &w.processes[w.below(instances)]
	p.taken <- struct{}{}
	defer func() { <-p.taken }()
	if p.alive.store.dead.Load() {
		w.counts.kills.Add(1)
		p.alive = w.start(p.alive)
	}
	return p.alive
}

// disturb calls send as often as an event arrives, each time a little later.
func (w *world) disturb(at time.Time, send func()) {
	w.counts.sent.Add(1)
	times := 1
	switch {
	case w.chance(w.faults.drop):
		w.counts.dropped.Add(1)
		return
	case w.chance(w.faults.double / (1 - w.faults.drop)): // of all, those that are dropped among them
		w.counts.doubled.Add(1)
		times = 2
	}
	for range times {
		wait := max(0, time.Until(at))
		if w.faults.double > 0 {
			wait += time.Duration(w.below(int64(late)))
		}
		time.AfterFunc(wait, send)
	}
}

// deliver disturbs the events of a commit inside an instance.
func (i *instance) deliver(e cloudevents.Event, hear func(cloudevents.Event)) {
	i.world.disturb(time.Now(), func() {
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
	w.disturb(at, func() {
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

// mortal is the store as one instance reaches it: after some commits the instance is killed, and the last may have
// been done or not.
type mortal struct {
	table.Store
	left atomic.Int64
	dead atomic.Bool
}

func (m *mortal) Commit(ctx context.Context, partition string, ops []table.Op) error {
	if m.dead.Load() {
		return errKilled
	}
	if m.left.Load() > 0 {
		switch left := m.left.Add(-1); {
		case left == 0 && len(ops)%2 == 0:
			m.dead.Store(true)
			return errKilled
		case left == 0:
			_ = m.Store.Commit(ctx, partition, ops)
			m.dead.Store(true)
			return errKilled
		}
	}
	return m.Store.Commit(ctx, partition, ops)
}

func (m *mortal) Get(ctx context.Context, partition, key string) (table.Row, error) {
	if m.dead.Load() {
		return table.Row{}, errKilled
	}
	return m.Store.Get(ctx, partition, key)
}

func (m *mortal) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	if m.dead.Load() {
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
