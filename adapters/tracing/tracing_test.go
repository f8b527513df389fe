package tracing

import (
	"testing"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

const sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestARequestGoesOnInTheTraceThatItsSenderNamed(t *testing.T) {
	c := Received(t.Context(), propagation.MapCarrier{header: sent}, "kubectl")
	if c.By != "kubectl" || c.Trace.String() != "0af7651916cd43dd8448eb211c80319c" || c.Parent.String() != "b7ad6b7169203331" || !c.Flags.IsSampled() {
		t.Errorf("%+v", c)
	}
	if !c.Span.IsValid() || c.Span == c.Parent {
		t.Errorf("the span of the request is %s", c.Span)
	}
}

func TestARequestWithoutATraceBeginsOne(t *testing.T) {
	for name, text := range map[string]string{
		"none": "", "text": "hello", "of zeros": "00-00000000000000000000000000000000-0000000000000000-01", "too long": sent + "-xx",
	} {
		a, b := Received(t.Context(), propagation.MapCarrier{header: text}, ""), Received(t.Context(), propagation.MapCarrier{header: text}, "")
		if !a.Trace.IsValid() || !a.Span.IsValid() || a.Parent.IsValid() || a.Trace == b.Trace {
			t.Errorf("%s: %+v and %+v", name, a, b)
		}
		if Parse(text) != nil {
			t.Errorf("%s: read as a trace context", name)
		}
	}
}

func TestARequestIsOfTheSpanUnderWay(t *testing.T) {
	of := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	c := Received(trace.ContextWithSpanContext(t.Context(), of), propagation.MapCarrier{header: sent}, "")
	if c.Trace != of.TraceID() || c.Span != of.SpanID() {
		t.Errorf("%+v", c)
	}
}

func TestWhatIsDoneIsOfTheTraceThatLedToIt(t *testing.T) {
	parent := Parse(sent)
	if parent.Traceparent() != sent {
		t.Fatalf("%q is read as %q", sent, parent.Traceparent())
	}
	c, span := Begin(t.Context(), parent, Work{Name: "work", By: "controller"})
	defer span.End()
	if c.Trace != parent.Trace || c.Parent != parent.Span || !c.Span.IsValid() || c.Span == parent.Span || c.By != "controller" || !c.Flags.IsSampled() {
		t.Errorf("%+v", c)
	}
	var none *tablelog.Cause
	if c, span := Begin(t.Context(), none, Work{Name: "work"}); !c.Trace.IsValid() || !c.Span.IsValid() || c.Parent.IsValid() || span.IsRecording() {
		t.Errorf("of nothing known: %+v", c)
	}
}
