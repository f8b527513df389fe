// Command bench measures zeroplane and the upstream control plane (package upstream) on this machine, in one
// run, under the same load, and prints the figures side by side with ratios.
//
//	go run ./tests/bench                  everything, about 30 minutes
//	go run ./tests/bench -quick           small sizes, for CI: it shows that everything is measured
//	go run ./tests/bench -run 'rollout'   only the parts whose name matches
//	go run ./tests/bench -o json
//	go run ./tests/bench -only upstream
//
// See README.md for what each figure is and why it is fair.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/zeroplane/zeroplane/tests/upstream"
	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

// sizes are how much load each part puts on.
type sizes struct {
	coldStarts int           // starts, of which the median counts
	objects    int           // configmaps created, read, changed, listed and deleted
	lists      int           // lists of all of them
	pods       int           // pods created and deleted
	single     int           // calls of one client, of which the median counts
	nodes      int           // simulated nodes
	replicas   int           // replicas of the rollout
	settle     time.Duration // rest before memory and idle CPU are read
	idle       time.Duration // how long CPU is counted
	clusters   int           // clusters created, used and deleted
	clients    int           // clients at once
	// deployments are how many of few replicas.
	deployments int
	// storageDivisor makes the calls to the storages fewer, and coldObjects are listed after a start.
	storageDivisor, coldObjects int
	e2e                         int  // which of the two sizes of each scheduler_perf workload
	peerNodesKwok               bool // the peer's nodes are simulated by kwok, not plain objects
}

var (
	fullSizes = sizes{
		coldStarts: 11, objects: 2000, lists: 320, pods: 1000, single: 200, nodes: 100, replicas: 1000, deployments: 200,
		settle: 15 * time.Second, idle: 60 * time.Second, clusters: 100, clients: 16, storageDivisor: 1, coldObjects: 10_000,
	}
	quickSizes = sizes{
		coldStarts: 1, objects: 200, lists: 32, pods: 100, single: 20, nodes: 10, replicas: 100, deployments: 20,
		settle: 2 * time.Second, idle: 5 * time.Second, clusters: 5, clients: 16, storageDivisor: 10, coldObjects: 1000, e2e: 1,
	}
)

// options are the command line.
type options struct {
	parts  *regexp.Regexp
	output string
	only   string
	sizes  sizes
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	o, err := parseFlags()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	platforms, err := findPlatforms(ctx, o)
	if err != nil {
		return err
	}
	report := newReport(o.sizes)
	for _, part := range parts {
		if !o.parts.MatchString(part.name) {
			continue
		}
		for _, p := range platforms {
			if part.only != "" && part.only != p.name() {
				continue
			}
			progress("%s: %s", p.name(), part.name)
			values, err := part.measure(ctx, p, o.sizes)
			if err != nil {
				return fmt.Errorf("measuring %s of %s: %w", part.name, p.name(), err)
			}
			report.add(p.name(), values)
		}
	}
	return report.print(os.Stdout, o.output)
}

func parseFlags() (options, error) {
	var o options
	pattern := flag.String("run", "", "measure only the parts whose `name` matches this regular expression: "+partNames())
	quick := flag.Bool("quick", false, "small sizes, for CI")
	kwok := flag.Bool("peer-kwok", false, "give the peer nodes that kwok simulates instead of plain ones")
	flag.StringVar(&o.output, "o", "table", "output: table or json")
	flag.StringVar(&o.only, "only", "", "measure only one side: upstream or zeroplane")
	flag.Parse()
	var err error
	if o.parts, err = regexp.Compile(*pattern); err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	if o.output != "table" && o.output != "json" {
		return o, fmt.Errorf("-o is %q, want table or json", o.output)
	}
	o.sizes = fullSizes
	if *quick {
		o.sizes = quickSizes
	}
	o.sizes.peerNodesKwok = *kwok
	return o, nil
}

// findPlatforms builds what is to be measured before anything is.
func findPlatforms(ctx context.Context, o options) ([]platform, error) {
	var platforms []platform
	if o.only == "" || o.only == target.Upstream {
		p := &upstreamPlatform{kwok: o.sizes.peerNodesKwok}
		// Building the daemons takes minutes.
		if slices.ContainsFunc(parts, func(part part) bool {
			return !part.ownPeers && part.only != target.Zeroplane && o.parts.MatchString(part.name)
		}) {
			var err error
			if p.binaries, err = upstream.Binaries(ctx); err != nil {
				return nil, err
			}
		}
		platforms = append(platforms, p)
	}
	if o.only == "" || o.only == target.Zeroplane {
		binary, err := target.Build(ctx)
		if err != nil {
			return nil, err
		}
		platforms = append(platforms, &zeroplanePlatform{binary: binary})
	}
	if len(platforms) == 0 {
		return nil, fmt.Errorf("-only is %q, want %s or %s", o.only, target.Upstream, target.Zeroplane)
	}
	return platforms, nil
}

// progress goes to standard error, which leaves the other to the results.
func progress(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", arguments...)
}
