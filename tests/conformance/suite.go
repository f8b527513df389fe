package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// suiteTest is one test of the suite.
type suiteTest struct {
	// name is its whole text, with the labels.
	name string
	// serial says that it must be alone on the cluster.
	serial bool
	// limit is how long it may take.
	limit time.Duration
}

const (
	// usualLimit is how long a test may take. One that needs a real container as a rule waits five minutes for what it never
	// sees; one that does not takes half a minute at most on two busy cores.
	usualLimit = 2 * time.Minute
)

// slow are the tests that wait for time to pass, and how long they may take: what they wait for, and two minutes.
var slow = []struct {
	pattern *regexp.Regexp
	limit   time.Duration
}{
	{regexp.MustCompile(`CronJob should not schedule`), 7 * time.Minute},                   // five minutes in which nothing may happen
	{regexp.MustCompile(`CronJob should`), 5 * time.Minute},                                // two or three whole minutes
	{regexp.MustCompile(`NoExecuteTaintManager`), 7 * time.Minute},                         // tolerations that run out (test/e2e/node/taints.go)
	{regexp.MustCompile(`should \*not\* be restarted`), 6 * time.Minute},                   // four minutes in which nothing may happen
	{regexp.MustCompile(`exists conflict between pods`), 7 * time.Minute},                  // five minutes in which a pod must not fit (predicates.go)
	{regexp.MustCompile(`SchedulerPreemption`), 5 * time.Minute},                           // each first waits a minute for kube-proxy on every node
	{regexp.MustCompile(`compacted away`), 13 * time.Minute},                               // two of etcd's compactions, which are five minutes apart (chunking.go)
	{regexp.MustCompile(`CustomResource`), 5 * time.Minute},                                // what kube-apiserver publishes of a kind follows a minute later
	{regexp.MustCompile(`resourcequota status|OrderedNamespaceDeletion`), 8 * time.Minute}, // until a controller looks again
	{regexp.MustCompile(`issue 500 podspec updates`), 4 * time.Minute},                     // 500 updates, one after the other
	{regexp.MustCompile(`Garbage collector`), 4 * time.Minute},                             // half a minute, and one, in which nothing may happen
}

// knownSigs are the special interest groups whose tests are compared when none are named.
var knownSigs = []string{"apps", "scheduling", "network", "node"}

// listTests asks the suite for its conformance tests and gives those that are wanted.
func listTests(ctx context.Context, suite string, o options) ([]suiteTest, error) {
	list, err := exec.CommandContext(ctx, suite, "--list-conformance-tests").Output() // #nosec G204 -- a peer that was built
	if err != nil {
		return nil, fmt.Errorf("listing the suite's conformance tests: %w", err)
	}
	var entries []struct {
		Codename string `json:"codename"`
	}
	if err := yaml.Unmarshal(list, &entries); err != nil {
		return nil, fmt.Errorf("reading the suite's list of conformance tests: %w", err)
	}
	var tests []suiteTest
	for _, e := range entries {
		sig, _, _ := strings.Cut(strings.TrimPrefix(e.Codename, "[sig-"), "]")
		if slices.Contains(o.sigs, sig) && o.focus.MatchString(e.Codename) {
			t := newTest(e.Codename)
			t.limit *= time.Duration(o.patience)
			tests = append(tests, t)
		}
	}
	if len(tests) == 0 {
		return nil, errors.New("the suite has no such conformance test")
	}
	slices.SortFunc(tests, func(a, b suiteTest) int { return strings.Compare(a.name, b.name) })
	return tests, nil
}

func newTest(name string) suiteTest {
	t := suiteTest{name: name, serial: strings.Contains(name, "[Serial]"), limit: usualLimit}
	for _, s := range slow {
		if s.pattern.MatchString(name) {
			t.limit = s.limit
			break
		}
	}
	return t
}

// names gives the tests' names.
func names(tests []suiteTest) []string {
	var all []string
	for _, t := range tests {
		all = append(all, t.name)
	}
	return all
}
