// Package tracing follows one change from the request to all that it leads to, in OpenTelemetry's terms
// (docs/tracing.md): a request and every decision is a span, and each change that is stored names the span that made it
// and the one that led to that.
package tracing

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// scope names who makes the spans.
const scope = "github.com/zeroplane/zeroplane"

// Work is what is done because of something.
type Work struct {
	// Name of the span, and By, the client or component that does it.
	Name, By string
	// Began is when, now if zero.
	Began      time.Time
	Attributes []attribute.KeyValue
}

// Begin starts a span for what is done because of parent, nil for what nothing is known to have led to, and returns it
// with the cause of the changes that it makes. The caller ends the span. Where nobody collects spans the cause has
// identifiers all the same: they are stored.
func Begin(ctx context.Context, parent *tablelog.Cause, w Work) (*tablelog.Cause, trace.Span) {
	ctx = trace.ContextWithSpanContext(ctx, parent.Context())
	options := []trace.SpanStartOption{trace.WithAttributes(w.Attributes...)}
	if !w.Began.IsZero() {
		options = append(options, trace.WithTimestamp(w.Began))
	}
	_, span := otel.Tracer(scope).Start(ctx, w.Name, options...)
	c := &tablelog.Cause{By: w.By}
	if parent != nil {
		c.Trace, c.Parent, c.Flags = parent.Trace, parent.Span, parent.Flags
	}
	if of := span.SpanContext(); of.IsValid() && of.SpanID() != c.Parent {
		c.Trace, c.Span, c.Flags = of.TraceID(), of.SpanID(), of.TraceFlags()
		return c, span
	}
	identify(c)
	return c, span
}

// Received returns the cause of what a request changes: of the span under way, if there is one, otherwise of one in the
// trace that its sender named, or in a trace of its own.
func Received(ctx context.Context, sent propagation.TextMapCarrier, by string) *tablelog.Cause {
	c := &tablelog.Cause{By: by}
	if of := trace.SpanContextFromContext(ctx); of.IsValid() && !of.IsRemote() {
		c.Trace, c.Span, c.Flags = of.TraceID(), of.SpanID(), of.TraceFlags()
		if span, ok := trace.SpanFromContext(ctx).(sdktrace.ReadOnlySpan); ok {
			c.Parent = span.Parent().SpanID()
		}
		return c
	}
	if of := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), sent)); of.IsValid() {
		c.Trace, c.Parent, c.Flags = of.TraceID(), of.SpanID(), of.TraceFlags()
	}
	identify(c)
	return c
}

// Parse returns the cause that a traceparent names, nil for none.
func Parse(traceparent string) *tablelog.Cause {
	of := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{header: traceparent}))
	if !of.IsValid() {
		return nil
	}
	return &tablelog.Cause{Trace: of.TraceID(), Span: of.SpanID(), Flags: of.TraceFlags()}
}

// header is the name of the trace context in HTTP and in CloudEvents
// (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/extensions/distributed-tracing.md).
const header = "traceparent"

// identify draws the identifiers that are missing.
func identify(c *tablelog.Cause) {
	for !c.Trace.IsValid() {
		binary.BigEndian.PutUint64(c.Trace[:8], rand.Uint64()) //nolint:gosec // a name, no secret
		binary.BigEndian.PutUint64(c.Trace[8:], rand.Uint64()) //nolint:gosec // a name, no secret
	}
	for !c.Span.IsValid() {
		binary.BigEndian.PutUint64(c.Span[:], rand.Uint64()) //nolint:gosec // a name, no secret
	}
}
