package localhost

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	apiserverapi "k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/deadletter"
	"github.com/zeroplane/zeroplane/adapters/doorbell"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/samples"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/adapters/webhook"
	"github.com/zeroplane/zeroplane/core/scheduling"
	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/functions/access"
	"github.com/zeroplane/zeroplane/functions/attachdetach"
	"github.com/zeroplane/zeroplane/functions/certificates"
	"github.com/zeroplane/zeroplane/functions/consumer"
	"github.com/zeroplane/zeroplane/functions/daemonsets"
	"github.com/zeroplane/zeroplane/functions/definitions"
	"github.com/zeroplane/zeroplane/functions/disruption"
	"github.com/zeroplane/zeroplane/functions/endpoints"
	"github.com/zeroplane/zeroplane/functions/jobs"
	"github.com/zeroplane/zeroplane/functions/kubelets"
	"github.com/zeroplane/zeroplane/functions/lifecycle"
	"github.com/zeroplane/zeroplane/functions/metrics"
	"github.com/zeroplane/zeroplane/functions/nodeipam"
	"github.com/zeroplane/zeroplane/functions/nodes"
	"github.com/zeroplane/zeroplane/functions/placement"
	"github.com/zeroplane/zeroplane/functions/quota"
	"github.com/zeroplane/zeroplane/functions/resourceclaims"
	"github.com/zeroplane/zeroplane/functions/servicecidrs"
	"github.com/zeroplane/zeroplane/functions/signals"
	"github.com/zeroplane/zeroplane/functions/statefulsets"
	"github.com/zeroplane/zeroplane/functions/tokens"
	"github.com/zeroplane/zeroplane/functions/upkeep"
	"github.com/zeroplane/zeroplane/functions/volumes"
	"github.com/zeroplane/zeroplane/functions/workloads"
)

// awake is a cluster that this process serves: its API chain and its functions.
type awake struct {
	info      cluster.Info
	server    *apiserver.Server
	functions *consumer.Cluster
	profiles  []scheduling.Profile
	samples   *samples.Keeper
	dirty     *dirty
	unhear    func()

	// requests ends with the cluster, watches also when the host stops.
	requests, watches context.Context //nolint:containedctx // the life of the cluster in this process
	end               func()

	mu    sync.Mutex
	under int // requests under way
	left  *sync.Cond
	used  time.Time
	// rung is when something is due for which a bell was sent last.
	rung time.Time
	// verified is when it was last asked whether the cluster exists.
	verified time.Time
	logs     kubestorage.Logs
	letters  deadletter.Box
	// attending counts the calls for which work is done in a process that is frozen between calls, owed while a request's is left to
	// a bell that was not sent yet.
	attending atomic.Int32
	owed      atomic.Bool
	// looking is set while somebody is about to look for what an event from outside may be about.
	looking atomic.Bool
	// held is set where nothing runs between two calls: what the dirty row says is left to others.
	held bool
	// others are the instances that said they are at work on the cluster (push.go).
	others others
	// rested is closed, and made anew, whenever the functions have caught up.
	rested chan struct{}
}

