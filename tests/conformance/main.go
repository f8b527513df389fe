// Command conformance runs Kubernetes' conformance suite, built from the module k8s.io/kubernetes as it is, from outside
// against the upstream control plane with nodes of kwok (package upstream) and against `zeroplane serve --simulate-nodes 3`,
// and compares.
//
//	go run ./tests/conformance                        all of sig-apps, sig-scheduling, sig-network and sig-node
//	go run ./tests/conformance -sig apps              one of them; other groups too
//	go run ./tests/conformance -only zeroplane -for 8m
//	go run ./tests/conformance -only none -o json     what is known, without running anything
//
// No container runs on either side. Tests that need one fail on both, and drop out of the comparison. It exits 1 when a test
// that passes upstream fails here and testdata/explained.txt does not say why, when one that is there passes, and when the run
// is not complete. See docs/conformance.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/zeroplane/zeroplane/tests/conformance/outcomes"
	"github.com/zeroplane/zeroplane/tests/upstream"
	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

// options are the command line.
type options struct {
	sigs     []string
	focus    *regexp.Regexp
	only     string
	output   string
	parallel int
	// patience is how many times its limit a test may take.
	patience int
	budget   time.Duration
	// again runs what was run before, anyBuild takes it whatever it was run on.
	again, anyBuild bool
	// passed runs here what passed upstream only.
	passed bool
}

func (o options) runs(name string) bool { return o.only == "" || o.only == name }

// defaultParallel is how many tests run side by side: most of them wait most of the time.
const defaultParallel = 8

// nothing is the -only that runs nothing.
const nothing = "none"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	o, err := parseFlags()
	if err != nil {
		return err
	}
	c, err := compare(ctx, o)
	if err != nil {
		return err
	}
	if err := printComparison(os.Stdout, o.output, c); err != nil {
		return err
	}
	return verdict(c)
}

// verdict is what is wrong with a comparison.
func verdict(c outcomes.Comparison) error {
	var errs []error
	if n := len(c.Unexplained()); n > 0 {
		errs = append(errs, fmt.Errorf("%d tests fail here only, and %s does not say why", n, explainedFile))
	}
	if n := len(c.Stale); n > 0 {
		errs = append(errs, fmt.Errorf("%d tests pass that %s says fail", n, explainedFile))
	}
	if n := len(c.Missing) + c.Upstream.NotRun; n > 0 {
		errs = append(errs, fmt.Errorf("%d tests are still to be run: run this again", n))
	}
	return errors.Join(errs...)
}

func parseFlags() (options, error) {
	var o options
	sigs := flag.String("sig", strings.Join(knownSigs, ","), "special interest groups whose tests are run, without sig-")
	focus := flag.String("focus", "", "run only the tests whose name matches this `regular expression`")
	flag.StringVar(&o.only, "only", "", "run only one side, upstream or zeroplane, or none; compare with what is kept of the other")
	flag.StringVar(&o.output, "o", "table", "output: table or json")
	flag.IntVar(&o.parallel, "parallel", defaultParallel, "tests that run side by side")
	flag.IntVar(&o.patience, "patience", 1, "let tests take so many `times` their limit, and run again those that were cut off at less")
	flag.DurationVar(&o.budget, "for", 0, "stop after this `time`, and go on there the next time")
	flag.BoolVar(&o.again, "again", false, "run what was run before, too")
	flag.BoolVar(&o.anyBuild, "any-build", false, "take what was run on another build for run")
	flag.BoolVar(&o.passed, "passed", false, "on zeroplane, run only what passed upstream")
	flag.Parse()
	o.sigs = strings.Split(*sigs, ",")
	var err error
	if o.focus, err = regexp.Compile(*focus); err != nil {
		return o, fmt.Errorf("-focus: %w", err)
	}
	if !slices.Contains([]string{"", nothing, target.Upstream, target.Zeroplane}, o.only) {
		return o, fmt.Errorf("-only is %q, want %s, %s or %s", o.only, target.Upstream, target.Zeroplane, nothing)
	}
	if o.parallel < 1 || o.patience < 1 {
		return o, errors.New("-parallel and -patience are at least 1")
	}
	if o.output != "table" && o.output != "json" {
		return o, fmt.Errorf("-o is %q, want table or json", o.output)
	}
	return o, nil
}

