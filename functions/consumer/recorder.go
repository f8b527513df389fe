package consumer

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/zeroplane/zeroplane/core/plan"
)

const (
	// recordDelay lets what a notice tells of go first, and gathers more of its kind.
	recordDelay = 300 * time.Millisecond
	// maxRecordDelay is how long a notice gives way to functions that go on running.
	maxRecordDelay = 30 * time.Second
	// maxNotices that wait to be written; more are dropped, as upstream's broadcaster does beyond 1,000.
	maxNotices = 20000
	// noticesAtOnce are written in one scope: they share transactions.
	noticesAtOnce = 50
)

// observed is a notice with the time at which it was given.
type observed struct {
	notice plan.Notice
	at     time.Time
}

// recorder writes notices as Kubernetes Events, behind the functions' backs: they are for people,
// and nothing waits for them. It gives way to functions that run.
type recorder struct {
	cluster    *Cluster
	correlator *correlator

	mu      sync.Mutex
	queue   []observed
	running bool
}

func newRecorder(c *Cluster) *recorder {
	return &recorder{cluster: c, correlator: newCorrelator(c.now)}
}

func (r *recorder) record(notices []plan.Notice) {
	if len(notices) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cluster.now()
	for _, n := range notices {
		r.queue = append(r.queue, observed{n, now})
	}
	if drop := len(r.queue) - maxNotices; drop > 0 {
		r.queue = r.queue[drop:]
	}
	if !r.running && r.cluster.enter() {
		r.running = true
		time.AfterFunc(recordDelay, r.run)
	}
}

func (r *recorder) run() {
	defer r.cluster.leave()
	for {
		r.giveWay()
		r.mu.Lock()
		n := min(len(r.queue), noticesAtOnce)
		batch := r.queue[:n:n]
		r.queue = r.queue[n:]
		if n == 0 || r.cluster.ctx.Err() != nil {
			r.queue, r.running = nil, false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		r.write(r.cluster.ctx, batch)
	}
}

// giveWay waits until no function runs, or the first notice has waited for long enough.
func (r *recorder) giveWay() {
	r.mu.Lock()
	patience := maxRecordDelay
	if len(r.queue) > 0 {
		patience -= r.cluster.now().Sub(r.queue[0].at)
	}
	r.mu.Unlock()
	r.cluster.awaitAlone(patience)
}

// write writes what becomes of a batch of notices. Together it is refused for one of its writes, such as
// the patch of an Event that is gone; then each is written by itself, and again if that was done before.
func (r *recorder) write(ctx context.Context, batch []observed) {
	writes := r.correlator.writes(batch)
	if len(writes) == 0 || r.apply(ctx, writes...) == nil {
		return
	}
	for _, w := range writes {
		err := r.apply(ctx, w)
		if w.Verb == plan.Patch && apierrors.IsNotFound(err) { // it was deleted, or it expired
			w.Verb = plan.Create
			err = r.apply(ctx, w)
		}
		if err != nil && ctx.Err() == nil {
			slog.Debug("cannot write an event", "cluster", r.cluster.Name, "namespace", w.Namespace, "name", w.Name, "error", err)
		}
	}
}

func (r *recorder) apply(ctx context.Context, writes ...plan.Write) error {
	out, err := r.cluster.client(EventRecorder).Apply(ctx, plan.Plan{Writes: writes}, nil)
	if err == nil {
		err = out.Err
	}
	return err
}

var eventsResource = corev1.SchemeGroupVersion.WithResource("events")

// event is the Event of a notice, as client-go/tools/record makes it.
func event(n plan.Notice, now time.Time) *corev1.Event {
	namespace := n.Regarding.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	ev := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace,
			Name:      fmt.Sprintf("%s.%s", n.Regarding.Name, uuid.NewUUID()[:18]),
		},
		InvolvedObject: n.Regarding, Related: n.Related, Reason: n.Reason, Message: n.Message, Type: n.Type,
		Source: corev1.EventSource{Component: n.Component}, ReportingController: n.Component,
	}
	if n.Action != "" { // of the newer kind: a time, and no count
		ev.EventTime, ev.Action, ev.ReportingInstance = metav1.NewMicroTime(now), n.Action, n.Component+"-zeroplane"
		ev.Source = corev1.EventSource{}
		return ev
	}
	ev.FirstTimestamp, ev.LastTimestamp, ev.Count = metav1.NewTime(now), metav1.NewTime(now), 1
	return ev
}
