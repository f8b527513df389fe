package consumer

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
)

// causeNumber is a cause that can be told from others.
func causeNumber(n byte) *tablelog.Cause {
	return &tablelog.Cause{Trace: trace.TraceID{n}, Span: trace.SpanID{n}, By: "test"}
}

func podKey(name string) string {
	return kubestorage.KeyOf(plan.Pods.GroupResource(), "default", name)
}

func writeOf(name string) plan.Write {
	return plan.Write{Verb: plan.UpdateStatus, Resource: plan.Pods, Namespace: "default", Name: name}
}

func batchOf(changes []tablelog.Event, due ...plan.Later) *Batch {
	return &Batch{Cluster: &Cluster{Name: "c", function: "jobs", now: time.Now}, Changes: changes, Due: due, Now: time.Now()}
}

// TestAChangeSaysWhatLedToIt is about what a decision writes to the pod "a", a decision that also writes the pod "b".
func TestAChangeSaysWhatLedToIt(t *testing.T) {
	changed := func(name string, n byte) tablelog.Event {
		return tablelog.Event{Rev: uint64(n), Type: tablelog.Updated, Key: podKey(name), Cause: causeNumber(n)}
	}
	put := plan.Later{At: time.Now(), Subject: plan.Ref{Resource: plan.Pods, Namespace: "default", Name: "a"}, Kind: "wait", Trace: causeNumber(7).Traceparent()}
	ofAnother := put
	ofAnother.Subject.Name = "z"
	reads := []plan.Read{{Resource: plan.Pods, Namespace: "default", Name: "read"}}
	called := tablelog.WithCause(t.Context(), func(string) *tablelog.Cause { return causeNumber(9) })
	for claim, test := range map[string]struct {
		ctx     context.Context //nolint:containedctx // an input
		changes []tablelog.Event
		due     []plan.Later
		want    byte
	}{
		"its own last change": {changes: []tablelog.Event{changed("a", 1), changed("a", 2), changed("b", 3)}, want: 2},
		"its own change, rather than what was put off for it":   {changes: []tablelog.Event{changed("a", 1)}, due: []plan.Later{put}, want: 1},
		"the change of what is written beside it":               {changes: []tablelog.Event{changed("b", 3), changed("read", 4)}, want: 3},
		"the last change of what was read":                      {changes: []tablelog.Event{changed("read", 4), changed("read", 5), changed("other", 6)}, want: 5},
		"what was put off for it":                               {due: []plan.Later{ofAnother, put}, want: 7},
		"the only thing that was due":                           {due: []plan.Later{ofAnother}, want: 7},
		"the event that called the function":                    {ctx: called, want: 9},
		"a change, rather than the event that brought the call": {ctx: called, changes: []tablelog.Event{changed("a", 1)}, want: 1},
		"nothing, if a change does not say":                     {changes: []tablelog.Event{{Rev: 1, Key: podKey("a")}}},
		"nothing, in a look at everything":                      {},
	} {
		t.Run(claim, func(t *testing.T) {
			if test.ctx == nil {
				test.ctx = t.Context()
			}
			d := batchOf(test.changes, test.due...).begin(test.ctx, "controller")
			ctx := d.because(test.ctx, plan.Plan{Writes: []plan.Write{writeOf("a"), writeOf("b")}, Reads: reads})
			got := tablelog.CauseOf(ctx, podKey("a"))
			if got.By != "controller" || !got.Trace.IsValid() || !got.Span.IsValid() || got.Span == got.Parent {
				t.Fatalf("the cause is %+v", got)
			}
			if want := (trace.SpanID{test.want}); got.Parent != want {
				t.Errorf("the parent is %s, want %s", got.Parent, want)
			}
			if test.want != 0 && got.Trace != (trace.TraceID{test.want}) {
				t.Errorf("the trace is %s", got.Trace)
			}
			if again := tablelog.CauseOf(ctx, podKey("a")); again.Span != got.Span {
				t.Error("a second change of the same decision is of another span")
			}
		})
	}
}

