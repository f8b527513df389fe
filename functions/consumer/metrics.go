package consumer

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// batches counts what functions were called for, of all clusters of this process.
var batches = metrics.NewCounterVec(&metrics.CounterOpts{
	Namespace: "zeroplane", Name: "batches_total", StabilityLevel: metrics.ALPHA,
	Help: "Batches of changes and of what was due that functions handled, by function and by whether that failed.",
}, []string{"function", "result"})

var registerBatches sync.Once

// counted counts a batch.
func counted(function string, err error) {
	registerBatches.Do(func() { legacyregistry.MustRegister(batches) })
	result := "done"
	if err != nil {
		result = "failed"
	}
	batches.WithLabelValues(function, result).Inc()
}
