package outcomes

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// report is what the suite writes, but for the properties and most of the tests that it leaves out.
const report = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="4" failures="1">
  <testsuite name="Kubernetes e2e suite" tests="4">
    <properties><property name="SuiteSucceeded" value="false"></property></properties>
    <testcase name="[ReportBeforeSuite]" classname="Kubernetes e2e suite" status="passed" time="0"></testcase>
    <testcase name="[SynchronizedBeforeSuite]" classname="Kubernetes e2e suite" status="passed" time="0.06"></testcase>
    <testcase name="[It] [sig-apps] Job should delete a job [Conformance]" status="passed" time="1.5"></testcase>
    <testcase name="[It] [sig-apps] Job should fail [Conformance]" status="failed" time="2">
      <failure message="" type="failed">[FAILED] expected 1&#xA;to equal 2</failure>
    </testcase>
    <testcase name="[It] [sig-apps] Job should panic [Conformance]" status="panicked" time="2">
      <error message="nil map" type="panicked">stack</error>
    </testcase>
    <testcase name="[It] [sig-apps] Job should wait [Conformance]" status="timedout" time="120">
      <failure message="" type="timedout">A suite timeout occurred</failure>
    </testcase>
    <testcase name="[It] [sig-apps] Job should want more [Conformance]" status="skipped" time="0">
      <skipped message="skipped - Requires at least 4 nodes"></skipped>
    </testcase>
  </testsuite>