// wake assembles a cluster.
func (h *Host) wake(info cluster.Info) (*awake, error) {
	keys, err := h.unseal(info)
	if err != nil {
		return nil, err
	}
	serverKeys, err := keys.ForServer()
	if err != nil {
		return nil, err
	}
	a := &awake{info: info, profiles: h.opts.Profiles, dirty: &dirty{store: h.store, cluster: info.Name, instance: h.instance}, used: time.Now(), verified: time.Now(), rested: make(chan struct{})}
	a.left = sync.NewCond(&a.mu)
	var endRequests, endWatches func()
	a.requests, endRequests = context.WithCancel(context.Background())
	a.watches, endWatches = context.WithCancel(a.requests)
	unwatch := context.AfterFunc(h.watches, endWatches)
	a.end = func() { unwatch(); endRequests() }
	bell := doorbell.New()
	logs := kubestorage.NewLogs(h.store, info.Partition(), func(group string) tablelog.Options {
		return tablelog.Options{
			SoleWriter: !h.opts.Store.Shared, BeforeWrite: a.dirty.beforeWrite, Cache: h.cache,
			Committed: func(rev uint64, cause *tablelog.Cause) {
				c := events.Changed{Cluster: info.Name, Group: group, Revision: rev, Time: time.Now(), Trace: cause.Traceparent()}
				bell.Ring(c.Event())
				h.tell(c)
			},
		}
	})
	a.logs = logs
	// What the server's plugins are configured with is read first: they would not say why they cannot.
	if _, err := logs[kubestorage.ConfigGroup].Current(context.Background()); err != nil {
		return nil, err
	}
	a.samples = samples.New(samples.Options{
		Store: h.store, Partition: info.Partition(), Logs: logs, Decoder: apiserver.NewDecoder(h.encryption), Now: time.Now,
	})
	var anonymous *apiserverapi.AnonymousAuthConfig
	if h.opts.Authentication != nil {
		anonymous = h.opts.Authentication.Anonymous
	}
	a.server, err = apiserver.New(apiserver.Options{
		Logs: logs, Keys: serverKeys, Address: h.address, PathPrefix: cluster.PathPrefix(info.Name), ServiceRange: cluster.ServiceRange,
		Encryption: h.encryption, Senders: &webhook.Signatures{Path: eventsPath, Secrets: a.senderSecrets, Now: time.Now}, OwnTime: eventsPath,
		Metrics: a.samples, Tokens: h.issuers, Anonymous: anonymous,
	})
	if err != nil {
		return nil, err
	}
	functions, err := h.functions(a, keys)
	if err != nil {
		return nil, err
	}
	a.functions = consumer.New(consumer.Options{
		Name: info.Name, Partition: info.Partition(), Store: h.store, Logs: logs, API: a.server, Functions: functions,
		Identity: identity, Held: h.opts.Front.Freezes, Settled: func(next time.Time) bool { return h.settled(a, next) }, Now: time.Now,
	})
	h.connect(a, bell)
	a.letters = deadletter.New(h.store, info.Partition())
	h.mountEvents(a)
	a.server.Mount(PlacementPath, http.HandlerFunc(a.explainPlacement))
	a.server.Mount(WhatIfPath, http.HandlerFunc(a.answerWhatIf))
	if info.Name == cluster.Default {
		a.server.Mount(managePath, http.HandlerFunc(h.manage))
	}
	return a, nil
}

// functions are those of a cluster, which has keys.
func (h *Host) functions(a *awake, keys cluster.Keys) ([]consumer.Function, error) {
	authority, err := keys.Authority()
	if err != nil {
		return nil, err
	}
	accountTokens, err := keys.AccountTokens()
	if err != nil {
		return nil, err
	}
	rootCA := string(h.rootCA)
	all := []consumer.Function{
		workloads.Function(), statefulsets.Function(), daemonsets.Function(), jobs.Function(), placement.Function(h.opts.Profiles...), nodes.Function(), kubelets.Function(),
		lifecycle.Function(rootCA), disruption.Function(), endpoints.Function(), quota.Function(), access.Function(), upkeep.Function(), signals.DrainFunction(),
		volumes.Function(), attachdetach.Function(), resourceclaims.Function(), servicecidrs.Function(), definitions.Function(),
		certificates.Function(certificates.Options{Authority: authority, RootCA: rootCA}), tokens.Function(tokens.Options{Tokens: accountTokens, RootCA: rootCA}),
		metrics.Function(metrics.Options{Store: h.store, Partition: a.info.Partition(), Samples: a.samples}),
	}
	if len(h.opts.PodRanges) > 0 {
		all = append(all, nodeipam.Function(h.opts.PodRanges, cluster.ServicePrefix()))
	}
	return all, nil
}

