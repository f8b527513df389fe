package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/events"
)

// quietPeriod is how long nothing runs before cursors are stored and the cluster counts as settled:
// while a client writes one object after the other, that is not done after each.
const quietPeriod = 500 * time.Millisecond

// API is what the functions need of a cluster's API server.
type API interface {
	ClientConfig(who user.Info, agent string) *rest.Config
	Decoder() kubestorage.Decoder
	Discover() (*apiserver.Discovered, error)
}

// Options of a cluster's functions.
type Options struct {
	// Name of the cluster, and Partition, the first part of its partitions' names.
	Name, Partition string
	Store           table.Store
	Logs            kubestorage.Logs
	API             API
	Functions       []Function
	// Identity returns who a component is.
	Identity func(component string) user.Info
	// Settled is called when every function is at the head of its logs and nothing runs, with the
	// time at which the next thing is due, zero for nothing.
	Settled func(next time.Time)
	Now     func() time.Time
}

// Cluster runs the functions of one cluster that is awake.
type Cluster struct {
	Name    string
	Logs    kubestorage.Logs
	decoder kubestorage.Decoder
	api     API
	ledger  *ledger
	now     func() time.Time
	groups  []string
	*shared
}

// shared is what all functions of a cluster have in common.
type shared struct {
	ctx      context.Context //nolint:containedctx // the life of the cluster in this instance
	cancel   context.CancelFunc
	runners  []*runner
	identity func(string) user.Info
	settled  func(time.Time)
	recorder *recorder

	mu      sync.Mutex
	clients map[string]*planclient.Client
	active  int
	idle    *sync.Cond
	timer   *time.Timer
	armed   time.Time
	quiet   *time.Timer
}

// New returns the functions of a cluster, asleep. Ring or Wake starts them.
func New(o Options) *Cluster {
	ctx, cancel := context.WithCancel(context.Background())
	c := &Cluster{
		Name: o.Name, Logs: o.Logs, decoder: o.API.Decoder(), api: o.API, now: o.Now,
		ledger: newLedger(o.Store, o.Partition),
		shared: &shared{ctx: ctx, cancel: cancel, identity: o.Identity, settled: o.Settled, clients: map[string]*planclient.Client{}},
	}
	c.idle = sync.NewCond(&c.shared.mu)
	c.recorder = newRecorder(c)
	for _, fn := range o.Functions {
		c.runners = append(c.runners, &runner{fn: fn, cluster: c})
	}
	return c
}

// forFunction returns the cluster as a function sees it.
func (c *Cluster) forFunction(fn Function) *Cluster {
	view := *c
	view.groups = append(append([]string(nil), fn.Groups...), fn.Also...)
	return &view
}

// Ring takes an event: a log moved, or something is due. It does not block.
func (c *Cluster) Ring(e cloudevents.Event) {
	switch e.Type() {
	case events.ChangedType:
		changed, err := events.ParseChanged(e)
		if err != nil {
			slog.Error("malformed event", "cluster", c.Name, "error", err)
			return
		}
		for _, r := range c.runners {
			if r.listens(changed.Group) {
				r.ring()
			}
		}
	case events.DueType:
		due, err := events.ParseDue(e)
		if err != nil {
			slog.Error("malformed event", "cluster", c.Name, "error", err)
			return
		}
		for _, r := range c.runners {
			if r.fn.Name == due.Function {
				r.ring()
			}
		}
	}
}

// Wake rings for whatever was left behind: cursors that are not at the head of their logs, and what
// became due while the cluster slept.
func (c *Cluster) Wake(ctx context.Context) error {
	due, err := c.ledger.functionsDue(ctx, c.now())
	if err != nil {
		return err
	}
	for _, r := range c.runners {
		behind, err := r.behind(ctx)
		if err != nil {
			return fmt.Errorf("waking %s: %w", r.fn.Name, err)
		}
		if behind || due[r.fn.Name] {
			r.ring()
		}
	}
	c.arm()
	return nil
}

// Discover returns what the API server serves.
func (c *Cluster) Discover() (*apiserver.Discovered, error) { return c.api.Discover() }

// snapshot loads the current state of log groups.
func (c *Cluster) snapshot(ctx context.Context, groups []string) (*Snapshot, error) {
	s := &Snapshot{States: map[string]*tablelog.State{}, decoder: c.decoder}
	for _, g := range groups {
		state, err := c.Logs[g].Current(ctx)
		if err != nil {
			return nil, fmt.Errorf("loading the log %s: %w", g, err)
		}
		s.States[g] = state
	}
	return s, nil
}

