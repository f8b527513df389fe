package consumer

import (
	"encoding/json"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/lru"

	"github.com/zeroplane/zeroplane/core/plan"
)

const (
	// seriesEnd is how long after the last of its kind an Event of the newer kind begins anew, as
	// upstream's finishTime (client-go/tools/events/event_broadcaster.go).
	seriesEnd = 6 * time.Minute
	// maxSeries are remembered; of more, the one that was not met for longest is forgotten. Upstream has
	// no limit and sweeps every 6 minutes.
	maxSeries = 1000
)

// correlator finds the notices that repeat others, and makes of them what upstream's components do. As
// theirs, its memory ends with the process, and here with the cluster's being awake. One serves all
// components, since its keys tell them apart.
type correlator struct {
	now func() time.Time
	// older counts, combines and limits Events of the older kind.
	older *record.EventCorrelator
	// newer has the last state of the Events of the newer kind, *corev1.Event by isomorphism.
	newer *lru.Cache
}

func newCorrelator(now func() time.Time) *correlator {
	return &correlator{
		now: now, newer: lru.New(maxSeries),
		older: record.NewEventCorrelatorWithOptions(record.CorrelatorOptions{Clock: passiveClock(now)}),
	}
}

// passiveClock is a clock as upstream's correlator wants it.
type passiveClock func() time.Time

func (c passiveClock) Now() time.Time                  { return c() }
func (c passiveClock) Since(t time.Time) time.Duration { return c().Sub(t) }

// writes returns the writes of notices, one for each Event.
func (c *correlator) writes(notices []observed) []plan.Write {
	var out []plan.Write
	at := map[types.NamespacedName]int{}
	for _, n := range notices {
		ev, patch := c.correlate(event(n.notice, n.at))
		if ev == nil {
			continue
		}
		w := plan.Write{
			Verb: plan.Create, Resource: eventsResource, Namespace: ev.Namespace, Name: ev.Name, Object: ev,
			PatchType: types.StrategicMergePatchType, PatchBody: patch,
		}
		if patch != nil {
			w.Verb = plan.Patch
		}
		name := types.NamespacedName{Namespace: ev.Namespace, Name: ev.Name}
		if i, met := at[name]; met { // the later patch says all that the earlier says
			w.Verb = out[i].Verb
			out[i] = w
			continue
		}
		at[name] = len(out)
		out = append(out, w)
	}
	return out
}

// correlate returns the Event that an observed one becomes, nil for none, and the patch that makes it of
// the Event that is stored, nil if none is.
func (c *correlator) correlate(observed *corev1.Event) (*corev1.Event, []byte) {
	if observed.Action != "" {
		return c.series(observed)
	}
	// Upstream's UpdateState would tell of names and versions that the server gave: names are ours, and
	// the patches carry no version.
	result, err := c.older.EventCorrelate(observed)
	switch {
	case err != nil:
		slog.Debug("cannot correlate an event", "namespace", observed.Namespace, "name", observed.Name, "error", err)
		return nil, nil
	case result.Skip:
		return nil, nil
	}
	return result.Event, result.Patch
}

// isomorphism is what Events of one series have in common, upstream's eventKey.
type isomorphism struct {
	eventType, action, reason, controller, instance string
	regarding, related                              corev1.ObjectReference
}

// series makes one Event of those that follow each other, as upstream's recordToSink. The count is written
// each time, and not at the end of the series: no timer waits for that.
func (c *correlator) series(observed *corev1.Event) (*corev1.Event, []byte) {
	key := isomorphism{
		eventType: observed.Type, action: observed.Action, reason: observed.Reason,
		controller: observed.ReportingController, instance: observed.ReportingInstance, regarding: observed.InvolvedObject,
	}
	if observed.Related != nil {
		key.related = *observed.Related
	}
	cached, _ := c.newer.Get(key)
	first, met := cached.(*corev1.Event)
	if !met || observed.EventTime.Sub(lastObserved(first)) > seriesEnd {
		c.newer.Add(key, observed)
		return observed, nil
	}
	next := *first
	next.Series = &corev1.EventSeries{Count: 2, LastObservedTime: observed.EventTime}
	if first.Series != nil {
		next.Series.Count = first.Series.Count + 1
	}
	c.newer.Add(key, &next)
	patch, err := json.Marshal(map[string]any{"series": next.Series})
	if err != nil {
		slog.Debug("cannot patch an event", "namespace", next.Namespace, "name", next.Name, "error", err)
		return nil, nil
	}
	return &next, patch
}

func lastObserved(ev *corev1.Event) time.Time {
	if ev.Series != nil {
		return ev.Series.LastObservedTime.Time
	}
	return ev.EventTime.Time
}