// connect has what is written to a cluster ring.
func (h *Host) connect(a *awake, bell *doorbell.Bell) {
	if h.opts.Front.Freezes {
		a.freeze(bell)
		return
	}
	hear := a.functions.Ring
	if h.opts.Deliver != nil {
		hear = func(e cloudevents.Event) { h.opts.Deliver(e, a.functions.Ring) }
	}
	a.unhear = bell.Subscribe(hear)
	a.dirty.marks = func() { go h.ring(a.info.Name, time.Now().Add(leftAfter)) }
	a.dirty.tick = func() { bell.Ring(events.Timer{Cluster: a.info.Name, Time: time.Now()}.Event()) }
}

// identity is who a component is: a controller of kube-system with its bootstrap rights, the
// scheduler, the controller manager or the API server itself, or one of ours that upstream has no role for.
func identity(component string) user.Info {
	switch component {
	case kubelets.Component, consumer.EventRecorder, signals.Component:
		return &user.DefaultInfo{Name: "zeroplane:" + component, Groups: []string{user.SystemPrivilegedGroup, user.AllAuthenticated}}
	case user.KubeScheduler, user.KubeControllerManager:
		return apiserver.Component(component)
	case user.APIServerUser:
		return apiserver.System
	default:
		return apiserver.ServiceAccount(component)
	}
}

// settled is called when the functions of a cluster have caught up. It returns false when something
// happens again.
func (h *Host) settled(a *awake, next time.Time) bool {
	ok, err := a.dirty.clean(context.Background(), next, func() bool { return !a.functions.Busy() && !a.functions.Missed() })
	if err != nil {
		slog.Warn("cannot clean up after the functions", "cluster", a.info.Name, "error", err)
	}
	if ok {
		if a.unrung(next) {
			h.ring(a.info.Name, next)
		}
		a.rest()
		h.quieter()
		if !h.opts.Front.Freezes {
			go h.clusters.sleepExcess()
		}
	}
	return ok
}

// rungAnew is how close a time is for which a bell is sent again, though one was: it may have been heard too early.
const rungAnew = 10 * time.Second

// unrung reports whether a bell is to be sent for when something is due, zero for never, and notes that it is.
func (a *awake) unrung(next time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	known := next.Equal(a.rung) && time.Until(next) > rungAnew
	a.rung = next
	return !next.IsZero() && !known
}

// rest tells those who wait that the functions have caught up.
func (a *awake) rest() {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.rested)
	a.rested = make(chan struct{})
}

// settle waits until the functions have caught up and nothing is left.
func (a *awake) settle(ctx context.Context) error {
	for {
		a.mu.Lock()
		rested := a.rested
		a.mu.Unlock()
		if !a.functions.Busy() && !a.dirty.marked() {
			return nil
		}
		select {
		case <-rested:
		case <-ctx.Done():
			return fmt.Errorf("cluster %q has not settled: %w", a.info.Name, ctx.Err())
		}
	}
}

// enter and leave count the requests under way: a cluster that has some is not put to sleep.
func (a *awake) enter() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.under++
	a.used = time.Now()
}

// leave returns whether this was the last request under way.
func (a *awake) leave() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.under--
	a.used = time.Now()
	a.left.Broadcast()
	return a.under == 0
}

// resting reports whether nothing happens in the cluster, and when it was last used.
func (a *awake) resting() (bool, time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.under == 0 && !a.functions.Busy() && (a.held || !a.dirty.marked()), a.used
}

// drain ends the requests under way and waits until they have, for a while.
func (a *awake) drain(limit time.Duration) {
	a.end()
	over := false
	timer := time.AfterFunc(limit, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		over = true
		a.left.Broadcast()
	})
	defer timer.Stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.under > 0 && !over {
		a.left.Wait()
	}
}

// sleep ends everything that the cluster runs, and returns when it is to be woken, zero for never.
func (a *awake) sleep() time.Time {
	ctx := context.Background()
	a.dirty.stop()
	a.others.stop()
	a.unhear()
	a.functions.Stop()
	a.server.Close()
	a.end()
	for _, l := range a.logs {
		l.Close()
	}
	next, err := a.functions.Next(ctx)
	if err != nil {
		slog.Error("cannot tell when something is due", "cluster", a.info.Name, "error", err)
		return time.Now()
	}
	if a.dirty.marked() { // something began when it was put to sleep
		return time.Now()
	}
	return next
}
