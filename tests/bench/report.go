package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

// row is a figure of both sides.
type row struct {
	Name      string   `json:"name"`
	Unit      string   `json:"unit"`
	Upstream  *float64 `json:"upstream,omitempty"`
	Zeroplane *float64 `json:"zeroplane,omitempty"`
	// Ratio is zeroplane's cost over upstream's: for rates the inverse, so that below 1 is always better.
	Ratio *float64 `json:"ratio,omitempty"`
	Ask   string   `json:"ask,omitempty"`
	// Met says whether zeroplane's figure is what was asked; unknown without it or without its peer.
	Met *bool `json:"met,omitempty"`

	more bool
	ask  ask
}

// report collects rows in the order in which they were first measured.
type report struct {
	rows  []*row
	nodes string
	// loadBefore is the load average when the run began: others' work spoils figures.
	loadBefore string
}

func newReport(s sizes) *report {
	nodes := "plain objects that stay Ready, so it is spared the work of simulating them; those of controllers are simulated by kwok"
	if s.peerNodesKwok {
		nodes = "simulated by kwok, whose own memory and CPU are not counted"
	}
	return &report{nodes: nodes, loadBefore: loadAverage()}
}

func (r *report) add(platform string, values []value) {
	for _, v := range values {
		entry := r.find(v)
		amount := v.amount
		if platform == target.Upstream {
			entry.Upstream = &amount
		} else {
			// What is asked may depend on another of zeroplane's figures.
			entry.Zeroplane, entry.ask, entry.Ask = &amount, v.ask, v.ask.describe(v)
		}
	}
}

func (r *report) find(v value) *row {
	for _, entry := range r.rows {
		if entry.Name == v.name {
			return entry
		}
	}
	entry := &row{Name: v.name, Unit: v.unit, more: v.more, ask: v.ask, Ask: v.ask.describe(v)}
	r.rows = append(r.rows, entry)
	return entry
}

// describe is the ask in words.
func (a ask) describe(v value) string {
	var words []string
	if a.amount != 0 {
		than := "<="
		if v.more {
			than = ">="
		}
		words = append(words, fmt.Sprintf("%s %g %s", than, a.amount, v.unit))
	}
	if a.ratio != 0 {
		words = append(words, fmt.Sprintf("ratio <= %.2f", a.ratio))
	}
	return strings.Join(words, ", ")
}

// judge fills in ratio and verdict.
func (r *row) judge() {
	if r.Zeroplane == nil {
		return
	}
	if r.Upstream != nil && *r.Upstream > 0 && *r.Zeroplane > 0 {
		ratio := *r.Zeroplane / *r.Upstream
		if r.more {
			ratio = 1 / ratio
		}
		r.Ratio = &ratio
	}
	if r.ask == (ask{}) || (r.ask.ratio != 0 && r.Ratio == nil) {
		return
	}
	enough := *r.Zeroplane <= r.ask.amount
	if r.more {
		enough = *r.Zeroplane >= r.ask.amount
	}
	met := (r.ask.amount == 0 || enough) && (r.ask.ratio == 0 || *r.Ratio <= r.ask.ratio)
	r.Met = &met
}

func (r *report) print(w io.Writer, format string) error {
	for _, entry := range r.rows {
		entry.judge()
	}
	if format == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(map[string]any{"machine": r.machine(), "peerNodes": r.nodes, "figures": r.rows})
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	lines := []string{"figure\tunit\tupstream\tzeroplane\tratio\task\tmet"}
	for _, entry := range r.rows {
		lines = append(lines, strings.Join([]string{
			entry.Name, entry.Unit, number(entry.Upstream), number(entry.Zeroplane), number(entry.Ratio), entry.Ask, yesNo(entry.Met),
		}, "\t"))
	}
	if _, err := fmt.Fprintln(table, strings.Join(lines, "\n")); err != nil {
		return err
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s. ratio: zeroplane's cost over upstream's, below 1 is better. The peer's nodes are %s.\n", r.machine(), r.nodes)
	return err
}

// number has three significant digits or all of its integer part.
func number(n *float64) string {
	switch {
	case n == nil:
		return "-"
	case *n >= 100:
		return fmt.Sprintf("%.0f", *n)
	default:
		return fmt.Sprintf("%.3g", *n)
	}
}

func yesNo(b *bool) string {
	switch {
	case b == nil:
		return "-"
	case *b:
		return "yes"
	default:
		return "NO"
	}
}

// machine says what the figures were taken on, and how busy it was.
func (r *report) machine() string {
	return fmt.Sprintf("%d CPUs, %s, load average %s before and %s after",
		runtime.NumCPU(), runtime.Version(), r.loadBefore, loadAverage())
}

// loadAverage is that of the last minute.
func loadAverage() string {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	minute, _, _ := strings.Cut(string(content), " ")
	return minute
}
