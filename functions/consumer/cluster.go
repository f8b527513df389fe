package consumer

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
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
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/events"
)

const (
	// quietPeriod is how long nothing runs before cursors are stored and the cluster counts as settled:
	// while a client writes one object after the other, that is not done after each.
	quietPeriod = 500 * time.Millisecond
	// stopGrace is how long what runs may go on after the functions were told to stop.
	stopGrace = 2 * time.Second
	// lookAgain is when to read again what is due, after that failed.
	lookAgain = time.Second
)

// The components that stand for what is not part of the control plane, or is for people to read. They
// leave the processors to the others.
const (
	EventRecorder    = "event-recorder"
	SimulatedKubelet = "simulated-kubelet"
)

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
	// time at which the next thing is due, zero for nothing. It returns false to be called again.
	Settled func(next time.Time) bool
	// Held functions do nothing by themselves, not even what is due, but from a Wake to the end of Settle.
	Held bool
	Now  func() time.Time
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
	// function is the name of the one whose view this is.
	function string
	*shared
}

// shared is what all functions of a cluster have in common.
type shared struct {
	ctx      context.Context //nolint:containedctx // the life of the cluster in this instance
	cancel   context.CancelFunc
	runners  []*runner
	identity func(string) user.Info
	settled  func(time.Time) bool
	recorder *recorder
	// arming is held while the next due time is read and the timer is set to it.
	arming sync.Mutex

	mu      sync.Mutex
	clients map[string]*planclient.Client
	stopped bool
	// held is set where nothing runs but from Wake to the end of Settle.
	held bool
	// active are the runs under way, tending what timers do behind them.
	active, tending int
	idle            *sync.Cond
	timer           *time.Timer
	armed           time.Time
	quiet           *time.Timer
}

// New returns the functions of a cluster, asleep. Ring or Wake starts them.
func New(o Options) *Cluster {
	ctx, cancel := context.WithCancel(context.Background())
	c := &Cluster{
		Name: o.Name, Logs: o.Logs, decoder: o.API.Decoder(), api: o.API, now: o.Now,
		ledger: newLedger(o.Store, o.Partition, o.Functions),
		shared: &shared{ctx: ctx, cancel: cancel, identity: o.Identity, settled: o.Settled, held: o.Held, clients: map[string]*planclient.Client{}},
	}
	c.idle = sync.NewCond(&c.mu)
	c.recorder = newRecorder(c)
	for _, fn := range o.Functions {
		c.runners = append(c.runners, &runner{fn: fn, cluster: c})
	}
	return c
}

// forFunction returns the cluster as a function sees it.
func (c *Cluster) forFunction(fn Function) *Cluster {
	view := *c
	view.function = fn.Name
	view.groups = append(append([]string(nil), fn.Groups...), fn.Also...)
	return &view
}

// Ring takes an event: a log moved, or something is due. It does not block.
func (c *Cluster) Ring(e cloudevents.Event) {
	now := tablelog.Now()
	switch e.Type() {
	case events.ChangedType:
		changed, err := events.ParseChanged(e)
		if err != nil {
			slog.Error("malformed event", "cluster", c.Name, "error", err)
			return
		}
		heard := false
		for _, r := range c.runners {
			if r.listens(changed.Group) {
				heard = true
				r.ring(now)
			}
		}
		if !heard { // still, the cluster was written to and must settle
			c.mu.Lock()
			c.quieten()
			c.mu.Unlock()
		}
	case events.TimerType:
		go func() {
			if err := c.Wake(c.ctx); err != nil && c.ctx.Err() == nil {
				slog.Error("cannot look for work left behind", "cluster", c.Name, "error", err)
			}
		}()
	case events.DueType:
		due, err := events.ParseDue(e)
		if err != nil {
			slog.Error("malformed event", "cluster", c.Name, "error", err)
			return
		}
		for _, r := range c.runners {
			if r.fn.Name == due.Function {
				r.ring(now)
			}
		}
	}
}

// Ask puts something off for a function from outside of its batches, durably, and rings it for what is due by now.
// The caller has marked the cluster dirty.
func (c *Cluster) Ask(ctx context.Context, function string, later ...plan.Later) error {
	for i := range later {
		later[i].Trace = tablelog.CauseOf(ctx, "").Traceparent()
	}
	if c.isHeld() { // it is others that do what was asked for, so what is in memory may be over
		c.ledger.reload()
	}
	if err := c.ledger.ask(ctx, function, later); err != nil {
		return err
	}
	for _, r := range c.runners {
		if r.fn.Name == function {
			r.ring(tablelog.Now())
		}
	}
	c.arm()
	return nil
}

