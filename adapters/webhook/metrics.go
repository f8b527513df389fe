package webhook

import (
	"strings"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/events/foreign"
)

// What became of an event.
const (
	taken       = "taken"
	unknown     = "unknown"
	ofMalformed = "malformed"
	refused     = "refused"
	limited     = "limited"
	failed      = "failed"
)

// received counts events. The types are those that are known: others could be any number.
var received = metrics.NewCounterVec(&metrics.CounterOpts{
	Namespace: "zeroplane", Subsystem: "events", Name: "received_total", StabilityLevel: metrics.ALPHA,
	Help: "Events that came to a webhook, by type and by what became of them: taken, unknown, malformed, refused, limited or failed.",
}, []string{"type", "outcome"})

func init() { legacyregistry.MustRegister(received) }

// count counts an event; the type is empty where it is not known, as of a request that was not read.
func count(eventType, outcome string) { countAll(eventType, outcome, 1) }

// countAll counts n events.
func countAll(eventType, outcome string, n int) {
	switch {
	case eventType == "", events.Known(eventType):
	case foreign.Known(eventType):
		eventType = strings.ToLower(eventType)
	default:
		eventType = "other"
	}
	received.WithLabelValues(eventType, outcome).Add(float64(n))
}
