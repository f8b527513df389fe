package consumer

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/zeroplane/zeroplane/core/plan"
)

const (
	// recordDelay lets what a notice tells of go first, and gathers more of its kind.
	recordDelay = 300 * time.Millisecond
	// maxNotices that wait to be written; more are dropped, as upstream's broadcaster does.
	maxNotices = 10000
	// noticesAtOnce are written in one scope: they share transactions.
	noticesAtOnce = 50
	// similarNotices of one object and reason that are written by themselves out of one batch; the
	// rest is one notice, as with upstream's aggregator (client-go/tools/record/events_cache.go).
	similarNotices = 10
)

// recorder writes notices as Kubernetes Events, behind the functions' backs: they are for people,
// and nothing waits for them.
type recorder struct {
	cluster *Cluster

	mu      sync.Mutex
	queue   []plan.Notice
	running bool
}

func newRecorder(c *Cluster) *recorder { return &recorder{cluster: c} }

func (r *recorder) record(notices []plan.Notice) {
	if len(notices) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, combine(notices)...)
	if drop := len(r.queue) - maxNotices; drop > 0 {
		r.queue = r.queue[drop:]
	}
	if !r.running && r.cluster.enter() {
		r.running = true
		time.AfterFunc(recordDelay, r.run)
	}
}

// combine makes one notice of the many alike that one batch gives.
func combine(notices []plan.Notice) []plan.Notice {
	type like struct{ uid, reason string }
	seen := map[like]int{}
	out := notices[:0:0]
	for _, n := range notices {
		k := like{string(n.Regarding.UID), n.Reason}
		seen[k]++
		switch {
		case seen[k] <= similarNotices:
			out = append(out, n)
		case seen[k] == similarNotices+1:
			n.Message = "(combined from similar events): " + n.Message
			out = append(out, n)
		}
	}
	return out
}

func (r *recorder) run() {
	defer r.cluster.leave()
	for {
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

func (r *recorder) write(ctx context.Context, batch []plan.Notice) {
	byComponent := map[string]*plan.Plan{}
	now := r.cluster.now()
	for _, n := range batch {
		p := byComponent[n.Component]
		if p == nil {
			p = &plan.Plan{}
			byComponent[n.Component] = p
		}
		ev := event(n, now)
		p.Writes = append(p.Writes, plan.Write{Verb: plan.Create, Resource: eventsResource, Namespace: ev.Namespace, Name: ev.Name, Object: ev})
	}
	for component, p := range byComponent {
		out, err := r.cluster.client(EventRecorder).Apply(ctx, *p, nil)
		if err == nil {
			err = out.Err
		}
		if err != nil && ctx.Err() == nil {
			slog.Debug("cannot write events", "cluster", r.cluster.Name, "component", component, "error", err)
		}
	}
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
