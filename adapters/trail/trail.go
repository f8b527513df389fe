// Package trail reads back from the logs what one change led to: every change of the same trace, with who made it and
// what differs (docs/tracing.md).
package trail

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

const (
	// maxLooked is how many changes of a log are looked through, the newest.
	maxLooked = 20000
	// maxSteps is how many changes of a trace are returned, the first of them.
	maxSteps = 1000
	// maxTraces is how many traces of an object are named.
	maxTraces = 20
)

// ErrNotFound is returned when no change of the object is kept that notes its trace, or not one of the trace asked for.
var ErrNotFound = errors.New("no change is kept that says what led to it")

// Step is one change.
type Step struct {
	Time      time.Time `json:"time"`
	Trace     string    `json:"trace"`
	Span      string    `json:"span"`
	Parent    string    `json:"parent,omitempty"`
	By        string    `json:"by"`
	Type      string    `json:"type"`
	Group     string    `json:"group,omitempty"`
	Resource  string    `json:"resource"`
	Namespace string    `json:"namespace,omitempty"`
	Name      string    `json:"name"`
	// Log and Revision say where it is stored.
	Log      string `json:"log"`
	Revision uint64 `json:"revision"`
	// Changes are the fields that differ, with their scalar values but for those of secrets.
	Changes []string `json:"changes,omitempty"`
}

// Trail is what one request or event led to.
type Trail struct {
	Trace string `json:"trace"`
	// Steps are in the order in which they were made.
	Steps []Step `json:"steps"`
	// Traces are the last steps of the traces in which the object changed, newest first, this one among them.
	Traces []Step `json:"traces"`
	// Truncated is set when there may be more than was looked through.
	Truncated bool `json:"truncated,omitempty"`
}

// Query names an object, and a trace in which it changed, empty for the last.
type Query struct {
	Resource               schema.GroupResource
	Namespace, Name, Trace string
}

// Reader reads the logs of one cluster.
type Reader struct {
	Logs    kubestorage.Logs
	Decoder kubestorage.Decoder
}

// Follow returns what a change of an object was a part of. It fails with ErrNotFound.
func (r Reader) Follow(ctx context.Context, q Query) (Trail, error) {
	var t Trail
	own := kubestorage.GroupOf(q.Resource)
	looked := map[string][]tablelog.Past{}
	var err error
	if looked[own], t.Truncated, err = r.caused(ctx, own); err != nil {
		return t, err
	}
	t.name(own, looked[own], q)
	for group := range r.Logs {
		if group != own {
			var truncated bool
			if looked[group], truncated, err = r.caused(ctx, group); err != nil {
				return t, err
			}
			t.Truncated = t.Truncated || truncated
		}
		for _, p := range looked[group] {
			if p.Cause.Trace.String() == t.Trace {
				t.Steps = append(t.Steps, stepOf(group, p))
			}
		}
	}
	if len(t.Steps) == 0 {
		return t, fmt.Errorf("%s %q: %w", q.Resource, q.Name, ErrNotFound)
	}
	slices.SortFunc(t.Steps, func(a, b Step) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Log, b.Log), cmp.Compare(a.Revision, b.Revision))
	})
	if len(t.Steps) > maxSteps {
		t.Steps, t.Truncated = t.Steps[:maxSteps], true
	}
	return t, r.compare(ctx, t.Steps)
}

// name names the traces in which an object changed, and the one that is followed.
func (t *Trail) name(group string, changes []tablelog.Past, q Query) {
	key := kubestorage.KeyOf(q.Resource, q.Namespace, q.Name)
	for _, p := range changes {
		if p.Key != key || len(t.Traces) == maxTraces {
			continue
		}
		if !slices.ContainsFunc(t.Traces, func(o Step) bool { return o.Trace == p.Cause.Trace.String() }) {
			t.Traces = append(t.Traces, stepOf(group, p))
		}
	}
	t.Trace = q.Trace
	if t.Trace == "" && len(t.Traces) > 0 {
		t.Trace = t.Traces[0].Trace
	}
}

// caused returns the changes of a log that have a cause, newest first, and whether there are more than it looked through.
func (r Reader) caused(ctx context.Context, group string) (changes []tablelog.Past, truncated bool, err error) {
	looked := 0
	err = r.Logs[group].Back(ctx, func(p tablelog.Past) bool {
		if looked++; looked > maxLooked {
			truncated = true
			return false
		}
		if p.Cause != nil {
			changes = append(changes, p)
		}
		return true
	})
	return changes, truncated, err
}

func stepOf(group string, p tablelog.Past) Step {
	gr, namespace, name := kubestorage.ParseKey(p.Key)
	s := Step{
		Time: p.Written, Trace: p.Cause.Trace.String(), Span: p.Cause.Span.String(), By: p.Cause.By, Type: p.Type.String(),
		Group: gr.Group, Resource: gr.Resource, Namespace: namespace, Name: name, Log: group, Revision: p.Rev,
	}
	if p.Cause.Parent.IsValid() {
		s.Parent = p.Cause.Parent.String()
	}
	return s
}

// compare adds to steps what differs.
func (r Reader) compare(ctx context.Context, steps []Step) error {
	first, last := map[string]uint64{}, map[string]uint64{}
	for _, s := range steps {
		if first[s.Log] == 0 || s.Revision < first[s.Log] {
			first[s.Log] = s.Revision
		}
		last[s.Log] = max(last[s.Log], s.Revision)
	}
	type place struct {
		log string
		rev uint64
	}
	events := map[place]tablelog.Event{}
	for log := range first {
		list, err := r.Logs[log].Between(ctx, first[log]-1, last[log])
		if errors.Is(err, tablelog.ErrCompacted) {
			continue // too many lie between, or they went meanwhile
		}
		if err != nil {
			return err
		}
		for _, ev := range list {
			events[place{log, ev.Rev}] = ev
		}
	}
	for i := range steps {
		s := &steps[i]
		if ev, ok := events[place{s.Log, s.Revision}]; ok && ev.Type == tablelog.Updated {
			s.Changes = r.differences(ev, secretKinds[schema.GroupResource{Group: s.Group, Resource: s.Resource}])
		}
	}
	return nil
}
