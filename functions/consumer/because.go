package consumer

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/planclient"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/adapters/tracing"
	"github.com/zeroplane/zeroplane/core/plan"
)

// maxLooked is how many of a batch's changes, the newest, are looked at for the one that led to a decision: a reason is
// for people, and not worth more.
const maxLooked = 1000

// reason is a change, or what was put off, that led to a decision.
type reason struct {
	cause *tablelog.Cause
	// change is the change, and later what was put off; words say what it was instead of either.
	change *tablelog.Event
	later  *plan.Later
	words  string
}

// String says what it was, for the log and for spans.
func (r reason) String() string {
	switch {
	case r.change != nil:
		gr, _, _ := kubestorage.ParseKey(r.change.Key)
		return fmt.Sprintf("%s@%d %s %s", kubestorage.GroupOf(gr), r.change.Rev, r.change.Key, r.change.Type)
	case r.later != nil:
		return fmt.Sprintf("%s due since %s", r.later.Kind, r.later.At.UTC().Format(time.RFC3339))
	}
	return r.words
}

func reasonOf(ev *tablelog.Event) reason { return reason{cause: ev.Cause, change: ev} }

// reasons are those of a batch, by the keys of the objects that changed or asked to be looked at.
type reasons struct {
	once  sync.Once
	byKey map[string]reason
}

// reason returns what a batch says of one object.
func (b *Batch) reason(key string) (reason, bool) {
	b.reasons.once.Do(func() {
		b.reasons.byKey = make(map[string]reason, len(b.Changes)+len(b.Due))
		for i := range b.Due {
			if s := b.Due[i].Subject; s.Name != "" {
				b.reasons.byKey[kubestorage.KeyOf(s.Resource.GroupResource(), s.Namespace, s.Name)] = dueReason(&b.Due[i])
			}
		}
		for i := range b.Changes {
			b.reasons.byKey[b.Changes[i].Key] = reasonOf(&b.Changes[i])
		}
	})
	r, ok := b.reasons.byKey[key]
	return r, ok
}

func dueReason(l *plan.Later) reason { return reason{cause: tracing.Parse(l.Trace), later: l} }

// decision is one that is being made and carried out.
type decision struct {
	batch *Batch
	who   string
	began time.Time
	// ctx is the context of the batch.
	ctx context.Context //nolint:containedctx // for as long as Decide runs

	mu sync.Mutex
	// main is what led to the plan as a whole.
	main reason
	// spans are those of what the plan changes, by the span that led to it.
	spans map[trace.SpanID]*begun
}

type begun struct {
	cause *tablelog.Cause
	span  trace.Span
}

func (b *Batch) begin(ctx context.Context, who string) *decision {
	return &decision{batch: b, who: who, began: b.now(), ctx: ctx, spans: map[trace.SpanID]*begun{}}
}

// because returns a context in which a plan is carried out: whose changes say what led to them. That is the change of
// the same object, if it has changed, and what led to the plan otherwise.
func (d *decision) because(ctx context.Context, p plan.Plan) context.Context {
	main := d.mainReason(p)
	d.mu.Lock()
	d.main = main
	d.mu.Unlock()
	return tablelog.WithCause(ctx, func(key string) *tablelog.Cause {
		if r, ok := d.batch.reason(key); ok && r.cause != nil {
			return d.span(r).cause
		}
		return d.span(main).cause
	})
}

// mainReason looks for what led to a plan: the change of what it writes, or else the last one of what it read, or else
// what called the function.
func (d *decision) mainReason(p plan.Plan) reason {
	b := d.batch
	for _, w := range p.Writes {
		if w.Name == "" {
			continue
		}
		if r, ok := b.reason(kubestorage.KeyOf(w.Resource.GroupResource(), w.Namespace, w.Name)); ok {
			return r
		}
	}
	looked := b.Changes[max(len(b.Changes)-maxLooked, 0):]
	if ev, ok := planclient.Newest(b.Cluster.decoder, p.Reads, looked); ok {
		return reasonOf(&ev)
	}
	if c := tablelog.CauseOf(d.ctx, ""); c != nil {
		return reason{cause: c, words: "event " + c.By}
	}
	if len(b.Due) == 1 {
		return dueReason(&b.Due[0])
	}
	return reason{words: "a look at everything"}
}

