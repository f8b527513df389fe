package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/zeroplane/zeroplane/adapters/table"
)

// Violation is a broken promise.
type Violation struct {
	// Rule that was broken.
	Rule string
	Text string
}

func (v Violation) String() string { return v.Rule + ": " + v.Text }

func violation(rule, format string, args ...any) Violation {
	return Violation{Rule: rule, Text: fmt.Sprintf(format, args...)}
}

// History is all that is known of a run.
type History struct {
	Logs       []*Log
	Operations []*Operation
	Watches    []*Watch
	// Settled is set when nothing was written any more before the end, and watches had time.
	Settled bool
}

// Report is what a check found.
type Report struct {
	Violations []Violation
	// Operations, those of unknown outcome, and those of them that turned out to have been carried out.
	Operations, Ambiguous, Applied int
	// Pieces are the histories that porcupine checked, Changes the log rows, Events those of watches.
	Pieces, Changes, Events int
	// Segments are the connections of watches, Bookmarks those that were right, and Initials the states sent first.
	Segments, Bookmarks, Initials int

	bad []drawing
}

// drawing is a piece that is not linearizable.
type drawing struct {
	space string
	info  porcupine.LinearizationInfo
}

// Check checks a history. Porcupine may take so long for it all; what it does not know then counts as wrong.
func (h *History) Check(timeout time.Duration) *Report {
	r := &Report{Operations: len(h.Operations)}
	deadline := time.Now().Add(timeout)
	for i, log := range h.Logs {
		var ops []*Operation
		spaces := map[string]bool{}
		for _, o := range h.Operations {
			if o.Log == i {
				ops = append(ops, o)
				spaces[o.Space] = true
			}
		}
		r.Changes += len(log.Changes)
		r.checkLog(log, spaces, ops, deadline)
	}
	for _, o := range h.Operations {
		if o.Outcome == Unknown {
			r.Ambiguous++
		}
		if strings.Contains(o.Error, table.ErrCorrupt.Error()) || strings.Contains(o.Error, table.ErrInvalid.Error()) {
			r.Violations = append(r.Violations, violation("malfunction", "%v: %s", o, o.Error))
		}
	}
	for _, w := range h.Watches {
		c := checkWatch(h.Logs[w.Segments[0].Log], w, h.Settled)
		r.Violations = append(r.Violations, c.wrong...)
		r.Events += c.events
		r.Bookmarks += c.bookmarks
		r.Initials += c.initials
		r.Segments += len(w.Segments)
	}
	return r
}

func (r *Report) checkLog(log *Log, spaces map[string]bool, ops []*Operation, deadline time.Time) {
	r.Violations = append(r.Violations, log.wrong...)
	deeds, wrong := resolve(log, spaces, ops)
	r.Violations = append(r.Violations, wrong...)
	r.Violations = append(r.Violations, checkOrder(deeds)...)
	r.Violations = append(r.Violations, checkPast(log, ops)...)
	r.Violations = append(r.Violations, checkPlans(log, deeds)...)
	for _, d := range deeds {
		if d.Outcome == Unknown {
			r.Applied++
		}
	}
	for _, p := range pieces(deeds) {
		r.Pieces++
		v, info := p.check(max(time.Until(deadline), time.Millisecond))
		if v != nil {
			r.Violations = append(r.Violations, *v)
			r.bad = append(r.bad, drawing{p.space, info})
		}
	}
}

// mostDrawings bounds the pictures of one run.
const mostDrawings = 10

// Write writes what a reader of violations needs into a folder: the history as JSON, and porcupine's pictures.
func (h *History) Write(dir string, r *Report) error {
	var texts []string
	for _, v := range r.Violations {
		texts = append(texts, v.String())
	}
	files := map[string]any{"violations.json": texts, "operations.json": h.Operations}
	for i, log := range h.Logs {
		files[fmt.Sprintf("log-%d.json", i)] = log
	}
	for _, w := range h.Watches {
		files["watch-"+w.Name+".json"] = w
	}
	for name, v := range files {
		data, err := json.MarshalIndent(v, "", " ")
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			return fmt.Errorf("writing the history: %w", err)
		}
	}
	var failed []error
	for i, d := range r.bad[:min(len(r.bad), mostDrawings)] {
		name := fmt.Sprintf("space-%d-%s.html", i, strings.ReplaceAll(d.space, "/", "_"))
		failed = append(failed, porcupine.VisualizePath(model(), d.info, filepath.Join(dir, name)))
	}
	return errors.Join(failed...)
}
