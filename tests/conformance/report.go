package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/zeroplane/zeroplane/tests/conformance/outcomes"
)

// reasonLines is how much of a failure's message the table shows.
const reasonLines = 4

func printComparison(out io.Writer, format string, c outcomes.Comparison) error {
	if format == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(c)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d conformance tests\n\n", c.Tests)
	fmt.Fprintf(&b, "%-11s %7s %7s %10s %8s %8s\n", "", "passed", "failed", "timed out", "skipped", "not run")
	for _, side := range []struct {
		name string
		outcomes.Counts
	}{{"upstream", c.Upstream}, {"zeroplane", c.Zeroplane}} {
		fmt.Fprintf(&b, "%-11s %7d %7d %10d %8d %8d\n", side.name, side.Passed, side.Failed, side.TimedOut, side.Skipped, side.NotRun)
		if side.OtherBuild > 0 {
			fmt.Fprintf(&b, "%-11s %d of these are of another build\n", "", side.OtherBuild)
		}
	}
	fmt.Fprintf(&b, "passed on both: %d\n", c.Both)
	printDifferences(&b, "failed here only", c.HereOnly)
	printDifferences(&b, "failed upstream only", c.UpstreamOnly)
	printNames(&b, "passed upstream, not run here", c.Missing)
	printNames(&b, "passed here at a second attempt", c.Again)
	printNames(&b, "explained, but passing", c.Stale)
	_, err := io.WriteString(out, b.String())
	return err
}

func printDifferences(b *strings.Builder, title string, differences []outcomes.Difference) {
	fmt.Fprintf(b, "\n%s: %d\n", title, len(differences))
	for _, d := range differences {
		fmt.Fprintf(b, "  %s\n", d.Test)
		if d.Explained != "" {
			fmt.Fprintf(b, "      explained: %s\n", d.Explained)
			continue
		}
		fmt.Fprintf(b, "      %s\n", d.State)
		lines := strings.Split(d.Reason, "\n")
		for _, line := range lines[:min(len(lines), reasonLines)] {
			fmt.Fprintf(b, "      %s\n", line)
		}
	}
}

func printNames(b *strings.Builder, title string, tests []string) {
	if len(tests) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s: %d\n", title, len(tests))
	for _, t := range tests {
		fmt.Fprintf(b, "  %s\n", t)
	}
}
