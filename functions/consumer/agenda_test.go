package consumer

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
)

// What an agenda finds is what a look at every row finds.
func TestAnAgendaFindsWhatIsDue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := newAgenda()
		rows := map[string]*dueRow{}
		start := time.Unix(1000, 0)
		moment := rapid.Custom(func(t *rapid.T) time.Time {
			return start.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "second")) * time.Second)
		})
		for range rapid.IntRange(0, 60).Draw(t, "changes") {
			function := rapid.SampledFrom([]string{"nodes", "workloads"}).Draw(t, "function")
			id := fmt.Sprintf("%s-%d", function, rapid.IntRange(0, 9).Draw(t, "subject"))
			if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
				a.set(id, nil)
				delete(rows, id)
				continue
			}
			d := &dueRow{Function: function, Later: plan.Later{At: moment.Draw(t, "at")}}
			a.set(id, d)
			rows[id] = d
		}
		for _, function := range []string{"nodes", "workloads", "unheard"} {
			now := moment.Draw(t, "now")
			var want, got []string
			var first *dueRow
			for id, d := range rows {
				if d.Function != function {
					continue
				}
				if first == nil || d.Later.At.Before(first.Later.At) {
					first = d
				}
				if !d.Later.At.After(now) {
					want = append(want, id)
				}
			}
			a.until(function, now, func(d *dueRow) { got = append(got, d.id) })
			slices.SortFunc(want, cmp.Compare)
			slices.SortFunc(got, cmp.Compare)
			if !slices.Equal(want, got) {
				t.Fatalf("due for %s: %q, want %q", function, got, want)
			}
			at, found := a.first(function)
			if found != (first != nil) || found && !at.Equal(first.Later.At) {
				t.Fatalf("first of %s is %v, %v; want %+v", function, at, found, first)
			}
		}
		for id, d := range rows {
			if a.get(id) != d {
				t.Fatalf("%s is not kept", id)
			}
		}
	})
}