// Wake rings for whatever was left behind: cursors that are not at the head of their logs, and what
// became due while the cluster slept. When that cannot be found out, everybody looks.
func (c *Cluster) Wake(ctx context.Context) error {
	if !c.enter() {
		return nil
	}
	c.mu.Lock()
	c.held = false
	c.mu.Unlock()
	defer c.leave()
	err := c.wake(ctx)
	if err != nil {
		now := tablelog.Now()
		for _, r := range c.runners {
			r.ring(now)
		}
	}
	c.arm()
	return err
}

func (c *Cluster) wake(ctx context.Context) error {
	now := tablelog.Now()
	ctx = tablelog.BeginAt(ctx, now)
	c.ledger.reload()
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
			r.ring(now)
		}
	}
	return nil
}

// Discover returns what the API server serves.
func (c *Cluster) Discover() (*apiserver.Discovered, error) { return c.api.Discover() }

// client returns the client of a component, such as "replicaset-controller".
func (c *Cluster) client(component string) *planclient.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	pc := c.clients[component]
	if pc == nil {
		pc = planclient.New(c.api.ClientConfig(c.identity(component), "zeroplane/"+component), c.Logs, c.decoder)
		if component == EventRecorder || component == SimulatedKubelet {
			pc.InBackground()
		}
		c.clients[component] = pc
	}
	return pc
}

// enter is called at the beginning of every run. It returns false when the cluster was stopped and
// has come to rest.
func (s *shared) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begin()
}

// enterUnheld is enter for what does not begin while everything is held.
func (s *shared) enterUnheld() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.held && s.begin()
}

// begin counts a run. The caller holds mu.
func (s *shared) begin() bool {
	if s.stopped && s.active == 0 {
		return false
	}
	s.active++
	return true
}

// leave is called at the end of every run. When nothing runs any more, the cursors are stored after
// a quiet moment, and then the cluster has settled.
func (c *Cluster) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active--
	c.idle.Broadcast()
	if c.active == 0 {
		c.quieten()
	}
}

// awaitAlone waits until the caller's run is the only one, for as long as patience at most.
func (s *shared) awaitAlone(patience time.Duration) {
	over := false
	defer time.AfterFunc(patience, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		over = true
		s.idle.Broadcast()
	}).Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.active > 1 && !s.stopped && !over {
		s.idle.Wait()
	}
}

// quieten lets the cluster settle after the quiet period. The caller holds mu.
func (c *Cluster) quieten() {
	switch {
	case c.stopped, c.held:
	case c.quiet == nil:
		c.quiet = time.AfterFunc(quietPeriod, func() { c.tend(c.settleOrWait) })
	default:
		c.quiet.Reset(quietPeriod)
	}
}

// tend does the work of a timer, which Stop waits for.
func (c *Cluster) tend(work func()) {
	c.mu.Lock()
	if c.stopped || c.held {
		c.mu.Unlock()
		return
	}
	c.tending++
	c.mu.Unlock()
	work()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tending--
	c.idle.Broadcast()
}

// settleOrWait settles, or does so after another quiet period.
func (c *Cluster) settleOrWait() {
	if c.Busy() || c.settle() { // the end of what runs leads here
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quieten()
}

// settle stores the cursors and tells that the cluster has settled. It returns false when that failed, or something
// happened meanwhile.
func (c *Cluster) settle() bool {
	if c.ringMissed() {
		return false
	}
	err := c.store(c.ctx)
	var next time.Time
	if err == nil {
		next, _, err = c.ledger.next(c.ctx)
	}
	if err != nil {
		slog.Warn("cannot settle, will try again", "cluster", c.Name, "error", err)
	}
	return err == nil && !c.Busy() && (c.settled == nil || c.settled(next))
}

// Settle waits until nothing runs, and settles without a quiet period. When it returns nil nothing is under way and
// nothing is armed until the next Wake: the process may be frozen. It fails with the context's error.
func (c *Cluster) Settle(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.idle.Broadcast()
	})()
	for pause := settleAgain; ; pause = min(2*pause, quietPeriod) {
		if err := c.rest(ctx); err != nil {
			return fmt.Errorf("cluster %q has not settled: %w", c.Name, err)
		}
		if c.settle() && c.hold() {
			return nil
		}
		if !c.Busy() && !table.Wait(ctx, pause) {
			return fmt.Errorf("cluster %q has not settled: %w", c.Name, ctx.Err())
		}
	}
}