</testsuites>`

func TestOutcomesAreReadFromTheReport(t *testing.T) {
	const prefix, suffix = "[sig-apps] Job should ", " [Conformance]"
	for name, want := range map[string]Outcome{
		"delete a job": {State: Passed, Seconds: 1.5},
		"fail":         {State: Failed, Seconds: 2, Reason: "[FAILED] expected 1\nto equal 2"},
		"panic":        {State: Failed, Seconds: 2, Reason: "nil map\nstack"},
		"wait":         {State: TimedOut, Seconds: 120, Reason: "A suite timeout occurred"},
		"want more":    {State: Skipped, Reason: "Requires at least 4 nodes"},
	} {
		got, err := ReadReport(strings.NewReader(report), prefix+name+suffix)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: error %v, outcome (-want +got):\n%s", name, err, diff)
		}
	}
	if _, err := ReadReport(strings.NewReader(report), prefix+"not be there"+suffix); !errors.Is(err, errNotReported) {
		t.Errorf("a test that is not reported gives %v", err)
	}
}

// When the suite cannot begin, its tests are skipped, and that is a failure, or both sides would agree on nothing.
func TestASuiteThatCannotBeginFailsItsTest(t *testing.T) {
	broken := strings.Replace(report, `name="[SynchronizedBeforeSuite]" classname="Kubernetes e2e suite" status="passed"`,
		`name="[SynchronizedBeforeSuite]" classname="Kubernetes e2e suite" status="failed"`, 1)
	got, err := ReadReport(strings.NewReader(broken), "[sig-apps] Job should want more [Conformance]")
	if err != nil || got.State != Failed {
		t.Errorf("the outcome is %+v, %v", got, err)
	}
}

func TestLongReasonsAreCut(t *testing.T) {
	long := strings.Replace(report, "expected 1", strings.Repeat("é", reasonLimit), 1)
	got, err := ReadReport(strings.NewReader(long), "[sig-apps] Job should fail [Conformance]")
	if err != nil || len(got.Reason) > reasonLimit+len("...") || !strings.HasSuffix(got.Reason, "é...") {
		t.Errorf("the reason has %d bytes (error %v)", len(got.Reason), err)
	}
}

func TestKeptOutcomesAreThereTheNextTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "folder", "upstream.json")
	kept := open(t, path)
	want := Outcome{State: Failed, Reason: "why", Seconds: 3, Attempts: 2, Build: "b"}
	if err := kept.Put("one", Outcome{State: Passed}); err != nil {
		t.Fatal(err)
	}
	if err := kept.Put("one", want); err != nil {
		t.Fatal(err)
	}
	got, ok := open(t, path).Get("one")
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("there: %t (-want +got):\n%s", ok, diff)
	}
	if _, ok := open(t, path).Get("two"); ok {
		t.Error("a test is there that was never run")
	}
}

func TestTwoRunsKeepTheirOutcomesTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "upstream.json")
	one, two := open(t, path), open(t, path)
	for kept, name := range map[*Kept]string{one: "one", two: "two"} {
		if err := kept.Put(name, Outcome{State: Passed}); err != nil {
			t.Fatal(err)
		}
	}
	both := open(t, path)
	for _, name := range []string{"one", "two"} {
		if _, ok := both.Get(name); !ok {
			t.Errorf("%s is lost", name)
		}
	}
}

func open(t *testing.T, path string) *Kept {
	t.Helper()
	kept, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

func TestExplanationsAreRead(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want map[string]string
		err  string
	}{
		"nothing": {text: "# nothing\n\n", want: map[string]string{}},
		"two, one over two lines": {
			text: "[sig-a] one [Conformance]\n  because\n\tof this\n# next\n[sig-a] two\n  no\n",
			want: map[string]string{"[sig-a] one [Conformance]": "because of this", "[sig-a] two": "no"},
		},
		"no reason":       {text: "[sig-a] one\n[sig-a] two\n  no\n", err: `line 2: no reason is given for "[sig-a] one"`},
		"no reason, last": {text: "[sig-a] one\n", err: `no reason is given for "[sig-a] one"`},
		"twice":           {text: "[sig-a] one\n  no\n[sig-a] one\n  no\n", err: `line 3: "[sig-a] one" is there twice`},
		"no test":         {text: "  no\n", err: "line 1: a reason without a test"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadExplained(strings.NewReader(c.text))
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Fatalf("the error is %v, want %s", err, c.err)
				}
				return
			}
			if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestBothSidesAreCompared(t *testing.T) {
	side := func(build string, states map[string]Outcome) Side {
		kept := open(t, filepath.Join(t.TempDir(), "kept.json"))
		for name, o := range states {
			if err := kept.Put(name, o); err != nil {
				t.Fatal(err)
			}
		}
		return Side{Kept: kept, Build: build}
	}
	upstream := side("u", map[string]Outcome{
		"both": {State: Passed, Build: "u"}, "again": {State: Passed, Build: "u"}, "neither": {State: TimedOut, Build: "u"},
		"here only": {State: Passed, Build: "old"}, "explained": {State: Passed, Build: "u"}, "missing": {State: Passed, Build: "u"},
		"there only": {State: Failed, Reason: "there", Build: "u"}, "mended": {State: Passed, Build: "u"},
	})
	zeroplane := side("z", map[string]Outcome{
		"both": {State: Passed, Build: "z"}, "again": {State: Passed, Attempts: 2, Build: "z"}, "neither": {State: TimedOut, Build: "z"},
		"here only": {State: Failed, Reason: "here", Build: "z"}, "explained": {State: Skipped, Build: "z"},
		"there only": {State: Passed, Build: "z"}, "mended": {State: Passed, Build: "z"},
	})
	tests := []string{"again", "both", "explained", "here only", "mended", "missing", "neither", "there only", "unknown"}
	got := Compare(tests, upstream, zeroplane, map[string]string{"explained": "so", "mended": "so", "another": "so"})
	want := Comparison{
		Tests:     9,
		Upstream:  Counts{Passed: 6, Failed: 1, TimedOut: 1, NotRun: 1, OtherBuild: 1},
		Zeroplane: Counts{Passed: 4, Failed: 1, TimedOut: 1, Skipped: 1, NotRun: 2},
		Both:      3,
		HereOnly: []Difference{
			{Test: "explained", State: Skipped, Explained: "so"},
			{Test: "here only", State: Failed, Reason: "here"},
		},
		UpstreamOnly: []Difference{{Test: "there only", State: Failed, Reason: "there"}},
		Missing:      []string{"missing"},
		Again:        []string{"again"},
		Stale:        []string{"mended"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.OK() {
		t.Error("what fails here only passes")
	}
	got.HereOnly, got.Stale = got.HereOnly[:1], nil
	if !got.OK() {
		t.Error("what is explained fails")
	}
}