// TestWhatIsPutOffRemembersItsTrace across a restart.
func TestWhatIsPutOffRemembersItsTrace(t *testing.T) {
	l := newLedger(newFlaky(), "c.1", []Function{{Name: "jobs"}})
	d := batchOf([]tablelog.Event{{Rev: 1, Key: podKey("a"), Cause: causeNumber(4)}}).begin(t.Context(), "controller")
	p := plan.Plan{Later: []plan.Later{{At: time.Now(), Subject: plan.Ref{Resource: plan.Pods, Namespace: "default", Name: "a"}}}, Reads: []plan.Read{{Resource: plan.Pods, Name: "a", Namespace: "default"}}}
	d.because(t.Context(), p)
	later := d.traced(p.Later)
	if p.Later[0].Trace != "" {
		t.Error("the plan was altered")
	}
	if err := l.settle(t.Context(), "jobs", nil, nil, later); err != nil {
		t.Fatal(err)
	}
	again := newLedger(l.store, "c.1", []Function{{Name: "jobs"}})
	due, err := again.dueFor(t.Context(), "jobs", time.Now().Add(time.Minute))
	if err != nil || len(due) != 1 {
		t.Fatalf("%+v, %v", due, err)
	}
	if r := dueReason(&due[0]); r.cause == nil || r.cause.Trace != (trace.TraceID{4}) || r.cause.Span == (trace.SpanID{4}) {
		t.Errorf("what is due is because of %+v", r.cause)
	}
}

// TestADecisionIsOneLineOfTheLog with the event, the object, the plan and the revision.
func TestADecisionIsOneLineOfTheLog(t *testing.T) {
	var out bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	defer slog.SetDefault(before)
	d := batchOf([]tablelog.Event{{Rev: 17, Type: tablelog.Updated, Key: podKey("a"), Cause: causeNumber(4)}}).begin(t.Context(), "controller")
	p := plan.Plan{Writes: []plan.Write{writeOf("a"), writeOf("b"), {Verb: plan.Create, Resource: plan.ReplicaSets}}, Notices: []plan.Notice{{}}}
	tablelog.CauseOf(d.because(t.Context(), p), podKey("a"))
	d.end(p, planclient.Outcome{Committed: planclient.Revisions{"pods": 19, "workloads": 5}, Err: errors.New("no more")}, nil)
	d.end(plan.Plan{}, planclient.Outcome{}, nil)
	line := out.String()
	if strings.Count(line, "\n") != 1 {
		t.Errorf("%d lines", strings.Count(line, "\n"))
	}
	for _, want := range []string{
		"msg=decided", "cluster=c", "function=jobs", "by=controller", `event="pods@17 core/pods/default/a updated"`, "object=pods/default/a",
		`plan="updateStatus 2 pods, create 1 replicasets, give 1 notices"`, `revision="pods@19 workloads@5"`,
		"trace=" + causeNumber(4).Trace.String(), `error="no more"`,
	} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
}

// TestADecisionsLineIsOfTheTraceOfItsEvent also where another object that it writes is of another trace, and where it
// writes nothing.
func TestADecisionsLineIsOfTheTraceOfItsEvent(t *testing.T) {
	var out bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	defer slog.SetDefault(before)
	unsaid := tablelog.Event{Rev: 1, Type: tablelog.Updated, Key: podKey("a")}
	said := tablelog.Event{Rev: 2, Type: tablelog.Updated, Key: podKey("b"), Cause: causeNumber(4)}
	for range 20 { // the spans of a decision are in no order
		out.Reset()
		d := batchOf([]tablelog.Event{unsaid, said}).begin(t.Context(), "controller")
		p := plan.Plan{Writes: []plan.Write{writeOf("a"), writeOf("b")}}
		ctx := d.because(t.Context(), p)
		want := tablelog.CauseOf(ctx, podKey("a"))
		tablelog.CauseOf(ctx, podKey("b"))
		d.end(p, planclient.Outcome{}, nil)
		if !strings.Contains(out.String(), "span="+want.Span.String()) {
			t.Fatalf("the span of a is %s: %s", want.Span, out.String())
		}
	}
	out.Reset()
	d := batchOf([]tablelog.Event{said}).begin(t.Context(), "controller")
	p := plan.Plan{Notices: []plan.Notice{{}}, Reads: []plan.Read{{Resource: plan.Pods, Namespace: "default", Name: "b"}}}
	d.because(t.Context(), p)
	d.end(p, planclient.Outcome{}, nil)
	if !strings.Contains(out.String(), "trace="+causeNumber(4).Trace.String()) {
		t.Errorf("without a write: %s", out.String())
	}
}
