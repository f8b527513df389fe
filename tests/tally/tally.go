package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// event is one line of `go test -json` (go doc test2json); build output has an ImportPath instead of
// a Package.
type event struct {
	Action, Package, ImportPath, Test, Output, FailedBuild string
	Elapsed                                                float64
}

// counts are the tests that ended in each way.
type counts struct {
	passed, failed, skipped int
}

func (c counts) String() string {
	text := fmt.Sprintf("%d passed, %d failed", c.passed, c.failed)
	if c.skipped > 0 {
		text += fmt.Sprintf(", %d skipped", c.skipped)
	}
	return text
}

// tally follows a run of the tests of several packages and says on out how each package ended, with
// all that a failed one printed and what the others measured.
type tally struct {
	out      io.Writer
	total    counts
	packages map[string]*testedPackage
	// builds is what the compiler said of each package, by import path.
	builds map[string]string
}

// testedPackage is what is known of a package whose tests run.
type testedPackage struct {
	// results holds the action that each test ended with, empty while it runs.
	results map[string]string
	output  []line
}

// line is a line of output of a test, or of the package when test is empty.
type line struct{ test, text string }

func newTally(out io.Writer) *tally {
	return &tally{out: out, packages: map[string]*testedPackage{}, builds: map[string]string{}}
}

// add takes the next event.
func (t *tally) add(e event) {
	if e.Action == "build-output" {
		t.builds[e.ImportPath] += e.Output
		return
	}
	if e.Package == "" {
		return
	}
	p := t.packages[e.Package]
	if p == nil {
		p = &testedPackage{results: map[string]string{}}
		t.packages[e.Package] = p
	}
	switch e.Action {
	case "run":
		p.results[e.Test] = ""
	case "output":
		p.output = append(p.output, line{test: e.Test, text: e.Output})
	case "pass", "fail", "skip":
		if e.Test != "" {
			p.results[e.Test] = e.Action
			return
		}
		t.end(e, p)
	}
}

// end counts a package that is done and forgets what it printed.
func (t *tally) end(e event, p *testedPackage) {
	c := p.count()
	if e.Action == "fail" && c.failed == 0 {
		// It did not build, or ended outside of any test.
		c.failed = 1
	}
	t.total.passed += c.passed
	t.total.failed += c.failed
	t.total.skipped += c.skipped
	delete(t.packages, e.Package)
	took := time.Duration(e.Elapsed * float64(time.Second)).Round(time.Millisecond)
	switch {
	case e.Action == "fail":
		fmt.Fprintf(t.out, "FAIL %s (%v, %v)\n", e.Package, c, took)
		fmt.Fprint(t.out, t.builds[e.FailedBuild], p.failures())
	case len(p.results) > 0:
		fmt.Fprintf(t.out, "ok   %s (%v, %v)\n", e.Package, c, took)
		fmt.Fprint(t.out, p.figures())
	}
}

// finish ends the packages that never reported their end.
func (t *tally) finish() {
	names := make([]string, 0, len(t.packages))
	for name := range t.packages {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t.end(event{Action: "fail", Package: name}, t.packages[name])
	}
}

// parent is the test that a subtest belongs to, empty for none.
func parent(test string) string {
	return test[:max(0, strings.LastIndexByte(test, '/'))]
}

// count counts each claim once: a test with subtests counts only when it failed and none of them did.
// A test that never ended has failed.
func (p *testedPackage) count() counts {
	hasSubtests, subtestFailed := map[string]bool{}, map[string]bool{}
	for test, result := range p.results {
		for above := parent(test); above != ""; above = parent(above) {
			hasSubtests[above] = true
			if result == "fail" || result == "" {
				subtestFailed[above] = true
			}
		}
	}
	var c counts
	for test, result := range p.results {
		failed := result == "fail" || result == ""
		switch {
		case hasSubtests[test] && (!failed || subtestFailed[test]):
		case failed:
			c.failed++
		case result == "skip":
			c.skipped++
		default:
			c.passed++
		}
	}
	return c
}

// figureMark begins a line of output that is shown although its test passed: what it measured.
const figureMark = "figure: "

func (p *testedPackage) figures() string {
	var text strings.Builder
	for _, l := range p.output {
		if figure, ok := strings.CutPrefix(l.text, figureMark); ok {
			text.WriteString("     " + figure)
		}
	}
	return text.String()
}

// failures is the output of the package and of all tests in it but those that passed.
func (p *testedPackage) failures() string {
	var text strings.Builder
	for _, l := range p.output {
		if p.results[l.test] != "pass" && p.results[l.test] != "skip" {
			text.WriteString(l.text)
		}
	}
	return text.String()
}
