package schedulerperf

import (
	"context"
)

// Checker finds out what a server lacks.
type Checker struct{}

// NewChecker x
func NewChecker(ctx context.Context, kubeconfig string) (*Checker, error) { return &Checker{}, nil }

// StartChecker x
func StartChecker(ctx context.Context) (*Checker, func() error, error) {
	return &Checker{}, func() error { return nil }, nil
}

// Lacks x
func (c *Checker) Lacks(ctx context.Context, w *Workload) ([]string, error) { return nil, nil }
