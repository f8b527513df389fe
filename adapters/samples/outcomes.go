package samples

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// taken is the outcome of a sample that was; the others are samples.Reason.
const taken = "taken"

var outcomes = sync.OnceValue(func() *metrics.CounterVec {
	c := metrics.NewCounterVec(&metrics.CounterOpts{
		Namespace: "zeroplane", Subsystem: "samples", Name: "total", StabilityLevel: metrics.ALPHA,
		Help: "Metric samples that came, by what became of them: taken, or why they were dropped.",
	}, []string{"outcome"})
	legacyregistry.MustRegister(c)
	return c
})

// count adds to the counters that every cluster serves at /metrics.
func count(t Taken) {
	outcomes().WithLabelValues(taken).Add(float64(t.Renewed))
	for reason, n := range t.Dropped {
		outcomes().WithLabelValues(string(reason)).Add(float64(n))
	}
}
