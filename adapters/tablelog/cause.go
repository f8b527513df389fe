package tablelog

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/trace"
)

// maxBy is the length of the longest name of who made a change, in bytes.
const maxBy = 64

// Cause says what a change was made for, so that people can follow it from a request to all that it led to. It decides
// nothing.
type Cause struct {
	// Trace, Span and Flags are the trace context in which the change was made
	// (https://www.w3.org/TR/trace-context/): Span is the request or the decision that made it. Parent is the span that
	// led to that one, zero for none.
	Trace        trace.TraceID
	Span, Parent trace.SpanID
	Flags        trace.TraceFlags
	// By names the client or the component that made it, cut to 64 bytes.
	By string
}

// Context returns the trace context of a cause, an invalid one of nil.
func (c *Cause) Context() trace.SpanContext {
	if c == nil {
		return trace.SpanContext{}
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: c.Trace, SpanID: c.Span, TraceFlags: c.Flags, Remote: true})
}

// Traceparent returns a cause as the value of a traceparent header, empty for nil.
func (c *Cause) Traceparent() string {
	if c == nil {
		return ""
	}
	return fmt.Sprintf("00-%s-%s-%s", c.Trace, c.Span, c.Flags)
}

type causeKey struct{}

// WithCause returns a context whose changes are made because of what of returns for each of their keys; it may return
// nil, and may be called at the same time by several.
func WithCause(ctx context.Context, of func(key string) *Cause) context.Context {
	return context.WithValue(ctx, causeKey{}, of)
}

// CauseOf returns why a context's change of a key is made, nil if nobody said. Without a key it is the context's own.
func CauseOf(ctx context.Context, key string) *Cause {
	if of, ok := ctx.Value(causeKey{}).(func(string) *Cause); ok {
		return of(key)
	}
	return nil
}

// fixedCause is what an encoded cause has beside its name, in bytes.
const fixedCause = len(trace.TraceID{}) + 2*len(trace.SpanID{}) + 1

// appendCause appends a cause, of no bytes for nil, behind its length.
func appendCause(b []byte, c *Cause) []byte {
	if c == nil {
		return append(b, 0)
	}
	by := c.By[:min(len(c.By), maxBy)]
	b = append(b, byte(fixedCause+len(by))) //nolint:gosec // of at most 97
	b = append(b, c.Trace[:]...)
	b = append(b, c.Span[:]...)
	b = append(b, c.Parent[:]...)
	b = append(b, byte(c.Flags))
	return append(b, by...)
}

func (d *decoder) cause() *Cause {
	b := d.take(int(d.byte()))
	if d.err != nil || len(b) == 0 {
		return nil
	}
	if len(b) < fixedCause || len(b) > fixedCause+maxBy {
		d.take(-1)
		return nil
	}
	c := &Cause{By: string(b[fixedCause:])}
	b = b[copy(c.Trace[:], b):]
	b = b[copy(c.Span[:], b):]
	b = b[copy(c.Parent[:], b):]
	c.Flags = trace.TraceFlags(b[0])
	return c
}
