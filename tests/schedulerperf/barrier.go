package schedulerperf

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// barrier waits for the pods of operations that did not.
//
// Upstream: barrierOp in operations.go, runBarrierOp in executor.go.
type barrier struct {
	code
	Namespaces       []string
	LabelSelector    map[string]string
	StageRequirement string
}

func (o *barrier) run(ctx context.Context, e *executor, _ int) error {
	namespaces := o.Namespaces
	if len(namespaces) == 0 {
		namespaces = slices.Sorted(maps.Keys(e.awaited))
	}
	await := e.pods.awaitScheduled
	switch o.StageRequirement {
	case "", "Scheduled":
	case "Attempted":
		await = e.pods.awaitAttempted
	default:
		return fmt.Errorf("stage %q is unknown", o.StageRequirement)
	}
	for _, namespace := range namespaces {
		want, known := e.awaited[namespace]
		if !known {
			return fmt.Errorf("namespace %s is unknown", namespace)
		}
		if err := await(ctx, e.options.Timeout, namespace, o.LabelSelector, want); err != nil {
			return err
		}
	}
	if o.StageRequirement != "Attempted" {
		// Upstream forgets the namespaces here, and could not make one again.
		for _, namespace := range namespaces {
			e.awaited[namespace] = 0
		}
	}
	return nil
}