// span returns the span of what is done for a reason.
func (d *decision) span(r reason) *begun {
	d.mu.Lock()
	defer d.mu.Unlock()
	var parent trace.SpanID
	if r.cause != nil {
		parent = r.cause.Span
	}
	if s := d.spans[parent]; s != nil {
		return s
	}
	s := &begun{}
	s.cause, s.span = tracing.Begin(d.ctx, r.cause, tracing.Work{
		Name: d.batch.function + " " + d.who, By: d.who, Began: d.began,
		Attributes: []attribute.KeyValue{
			attribute.String("zeroplane.cluster", d.batch.Name), attribute.String("zeroplane.function", d.batch.function),
		},
	})
	if s.span.IsRecording() {
		s.span.SetAttributes(attribute.Stringer("zeroplane.event", r))
	}
	d.spans[parent] = s
	return s
}

// traced notes in what is put off what led to it.
func (d *decision) traced(later []plan.Later) []plan.Later {
	if len(later) == 0 {
		return nil
	}
	d.mu.Lock()
	main := d.main
	d.mu.Unlock()
	later = slices.Clone(later)
	for i := range later {
		later[i].Trace = d.span(main).cause.Traceparent()
	}
	return later
}

// end ends the spans, and logs the decision: one line each.
func (d *decision) end(p plan.Plan, out planclient.Outcome, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	revisions := revisionsText(out.Committed)
	for _, s := range d.spans {
		if s.span.IsRecording() {
			s.span.SetAttributes(attribute.String("zeroplane.plan", summary(p)), attribute.String("zeroplane.revisions", revisions))
			if err := cmp.Or(err, out.Err); err != nil {
				s.span.SetStatus(codes.Error, err.Error())
			}
		}
		s.span.End()
	}
	if p.Empty() || !slog.Default().Enabled(d.ctx, slog.LevelInfo) {
		return
	}
	attrs := []any{
		"cluster", d.batch.Name, "function", d.batch.function, "by", d.who, "event", d.main.String(), "object", object(p), "plan", summary(p),
		"revision", revisions, "took", d.batch.now().Sub(d.began),
	}
	var parent trace.SpanID
	if d.main.cause != nil {
		parent = d.main.cause.Span
	}
	if s := d.spans[parent]; s != nil {
		attrs = append(attrs, "trace", s.cause.Trace.String(), "span", s.cause.Span.String())
	} else if d.main.cause != nil { // it wrote nothing, as one that only gives notices
		attrs = append(attrs, "trace", d.main.cause.Trace.String())
	}
	if err := cmp.Or(err, out.Err); err != nil {
		attrs = append(attrs, "error", err)
	}
	slog.InfoContext(d.ctx, "decided", attrs...)
}

// object names what a plan is about.
func object(p plan.Plan) string {
	switch {
	case len(p.Writes) > 0:
		return target(&p.Writes[0])
	case len(p.Later) > 0:
		s := p.Later[0].Subject
		return named(s.Resource.GroupResource().String(), s.Namespace, s.Name)
	case len(p.Notices) > 0:
		o := p.Notices[0].Regarding
		return named(o.Kind, o.Namespace, o.Name)
	}
	return ""
}

func target(w *plan.Write) string {
	name := w.Name
	if name == "" {
		name = "*"
	}
	return named(w.Resource.GroupResource().String(), w.Namespace, name)
}

func named(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "/")
}

// summary says how many of what a plan does, such as "create 2 pods, updateStatus 1 replicasets".
func summary(p plan.Plan) string {
	counts, order := map[string]int{}, []string(nil)
	count := func(verb, what string) {
		k := verb + " %d " + what
		if counts[k] == 0 {
			order = append(order, k)
		}
		counts[k]++
	}
	for _, w := range p.Writes {
		count(string(w.Verb), named(w.Resource.Resource, w.Subresource))
	}
	for range p.Later {
		count("put off", "looks")
	}
	for range p.Notices {
		count("give", "notices")
	}
	for i, k := range order {
		order[i] = fmt.Sprintf(k, counts[k])
	}
	return strings.Join(order, ", ")
}

func revisionsText(r planclient.Revisions) string {
	var out []string
	for _, group := range slices.Sorted(maps.Keys(r)) {
		out = append(out, fmt.Sprintf("%s@%d", group, r[group]))
	}
	return strings.Join(out, " ")
}