// client returns the client of a component, such as "replicaset-controller".
func (c *Cluster) client(component string) *planclient.Client {
	c.shared.mu.Lock()
	defer c.shared.mu.Unlock()
	pc := c.clients[component]
	if pc == nil {
		pc = planclient.New(c.api.ClientConfig(c.identity(component), "zeroplane/"+component), c.Logs, c.decoder)
		c.clients[component] = pc
	}
	return pc
}

func (s *shared) enter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active++
}

// leave is called at the end of every run. When nothing runs any more, the cursors are stored after
// a quiet moment, and then the cluster has settled.
func (c *Cluster) leave() {
	c.shared.mu.Lock()
	defer c.shared.mu.Unlock()
	c.active--
	c.idle.Broadcast()
	if c.active > 0 || c.ctx.Err() != nil {
		return
	}
	if c.quiet == nil {
		c.quiet = time.AfterFunc(quietPeriod, c.settle)
	} else {
		c.quiet.Reset(quietPeriod)
	}
}

// settle stores the cursors and tells that the cluster has settled, unless something runs again.
func (c *Cluster) settle() {
	if c.Busy() {
		return
	}
	if err := c.store(c.ctx); err != nil {
		slog.Warn("cannot store cursors, will try again", "cluster", c.Name, "error", err)
		c.shared.mu.Lock()
		c.quiet.Reset(quietPeriod)
		c.shared.mu.Unlock()
		return
	}
	next, _, err := c.ledger.next(c.ctx)
	if err != nil {
		slog.Error("reading what is due", "cluster", c.Name, "error", err)
		return
	}
	if c.settled != nil && !c.Busy() {
		c.settled(next)
	}
}

// store stores the cursors that have moved.
func (c *Cluster) store(ctx context.Context) error {
	moved := map[string]map[string]uint64{}
	for _, r := range c.runners {
		if cursor := r.takeUnstored(); cursor != nil {
			moved[r.fn.Name] = cursor
		}
	}
	return c.ledger.storeCursors(ctx, moved)
}

// arm sets the timer to the next thing that is due.
func (c *Cluster) arm() {
	next, any, err := c.ledger.next(c.ctx)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			slog.Error("reading what is due", "cluster", c.Name, "error", err)
		}
		return
	}
	c.shared.mu.Lock()
	defer c.shared.mu.Unlock()
	if !any || c.ctx.Err() != nil {
		if c.timer != nil {
			c.timer.Stop()
		}
		c.armed = time.Time{}
		return
	}
	if next.Equal(c.armed) {
		return
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.armed = next
	c.timer = time.AfterFunc(max(next.Sub(c.now()), 0), c.ringDue)
}

// ringDue rings every function for which something is due.
func (c *Cluster) ringDue() {
	c.shared.mu.Lock()
	c.armed = time.Time{}
	c.shared.mu.Unlock()
	due, err := c.ledger.functionsDue(c.ctx, c.now())
	if err != nil {
		slog.Error("reading what is due", "cluster", c.Name, "error", err)
		return
	}
	for _, r := range c.runners {
		if due[r.fn.Name] {
			c.Ring(events.Due{Cluster: c.Name, Function: r.fn.Name, Time: c.now()}.Event())
		}
	}
	if len(due) == 0 {
		c.arm()
	}
}

// Busy reports whether anything runs.
func (c *Cluster) Busy() bool {
	c.shared.mu.Lock()
	defer c.shared.mu.Unlock()
	return c.active > 0
}

// Stop ends the functions and waits until they have stopped. What they had not finished is found
// again at the next Wake.
func (c *Cluster) Stop() {
	if err := c.store(c.ctx); err != nil {
		slog.Warn("cannot store cursors; their batches will be handled again", "cluster", c.Name, "error", err)
	}
	for _, r := range c.runners {
		r.stop()
	}
	c.cancel()
	c.shared.mu.Lock()
	defer c.shared.mu.Unlock()
	for _, t := range []*time.Timer{c.timer, c.quiet} {
		if t != nil {
			t.Stop()
		}
	}
	for c.active > 0 {
		c.idle.Wait()
	}
}