// compare runs what is to be run, and compares all that is known.
func compare(ctx context.Context, o options) (outcomes.Comparison, error) {
	var none outcomes.Comparison
	explained, err := readExplained()
	if err != nil {
		return none, err
	}
	built := []string{suiteBinary, kubectlBinary}
	if o.runs(target.Upstream) {
		built = append(built, upstream.Etcd, upstream.APIServer, upstream.ControllerManager, upstream.Scheduler, upstream.Kwok)
	}
	peers, err := upstream.Binaries(ctx, built...)
	if err != nil {
		return none, err
	}
	tests, err := listTests(ctx, filepath.Join(peers, suiteBinary), o)
	if err != nil {
		return none, err
	}
	there, here, err := newPlanes(ctx, o, peers)
	if err != nil {
		return none, err
	}
	r := runner{suite: filepath.Join(peers, suiteBinary), kubectl: filepath.Join(peers, kubectlBinary), parallel: o.parallel}
	if o.budget > 0 {
		r.until = time.Now().Add(o.budget)
	}
	if o.runs(target.Upstream) {
		r.plane = there
		if err := r.run(ctx, o.toRun(tests, there)); err != nil {
			return none, err
		}
	}
	if o.runs(target.Zeroplane) {
		r.plane = here
		if err := runHere(ctx, o, r, tests, there); err != nil {
			return none, err
		}
	}
	return outcomes.Compare(names(tests), there.side(), here.side(), explained), nil
}

// runHere runs the tests on zeroplane, and then, one after the other, those a second time that failed here only: two cores and
// tests with limits of their own make for chance, and nothing is to be blamed on it that happens twice.
func runHere(ctx context.Context, o options, r runner, tests []suiteTest, there plane) error {
	wanted := tests
	if o.passed {
		wanted = slices.DeleteFunc(slices.Clone(tests), func(t suiteTest) bool { return !passed(there, t) })
	}
	if err := r.run(ctx, o.toRun(wanted, r.plane)); err != nil {
		return err
	}
	r.parallel = 1
	return r.run(ctx, slices.DeleteFunc(slices.Clone(wanted), func(t suiteTest) bool {
		outcome, ran := r.plane.kept.Get(t.name)
		return !passed(there, t) || !ran || outcome.State == outcomes.Passed || outcome.Attempts > 1 || outcome.Build != r.plane.build
	}))
}

func passed(p plane, t suiteTest) bool {
	outcome, ran := p.kept.Get(t.name)
	return ran && outcome.State == outcomes.Passed
}

// toRun are the tests whose outcome is not known. That a test did not end in less time than it now has says nothing.
func (o options) toRun(tests []suiteTest, p plane) []suiteTest {
	return slices.DeleteFunc(slices.Clone(tests), func(t suiteTest) bool {
		outcome, ran := p.kept.Get(t.name)
		cutOff := outcome.State == outcomes.TimedOut && outcome.Limit < t.limit.Seconds()
		return ran && !cutOff && !o.again && (o.anyBuild || outcome.Build == p.build)
	})
}

// explainedFile says why tests fail here only.
const explainedFile = "tests/conformance/testdata/explained.txt"

func readExplained() (map[string]string, error) {
	root, err := upstream.Root()
	if err != nil {
		return nil, err
	}
	file, err := os.Open(filepath.Join(root, filepath.FromSlash(explainedFile))) // #nosec G304
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	explained, err := outcomes.ReadExplained(file)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", explainedFile, err)
	}
	return explained, nil
}

// progress goes to standard error, which leaves the other to the comparison.
func progress(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+"conformance: "+format+"\n", arguments...)
}
