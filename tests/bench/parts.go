package main

import (
	"context"
	"strings"

	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

// value is one figure of one platform.
type value struct {
	name   string
	unit   string
	amount float64
	// more says that more is better (a rate); otherwise less is (a time, a size).
	more bool
	// ask is what zeroplane is asked for, beside being no worse than the peer.
	ask ask
}

// ask is a bound on zeroplane's figure. Zero fields ask nothing.
type ask struct {
	// amount is the most (or least, for rates) in the figure's unit.
	amount float64
	// ratio is the most that zeroplane's cost may be of the peer's.
	ratio float64
}

// noWorse is the ask of most figures.
var noWorse = ask{ratio: 1}

// part is a group of figures that share a cluster.
type part struct {
	name string
	// only names the one platform that has the part.
	only string
	// ownPeers builds what it needs of the peers itself, and starts none of the daemons.
	ownPeers bool
	measure  func(context.Context, platform, sizes) ([]value, error)
}

// parts run in this order, each on clusters of its own, one platform after the other so that neither
// disturbs the other.
var parts = []part{
	{name: "coldstart", measure: measureColdStart},
	{name: "api", measure: measureAPI},
	{name: "storage", measure: measureStorage},
	{name: "scheduling", only: target.Zeroplane, measure: measureScheduling},
	{name: "table", only: target.Zeroplane, measure: measureTable},
	{name: "e2e", ownPeers: true, measure: measureE2E},
	{name: "rollout", measure: measureRollout},
	{name: "controllers", measure: measureControllers},
	{name: "clusters", only: target.Zeroplane, measure: measureClusters},
	{name: "hosts", only: target.Zeroplane, measure: measureHosts},
}

func partNames() string {
	names := make([]string, 0, len(parts))
	for _, p := range parts {
		names = append(names, p.name)
	}
	return strings.Join(names, ", ")
}
