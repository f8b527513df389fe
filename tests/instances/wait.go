package instances

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table"
)

const (
	// Patience is how long a cluster may take to settle, by its own clock, and stepPatience how long a client tries.
	Patience     = time.Hour
	stepPatience = 10 * time.Minute
	// overdue is how long after its time work counts as left, since a run of the timer comes to it until then, and lookEvery
	// how often Settle looks: never at the moment of such a run.
	overdue   = TimerInterval + time.Minute
	lookEvery = 2*TimerInterval + TimerInterval/2
)

// Insist does something until it succeeds, as whoever sends it would.
func (w *World) Insist(what string, do func(context.Context) error) {
	w.t.Helper()
	deadline := time.Now().Add(stepPatience)
	for {
		err := do(w.ctx)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("cannot %s: %v", what, err)
		}
		time.Sleep(time.Second)
	}
}

// Settle waits until no row says that there is work, twice in a row with minutes between.
func (w *World) Settle() {
	w.t.Helper()
	deadline := time.Now().Add(Patience)
	for quiet := 0; quiet < 2; {
		time.Sleep(lookEvery)
		left, err := w.Left()
		if err != nil {
			w.t.Fatal(err)
		}
		if quiet++; len(left) > 0 {
			quiet = 0
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("after %s there is still work: %v", Patience, left)
		}
	}
}

// Left returns the dirty rows with work to be done at once, and those that were due and that a run of the timer has passed by.
func (w *World) Left() ([]string, error) {
	var left []string
	var broken error
	err := table.All(w.ctx, w.Store, "_dirty", table.Query{From: "d-", To: "d."}, func(row table.Row) bool {
		var r struct{ Wake time.Time }
		broken = json.Unmarshal(row.Value, &r)
		if r.Wake.IsZero() || time.Since(r.Wake) > overdue {
			left = append(left, row.Key+" "+string(row.Value))
		}
		return broken == nil
	})
	return left, errors.Join(err, broken)
}

// Failing returns what functions that failed have put off: at rest, those that go on failing.
func (w *World) Failing() ([]string, error) {
	var failing []string
	for after := ""; ; {
		partitions, err := w.Store.(table.Lister).Partitions(w.ctx, after)
		if err != nil || len(partitions) == 0 {
			return failing, err
		}
		for _, partition := range partitions {
			after = partition
			if !strings.HasSuffix(partition, "|cursors") {
				continue
			}
			var broken error
			err := table.All(w.ctx, w.Store, partition, table.Query{From: "d-", To: "d."}, func(row table.Row) bool {
				var r struct {
					Function string
					Later    struct{ Kind string }
				}
				broken = json.Unmarshal(row.Value, &r)
				if r.Later.Kind == "retry" {
					failing = append(failing, r.Function)
				}
				return broken == nil
			})
			if err = errors.Join(err, broken); err != nil {
				return failing, err
			}
		}
	}
}
