package tracing

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
)

// EndpointEnv names the collector that spans are sent to (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).
// Without it, or tracesEndpointEnv, none are.
const EndpointEnv = "OTEL_EXPORTER_OTLP_ENDPOINT"

const (
	tracesEndpointEnv = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	// exportAfter is how long after the first span of a group the group is sent.
	exportAfter = time.Second
	// exportTimeout bounds how long sending may take.
	exportTimeout = 5 * time.Second
	// flushTimeout bounds how long a call waits for a collector before its host freezes the process. One that did not
	// answer is not waited for again for flushAgain.
	flushTimeout, flushAgain = time.Second, time.Minute
	// idleAfter no spans were sent for so long the connection is left alone: until then a collector that is gone is dialled
	// again and again.
	idleAfter = 10 * time.Second
	// never is the period of the library's own timer, which would tick while nothing happens.
	never = 1000 * time.Hour
)

// exporting is set while spans are sent somewhere.
var exporting atomic.Pointer[sdktrace.TracerProvider]

// Exporting reports whether spans are sent to a collector.
func Exporting() bool { return exporting.Load() != nil }

// Export sends spans to the collector that the environment names, if it names one, over OTLP with gRPC. Sampling,
// headers, certificates and resource attributes are those of OpenTelemetry's variables, and OTEL_SDK_DISABLED turns it
// off. What it returns ends that: it sends what is left.
func Export(ctx context.Context, version string) (stop func(), err error) {
	if os.Getenv(EndpointEnv)+os.Getenv(tracesEndpointEnv) == "" || os.Getenv("OTEL_SDK_DISABLED") == "true" {
		return func() {}, nil
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithDialOption(grpc.WithIdleTimeout(idleAfter)))
	if err != nil {
		return nil, fmt.Errorf("sending traces to %s: %w", EndpointEnv, err)
	}
	// What the environment says comes last, and counts.
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "zeroplane"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("reading OpenTelemetry's variables: %w", err)
	}
	batches := sdktrace.NewBatchSpanProcessor(exporter, sdktrace.WithBatchTimeout(never))
	p := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(&whenEnded{SpanProcessor: batches}), sdktrace.WithResource(about))
	exporting.Store(p)
	silent.Store(0)
	otel.SetTracerProvider(p)
	return func() {
		exporting.Store(nil)
		ctx, cancel := context.WithTimeout(context.Background(), exportTimeout)
		defer cancel()
		_ = p.Shutdown(ctx) // a collector that is gone keeps nobody from ending
	}, nil
}

// silent is until when nobody waits for the collector, which did not answer: Unix time in nanoseconds.
var silent atomic.Int64

// Flush sends the spans that have ended, for a host that may freeze the process then.
func Flush(ctx context.Context) {
	p := exporting.Load()
	if p == nil || time.Now().UnixNano() < silent.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if p.ForceFlush(ctx) != nil { // traces are worth no failure
		silent.Store(time.Now().Add(flushAgain).UnixNano())
	}
}

// whenEnded sends spans a moment after one has ended. Nothing is armed while none do.
type whenEnded struct {
	sdktrace.SpanProcessor
	armed atomic.Bool
}

// OnEnd implements sdktrace.SpanProcessor.
func (w *whenEnded) OnEnd(s sdktrace.ReadOnlySpan) {
	w.SpanProcessor.OnEnd(s)
	if s.SpanContext().IsSampled() && !w.armed.Swap(true) {
		time.AfterFunc(exportAfter, func() {
			w.armed.Store(false)
			ctx, cancel := context.WithTimeout(context.Background(), exportTimeout)
			defer cancel()
			_ = w.ForceFlush(ctx) // traces are worth no failure
		})
	}
}
