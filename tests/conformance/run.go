package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zeroplane/zeroplane/tests/conformance/outcomes"
	"github.com/zeroplane/zeroplane/tests/upstream/process"
)

const (
	// startAllowance is what the suite needs, beside its test's own time, to start, to look at the nodes, and to report.
	startAllowance = 30 * time.Second
	// killGrace is what the suite has to end once it was told to.
	killGrace = 10 * time.Second
	// nodeGrace is what a step of a test has to end once its time is over.
	nodeGrace = "5s"
)

// runner runs tests on one control plane. Each test is a process of the suite: so one that hangs is ended without the others,
// and what was done is known at any time. Ginkgo's own -p would need its command and share one limit.
type runner struct {
	plane    plane
	suite    string
	kubectl  string
	parallel int
	// until is when no test is started any more, and those that run are given up. Zero: never.
	until time.Time
}

// run runs tests on new clusters: those that may run side by side on one, the others one after the other on another.
func (r runner) run(ctx context.Context, tests []suiteTest) error {
	if !r.until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, r.until)
		defer cancel()
	}
	together, alone := split(tests)
	if err := r.runOn(ctx, together, r.parallel); err != nil {
		return err
	}
	return r.runOn(ctx, alone, 1)
}

// split gives the tests that may run side by side, those that may take longest first, and the others.
func split(tests []suiteTest) (together, alone []suiteTest) {
	for _, t := range tests {
		if t.serial {
			alone = append(alone, t)
		} else {
			together = append(together, t)
		}
	}
	slices.SortStableFunc(together, func(a, b suiteTest) int { return int(b.limit - a.limit) })
	return together, alone
}

func (r runner) runOn(ctx context.Context, tests []suiteTest, parallel int) (err error) {
	if len(tests) == 0 || ctx.Err() != nil {
		return nil
	}
	cluster, err := r.plane.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.stop()) }()
	queue := make(chan suiteTest, len(tests))
	for _, t := range tests {
		queue <- t
	}
	close(queue)
	var workers sync.WaitGroup
	failures := make(chan error, parallel)
	for range parallel {
		workers.Go(func() {
			for t := range queue {
				if ctx.Err() != nil {
					return
				}
				if err := r.runAndKeep(ctx, cluster, t); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	workers.Wait()
	close(failures)
	for failure := range failures {
		err = errors.Join(err, failure)
	}
	return err
}

// runAndKeep runs a test and keeps how it ended, unless it was given up.
func (r runner) runAndKeep(ctx context.Context, cluster running, t suiteTest) error {
	before, again := r.plane.kept.Get(t.name)
	outcome, err := r.runTest(ctx, cluster, t)
	if ctx.Err() != nil {
		progress("%s: given up: %s", r.plane.name, t.name)
		return nil //nolint:nilerr // who ended it knows
	}
	if err != nil {
		return fmt.Errorf("running %q on %s: %w", t.name, r.plane.name, err)
	}
	outcome.Build, outcome.Limit, outcome.Attempts = r.plane.build, t.limit.Seconds(), 1
	if again && before.Build == r.plane.build {
		outcome.Attempts += before.Attempts
	}
	progress("%s: %s in %.0f s: %s", r.plane.name, outcome.State, outcome.Seconds, t.name)
	return r.plane.kept.Put(t.name, outcome)
}

// runTest runs one test to its end or its limit.
func (r runner) runTest(ctx context.Context, cluster running, t suiteTest) (outcomes.Outcome, error) {
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		return outcomes.Outcome{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	log := filepath.Join(dir, "log")
	p, err := process.Start(r.suite, []string{
		"--kubeconfig=" + cluster.kubeconfig,
		"--kubectl-path=" + r.kubectl,
		"--provider=skeleton",
		"--repo-root=",
		"--report-dir=" + dir,
		"--e2e-output-dir=" + dir,
		"--disable-log-dump",
		"--dump-logs-on-failure=false",
		"--ginkgo.focus=" + regexp.QuoteMeta(t.name) + "$",
		"--ginkgo.timeout=" + t.limit.String(),
		"--ginkgo.grace-period=" + nodeGrace,
		"--ginkgo.no-color",
		"--ginkgo.v",
	}, log)
	if err != nil {
		return outcomes.Outcome{}, err
	}
	timer := time.NewTimer(t.limit + startAllowance)
	defer timer.Stop()
	select {
	case <-p.Exited():
	case <-timer.C:
	case <-ctx.Done():
	}
	if err := p.Stop(killGrace); err != nil {
		return outcomes.Outcome{}, err
	}
	return r.outcome(t, dir)
}

// outcome reads the report of a test, and keeps what it has printed when it did not pass.
func (r runner) outcome(t suiteTest, dir string) (outcomes.Outcome, error) {
	outcome := outcomes.Outcome{State: outcomes.TimedOut, Reason: "it was killed", Seconds: t.limit.Seconds()}
	report, err := os.Open(filepath.Join(dir, "junit_01.xml")) // #nosec G304
	if err == nil {
		outcome, err = outcomes.ReadReport(report, t.name)
		_ = report.Close()
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	kept := filepath.Join(r.plane.keptLogs, fileName(t.name))
	if err == nil && outcome.State == outcomes.Passed {
		if err := os.Remove(kept); err != nil && !errors.Is(err, os.ErrNotExist) {
			return outcome, err
		}
		return outcome, nil
	}
	return outcome, errors.Join(err, keepLog(filepath.Join(dir, "log"), kept))
}

func keepLog(log, kept string) error {
	content, err := os.ReadFile(log) // #nosec G304
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(kept), 0o750); err != nil {
		return err
	}
	return os.WriteFile(kept, content, 0o600) // #nosec G703
}

var notForFiles = regexp.MustCompile(`[^A-Za-z0-9.]+`)

// fileNameLimit keeps file names within what file systems take (bytes).
const fileNameLimit = 200

// fileName is where a test's log is kept.
func fileName(name string) string {
	file := strings.Trim(notForFiles.ReplaceAllString(name, "-"), "-")
	return file[:min(len(file), fileNameLimit)] + ".log"
}