// settleAgain is the first pause after a cluster could not settle though nothing ran.
const settleAgain = 10 * time.Millisecond

// rest waits until nothing runs, and stops the timers.
func (c *Cluster) rest(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.active+c.tending > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.idle.Wait()
	}
	c.stopTimers()
	return ctx.Err()
}

// hold keeps everything from starting, unless something has.
func (c *Cluster) hold() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = c.active+c.tending == 0
	if c.held {
		c.stopTimers()
	}
	return c.held
}

// stopTimers stops what would run later. The caller holds mu.
func (c *Cluster) stopTimers() {
	for _, t := range []*time.Timer{c.timer, c.quiet} {
		if t != nil {
			t.Stop()
		}
	}
	c.armed = time.Time{}
}

// store stores the cursors that have moved.
func (c *Cluster) store(ctx context.Context) error {
	moved := map[string]map[string]uint64{}
	var taken []*runner
	for _, r := range c.runners {
		if cursor := r.takeUnstored(); cursor != nil {
			moved[r.fn.Name] = cursor
			taken = append(taken, r)
		}
	}
	err := c.ledger.storeCursors(ctx, moved)
	if err != nil {
		for _, r := range taken {
			r.putBackUnstored()
		}
	}
	return err
}

// arm sets the timer to the next thing that is due.
func (c *Cluster) arm() {
	if c.isHeld() {
		return
	}
	c.arming.Lock()
	defer c.arming.Unlock()
	next, _, err := c.ledger.next(c.ctx)
	if err != nil {
		if c.ctx.Err() != nil {
			return
		}
		slog.Error("reading what is due, will try again", "cluster", c.Name, "error", err)
		next = c.now().Add(lookAgain)
	}
	c.armAt(next)
}

// armAt sets the timer, zero for never.
func (c *Cluster) armAt(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped || c.held || at.Equal(c.armed) {
		return
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.armed = at; !at.IsZero() {
		c.timer = time.AfterFunc(max(at.Sub(c.now()), 0), func() { c.tend(c.ringDue) })
	}
}

func (c *Cluster) isHeld() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

// ringDue rings every function for which something is due.
func (c *Cluster) ringDue() {
	c.mu.Lock()
	c.armed = time.Time{}
	c.mu.Unlock()
	due, err := c.ledger.functionsDue(c.ctx, c.now())
	if err != nil {
		slog.Error("reading what is due", "cluster", c.Name, "error", err)
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

// Missed reports whether this instance knows of changes that a function has not seen: a bell was lost.
func (c *Cluster) Missed() bool { return slices.ContainsFunc(c.runners, (*runner).missed) }

// ringMissed rings for those.
func (c *Cluster) ringMissed() bool {
	rang, now := false, tablelog.Now()
	for _, r := range c.runners {
		if r.missed() {
			r.ring(now)
			rang = true
		}
	}
	return rang
}

// Busy reports whether anything runs.
func (c *Cluster) Busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.active > 0
}

// Next returns the time at which the next thing is due, zero for nothing.
func (c *Cluster) Next(ctx context.Context) (time.Time, error) {
	next, _, err := c.ledger.next(ctx)
	return next, err
}

// Stop ends the functions and waits until they have stopped, a moment by themselves and then because
// their context ends. What they had not finished is found again at the next Wake.
func (c *Cluster) Stop() {
	c.mu.Lock()
	c.stopped = true
	c.stopTimers()
	c.mu.Unlock()
	for _, r := range c.runners {
		r.stop()
	}
	grace := time.AfterFunc(stopGrace, c.cancel)
	c.mu.Lock()
	for c.active+c.tending > 0 {
		c.idle.Wait()
	}
	c.mu.Unlock()
	grace.Stop()
	c.cancel()
	if err := c.store(context.Background()); err != nil {
		slog.Warn("cannot store cursors; their batches will be handled again", "cluster", c.Name, "error", err)
	}
}
