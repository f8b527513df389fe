// Command run runs upstream's scheduler_perf workloads (package schedulerperf) against zeroplane, or says which it cannot run:
//
//	go run ./tests/schedulerperf/run -list                                        what runs, and what is lacking for the others
//	go run ./tests/schedulerperf/run -run SchedulingBasic/5000Nodes_10000Pods     one workload
//	go run ./tests/schedulerperf/run -run '^Topology' -labels performance         those whose name and labels match
//	go run ./tests/schedulerperf/run -all                                         every one that can, which takes hours
//
// Each workload gets a new `zeroplane serve` on new data, unless -kubeconfig names a cluster without nodes and pods.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/zeroplane/zeroplane/tests/schedulerperf"
	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

type options struct {
	list, all, createOnly, verbose bool
	pattern, labels                string
	kubeconfig, output             string
	timeout                        time.Duration
	serve                          string
}

func main() {
	var o options
	flag.BoolVar(&o.list, "list", false, "say of each workload whether it runs, and what it lacks if not")
	flag.BoolVar(&o.all, "all", false, "run every workload that can")
	flag.StringVar(&o.pattern, "run", "", "run the workloads whose `name`, CASE/WORKLOAD, is this, or matches this expression")
	flag.StringVar(&o.labels, "labels", "", "only those that have these `labels`, or have them not: integration-test,-performance")
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "an admin's `file` of a running cluster without nodes and pods")
	flag.StringVar(&o.serve, "serve", "", "more `arguments` of zeroplane serve")
	flag.BoolVar(&o.createOnly, "create-only", false, "give the measured pods to no scheduler, and measure their creation alone")
	flag.StringVar(&o.output, "o", "table", "output: table or json")
	flag.DurationVar(&o.timeout, "timeout", 10*time.Minute, "how long pods are waited for")
	flag.BoolVar(&o.verbose, "v", false, "say what goes on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "schedulerperf:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if !o.list && !o.all && o.pattern == "" {
		return errors.New("one of -list, -run and -all is needed")
	}
	root, err := schedulerperf.Find(ctx)
	if err != nil {
		return err
	}
	all, err := schedulerperf.Load(root)
	if err != nil {
		return err
	}
	chosen, err := choose(all, o)
	if err != nil {
		return err
	}
	if len(chosen) == 0 {
		return errors.New("no workload matches")
	}
	if o.list {
		return list(ctx, chosen, o)
	}
	return measure(ctx, chosen, o)
}

// choose takes a name that is a workload's for that alone, and any other for a regular expression.
func choose(all []*schedulerperf.Workload, o options) ([]*schedulerperf.Workload, error) {
	pattern, err := regexp.Compile(o.pattern)
	if err != nil {
		return nil, fmt.Errorf("-run: %w", err)
	}
	if w, err := schedulerperf.Select(all, o.pattern); err == nil {
		return []*schedulerperf.Workload{w}, nil
	}
	var chosen []*schedulerperf.Workload
	for _, w := range all {
		if pattern.MatchString(w.ID()) && w.Matches(o.labels) {
			chosen = append(chosen, w)
		}
	}
	return chosen, nil
}

func (o options) server() target.ServerOptions {
	return target.ServerOptions{Arguments: strings.Fields(o.serve)}
}

// list prints a table of the workloads.
func list(ctx context.Context, chosen []*schedulerperf.Workload, o options) error {
	return schedulerperf.OnServer(ctx, o.server(), o.kubeconfig, func(kubeconfig string) error {
		checker, err := schedulerperf.NewChecker(ctx, kubeconfig)
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(table, "FOLDER\tWORKLOAD\tLABELS\tRUNS")
		n := 0
		for _, w := range chosen {
			lacks, err := checker.Lacks(ctx, w)
			if err != nil {
				return err
			}
			verdict := "runs"
			if len(lacks) > 0 {
				verdict = "lacks " + strings.Join(lacks, "; ")
			} else {
				n++
			}
			_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", w.Folder(), w.ID(), strings.Join(w.AllLabels(), ","), verdict)
		}
		if err := table.Flush(); err != nil {
			return err
		}
		_, err = fmt.Printf("%d of %d run\n", n, len(chosen))
		return err
	})
}

// result is a line of the table.
type result struct {
	Workload string                     `json:"workload"`
	Seconds  float64                    `json:"seconds"`
	Measured []schedulerperf.Throughput `json:"measured,omitempty"`
	Lacks    []string                   `json:"lacks,omitempty"`
	Error    string                     `json:"error,omitempty"`

	workload *schedulerperf.Workload
}

// measure runs the workloads that can run, and goes on after one that fails.
func measure(ctx context.Context, chosen []*schedulerperf.Workload, o options) error {
	results := make([]*result, 0, len(chosen))
	for _, w := range chosen {
		results = append(results, &result{Workload: w.ID(), workload: w})
	}
	// One that is asked for by its name is run whatever it lacks.
	if len(chosen) > 1 {
		if err := check(ctx, results); err != nil {
			return err
		}
	}
	failed := 0
	for _, r := range results {
		if len(r.Lacks) > 0 || ctx.Err() != nil {
			continue
		}
		r.run(ctx, o)
		if r.Error != "" {
			failed++
		}
		fmt.Fprintf(os.Stderr, "schedulerperf: %s %.1f s %s\n", r.Workload, r.Seconds, r.Error)
	}
	if err := write(results, o.output); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d workloads failed", failed, len(chosen))
	}
	return ctx.Err()
}

func check(ctx context.Context, results []*result) error {
	return schedulerperf.WithChecker(ctx, func(c *schedulerperf.Checker) error {
		for _, r := range results {
			var err error
			if r.Lacks, err = c.Lacks(ctx, r.workload); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *result) run(ctx context.Context, o options) {
	var log io.Writer
	if o.verbose {
		log = os.Stderr
	}
	start := time.Now()
	err := schedulerperf.OnServer(ctx, o.server(), o.kubeconfig, func(kubeconfig string) (err error) {
		r.Measured, err = schedulerperf.Run(ctx, r.workload, schedulerperf.Options{
			Kubeconfig: kubeconfig, Timeout: o.timeout, CreateOnly: o.createOnly, Log: log,
		})
		return err
	})
	r.Seconds = time.Since(start).Seconds()
	if err != nil {
		r.Error = err.Error()
	}
}

func write(results []*result, output string) error {
	if output == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(results)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "WORKLOAD\tMEASURED\tPODS\tAVERAGE/s\tP50\tP99\tOVERALL/s\tCREATED/s\t")
	for _, r := range results {
		switch {
		case r.Error != "":
			_, _ = fmt.Fprintf(table, "%s\tFAILED: %s\n", r.Workload, r.Error)
		case len(r.Lacks) > 0:
			_, _ = fmt.Fprintf(table, "%s\tlacks %s\n", r.Workload, strings.Join(r.Lacks, "; "))
		}
		for _, t := range r.Measured {
			_, _ = fmt.Fprintf(table, "%s\t%s\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t\n",
				r.Workload, t.Name, t.Pods, t.Average, t.Perc50, t.Perc99, t.Overall, t.Created)
		}
	}
	return table.Flush()
}
