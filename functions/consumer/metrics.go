package consumer

import (
	"errors"
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/zeroplane/zeroplane/adapters/planclient"
)

// batches counts what functions were called for, of all clusters of this process.
var batches = metrics.NewCounterVec(&metrics.CounterOpts{
	Namespace: "zeroplane", Name: "batches_total", StabilityLevel: metrics.ALPHA,
	Help: "Batches of changes and of what was due that functions handled, by function and by whether that failed.",
}, []string{"function", "result"})

// plans counts the plans that functions made, of all clusters of this process.
var plans = metrics.NewCounterVec(&metrics.CounterOpts{
	Namespace: "zeroplane", Name: "plans_total", StabilityLevel: metrics.ALPHA,
	Help: "Plans with writes that were committed, thrown away since what they were decided on had changed (stale), or failed, by the user that they are of.",
}, []string{"user", "result"})

var registerCounters sync.Once

func register() {
	registerCounters.Do(func() { legacyregistry.MustRegister(batches, plans) })
}

// counted counts a batch.
func counted(function string, err error) {
	register()
	result := "done"
	if err != nil {
		result = "failed"
	}
	batches.WithLabelValues(function, result).Inc()
}

// countedPlan counts a plan.
func countedPlan(user string, err error) {
	register()
	result := "committed"
	switch {
	case errors.Is(err, planclient.ErrStale):
		result = "stale"
	case err != nil:
		result = "failed"
	}
	plans.WithLabelValues(user, result).Inc()
}
