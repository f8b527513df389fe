package localhost

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/doorbell"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/events"
)

// Instances push bells to each other over HTTP. A bell that names its sender says that the sender is at work on what it
// wrote: others look at the logs that somebody watches there, and leave the work to it. One that names nobody says that
// work was left: whoever hears it does it. No bell is needed for anything: watched logs are looked at anyway, and what
// is left the queue's bell and the timer find.

const (
	// pushWindow is how far apart pushes of an instance are at least, each with one bell of each cluster that was written to.
	pushWindow = 200 * time.Millisecond
	// streamWindow is how far apart batches of the stream are at least, each with one event of each log that moved.
	streamWindow = time.Second
	// leaveAlone is how long an instance that said it is at work has nobody look after its last word: some time more
	// than functions take to settle.
	leaveAlone = 10 * time.Second
	// maxOthers are remembered of a cluster at a time; of more it is not known whether they finish.
	maxOthers = 32
)

// What became of a bell that was pushed to this instance.
const (
	ownEcho    = "own"
	lookedAt   = "looked"
	notWatched = "unwatched"
	notAwake   = "asleep"
	takenOn    = "work"
)

var (
	pushesHeard = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "zeroplane", Subsystem: "pushes", Name: "heard_total", StabilityLevel: metrics.ALPHA,
		Help: "Bells that came to a webhook, by what became of them: own (an echo), looked (a watched log was looked at), unwatched, asleep, or work (it was looked for what nobody is at).",
	}, []string{"outcome"})
	pushesSent = metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "zeroplane", Subsystem: "pushes", Name: "sent_total", StabilityLevel: metrics.ALPHA,
		Help: "Bells to be pushed, and events of the stream, by where to (topic or stream) and what became of them: sent, merged, failed or dropped.",
	}, []string{"to", "outcome"})
)

func init() { legacyregistry.MustRegister(pushesHeard, pushesSent) }

func counting(to string) func(string, int) {
	return func(outcome string, n int) { pushesSent.WithLabelValues(to, outcome).Add(float64(n)) }
}

// newPushes returns what pushes bells, nil if nobody could hear them, or if nothing runs between two calls.
func (h *Host) newPushes() *doorbell.Gather {
	if h.opts.Pushes == nil || h.instance == "" || h.opts.Front.Freezes {
		return nil
	}
	return doorbell.NewGather(doorbell.GatherOptions{
		Name: "the topic of bells", Send: h.opts.Pushes.Publish, Window: pushWindow, Count: counting("topic"),
		Key: events.ClusterOf, Merge: mergeBells,
	})
}

// mergeBells makes one bell of two of a cluster. That work is left may not be lost.
func mergeBells(older, newer events.Message) events.Message {
	for _, m := range []events.Message{older, newer} {
		if events.SenderOf(m) == "" {
			return m
		}
	}
	a, isChange := older.(events.Changed)
	b, both := newer.(events.Changed)
	if isChange && both && a.Group == b.Group {
		if a.Revision > b.Revision {
			return a
		}
		return b
	}
	return events.Timer{Cluster: events.ClusterOf(newer), Time: time.Now(), Instance: events.SenderOf(newer)}
}

// newStream returns what sends the stream of changes, nil if nobody gets it.
func (h *Host) newStream() *doorbell.Gather {
	if h.opts.Stream == nil || h.opts.Front.Freezes {
		return nil
	}
	return doorbell.NewGather(doorbell.GatherOptions{
		Name: "the stream of changes", Send: h.opts.Stream.Publish, Window: streamWindow, Count: counting("stream"),
		Key: func(m events.Message) string {
			c, _ := m.(events.Changed)
			return c.Cluster + " " + c.Group
		},
		Merge: mergeBells,
	})
}

// tell tells others that a log has moved.
func (h *Host) tell(c events.Changed) {
	c.Instance = h.instance
	h.pushes.Ring(c)
	h.stream.Ring(c)
}

// leave tells others that this instance leaves work of a cluster.
func (h *Host) leave(name string) { h.pushes.Ring(events.Timer{Cluster: name, Time: time.Now()}) }

