package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zeroplane/zeroplane/tests/conformance/outcomes"
)

// The suite takes half an hour on each side. What was run before on the same build is not run again.
func TestWhatPassesUpstreamPassesHere(t *testing.T) {
	if os.Getenv("ZEROPLANE_LONG") == "" {
		t.Skip("part of the long form (make test-long), or: make conformance")
	}
	c, err := compare(t.Context(), options{sigs: knownSigs, focus: regexp.MustCompile(""), parallel: defaultParallel, patience: 1})
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := printComparison(&table, "table", c); err != nil {
		t.Fatal(err)
	}
	t.Log(table.String())
	if err := verdict(c); err != nil {
		t.Error(err)
	}
}

func TestExplanationsCanBeRead(t *testing.T) {
	if _, err := readExplained(); err != nil {
		t.Fatal(err)
	}
}

func TestTestsHaveTheTimeThatTheyWaitFor(t *testing.T) {
	for name, want := range map[string]suiteTest{
		"[sig-apps] Deployment should run [Conformance]":                    {limit: 2 * time.Minute},
		"[sig-apps] Daemon set [Serial] should run [Conformance]":           {limit: 2 * time.Minute, serial: true},
		"[sig-apps] CronJob should not schedule jobs when suspended [Slow]": {limit: 7 * time.Minute},
		"[sig-apps] CronJob should support CronJob API operations":          {limit: 5 * time.Minute},
		"[sig-node] NoExecuteTaintManager Single Pod [Serial]":              {limit: 7 * time.Minute, serial: true},
	} {
		want.name = name
		if got := newTest(name); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestSerialTestsRunAloneAndLongOnesFirst(t *testing.T) {
	together, alone := split([]suiteTest{
		newTest("[sig-a] a"), newTest("[sig-a] b [Serial]"), newTest("[sig-a] CronJob should c"), newTest("[sig-a] d"), newTest("[sig-a] e [Serial]"),
	})
	got := [][]string{names(together), names(alone)}
	want := [][]string{{"[sig-a] CronJob should c", "[sig-a] a", "[sig-a] d"}, {"[sig-a] b [Serial]", "[sig-a] e [Serial]"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatIsKnownIsNotRunAgain(t *testing.T) {
	kept, err := outcomes.Open(t.TempDir() + "/kept.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, build := range map[string]string{"known": "present", "of another build": "past"} {
		if err := kept.Put(name, outcomes.Outcome{State: outcomes.Failed, Build: build}); err != nil {
			t.Fatal(err)
		}
	}
	for name, limit := range map[string]float64{"cut off": 60, "cut off sooner": 59} {
		if err := kept.Put(name, outcomes.Outcome{State: outcomes.TimedOut, Limit: limit, Build: "present"}); err != nil {
			t.Fatal(err)
		}
	}
	var tests []suiteTest
	for _, name := range []string{"known", "of another build", "unknown", "cut off", "cut off sooner"} {
		tests = append(tests, suiteTest{name: name, limit: time.Minute})
	}
	p := plane{build: "present", kept: kept}
	for what, c := range map[string]struct {
		o    options
		want []string
	}{
		"as it is":       {want: []string{"of another build", "unknown", "cut off sooner"}},
		"any build":      {o: options{anyBuild: true}, want: []string{"unknown", "cut off sooner"}},
		"all over again": {o: options{again: true, anyBuild: true}, want: names(tests)},
	} {
		if got := names(c.o.toRun(tests, p)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
}

func TestTheVerdictSaysWhatIsWrong(t *testing.T) {
	for want, c := range map[string]outcomes.Comparison{
		"": {HereOnly: []outcomes.Difference{{Test: "a", Explained: "so"}}},
		"1 tests fail here only, and tests/conformance/testdata/explained.txt does not say why": {HereOnly: []outcomes.Difference{{Test: "a"}}},
		"1 tests pass that tests/conformance/testdata/explained.txt says fail":                  {Stale: []string{"a"}},
		"3 tests are still to be run: run this again":                                           {Missing: []string{"a"}, Upstream: outcomes.Counts{NotRun: 2}},
	} {
		got := ""
		if err := verdict(c); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("the verdict is %q, want %q", got, want)
		}
	}
}

func TestTheTableSaysBothCountsAndTheDifference(t *testing.T) {
	var table strings.Builder
	if err := printComparison(&table, "table", outcomes.Comparison{
		Tests: 5, Upstream: outcomes.Counts{Passed: 4, TimedOut: 1}, Zeroplane: outcomes.Counts{Passed: 2, Failed: 3, OtherBuild: 1}, Both: 2,
		HereOnly: []outcomes.Difference{
			{Test: "a", State: outcomes.Failed, Reason: "1\n2\n3\n4\n5"}, {Test: "b", State: outcomes.Failed, Reason: "1", Explained: "so"},
		},
		Again: []string{"c"},
	}); err != nil {
		t.Fatal(err)
	}
	const want = `5 conformance tests

             passed  failed  timed out  skipped  not run
upstream          4       0          1        0        0
zeroplane         2       3          0        0        0
            1 of these are of another build
passed on both: 2

failed here only: 2
  a
      failed
      1
      2
      3
      4
  b
      explained: so

failed upstream only: 0

passed here at a second attempt: 1
  c
`
	if diff := cmp.Diff(want, table.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLogsHaveNamesThatFilesMayHave(t *testing.T) {
	got := fileName(`[sig-node] Probing container should *not* be restarted with a exec "cat /tmp/health" liveness probe [Conformance]`)
	const want = "sig-node-Probing-container-should-not-be-restarted-with-a-exec-cat-tmp-health-liveness-probe-Conformance.log"
	if got != want {
		t.Errorf("the file is called %s", got)
	}
	if long := fileName(strings.Repeat("a", 300)); len(long) > fileNameLimit+len(".log") {
		t.Errorf("the file's name has %d bytes", len(long))
	}
}
