//go:build tools

// Package kwok pins the simulator of nodes that the upstream control plane is given in tests and benchmarks.
package kwok

import (
	_ "sigs.k8s.io/kwok/cmd/kwok"
)