// sees takes a bell of an instance that is at work itself, and reports whether it was one.
func (a *awake) sees(m events.Message) bool {
	sender := events.SenderOf(m)
	if sender == "" || a.held {
		return false
	}
	if sender == a.dirty.instance {
		pushesHeard.WithLabelValues(ownEcho).Inc()
		return true
	}
	outcome := notWatched
	changed, one := m.(events.Changed)
	for group, l := range a.logs {
		if one && (group != changed.Group || l.Seen() >= changed.Revision) {
			continue
		}
		if l.LookNow() {
			outcome = lookedAt
		}
	}
	pushesHeard.WithLabelValues(outcome).Inc()
	a.others.atWork(sender, a.lookAfter)
	return true
}

// hearAny takes an event that came to the default cluster's webhook: its own, or a bell of any other.
func (h *Host) hearAny(ctx context.Context, a *awake, e cloudevents.Event) error {
	m, err := events.Parse(e)
	name := events.ClusterOf(m)
	if err != nil || name == a.info.Name {
		return a.hear(ctx, e)
	}
	sender := events.SenderOf(m)
	switch {
	case sender == h.instance && sender != "":
		pushesHeard.WithLabelValues(ownEcho).Inc()
		return nil
	case sender != "" && !h.opts.Front.Freezes: // a cluster is not woken for what somebody is at
		other := h.clusters.ifAwake(name)
		if other == nil {
			pushesHeard.WithLabelValues(notAwake).Inc()
			return nil
		}
		defer other.leave()
		return other.hear(ctx, e)
	}
	other, err := h.clusters.get(ctx, name)
	if errors.Is(err, cluster.ErrNotFound) {
		slog.Info("a bell of a cluster that does not exist", "cluster", name, "type", e.Type())
		return nil
	}
	if err != nil {
		return err
	}
	defer other.leave()
	defer h.ringOwed(other)
	return other.hear(ctx, e)
}

// others are instances that said they are at work on a cluster. When none has said so for a while, it is looked after
// them once.
type others struct {
	mu      sync.Mutex
	names   []string
	timer   *time.Timer
	stopped bool
}

// atWork notes an instance, and has after be called with all those noted once none has been noted for leaveAlone.
func (o *others) atWork(name string, after func([]string)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopped {
		return
	}
	if !slices.Contains(o.names, name) && len(o.names) < maxOthers {
		o.names = append(o.names, name)
	}
	if o.timer != nil {
		o.timer.Reset(leaveAlone)
		return
	}
	o.timer = time.AfterFunc(leaveAlone, func() {
		o.mu.Lock()
		names := o.names
		o.names = nil
		stopped := o.stopped
		o.mu.Unlock()
		if !stopped && len(names) > 0 {
			after(names)
		}
	})
}

// stop ends the timer, for a cluster that goes to sleep.
func (o *others) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopped = true
	if o.timer != nil {
		o.timer.Stop()
	}
}

// lookAfter looks whether instances that were at work have finished, and has the functions here go on where one has not:
// it may be gone. Its row stays for the timer, which can tell.
func (a *awake) lookAfter(instances []string) {
	ctx, cancel := context.WithTimeout(a.requests, sendTimeout)
	defer cancel()
	for _, name := range instances {
		busy, err := a.dirty.atWork(ctx, name)
		if err != nil {
			if a.requests.Err() == nil {
				slog.Warn("cannot look after another instance; the timer will", "cluster", a.info.Name, "error", err)
			}
			return
		}
		if !busy {
			continue
		}
		pushesHeard.WithLabelValues(takenOn).Inc()
		if !a.looking.Swap(true) {
			a.enter()
			a.lookForWork()
		}
		return
	}
}

// atWork reports whether another instance's row says that it has work at once.
func (d *dirty) atWork(ctx context.Context, name string) (bool, error) {
	row, err := d.store.Get(ctx, dirtyPartition, (&dirty{cluster: d.cluster, instance: name}).key())
	if errors.Is(err, table.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var r dirtyRow
	if err := json.Unmarshal(row.Value, &r); err != nil {
		return false, errors.Join(table.ErrCorrupt, err)
	}
	return r.Wake.IsZero(), nil
}
