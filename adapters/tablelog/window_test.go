package tablelog

import (
	"errors"
	"fmt"
	"testing"

	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
)

// TestManyPlansOfOneBatchReadTheLogOnce commits plans that were all decided on one revision, far behind by now.
func TestManyPlansOfOneBatchReadTheLogOnce(t *testing.T) {
	const plans = 100
	store := contract.NewCounting(memory.New())
	l, other := New(store, partition, Options{}), New(store, partition, Options{})
	since := must(t, l, "read", "1")
	for i := range recentEvents + recentEvents/2 {
		must(t, other, "other", fmt.Sprint(i))
	}
	l = New(store, partition, Options{})
	current(t, l)
	before := store.Queries()
	for i := range plans {
		guard := &Guard{Since: since, Conflicts: func(ev Event) bool { return ev.Key == "read" }}
		if _, _, err := l.Commit(t.Context(), []Change{{Key: fmt.Sprint("plan", i), Value: []byte("1")}}, guard); err != nil {
			t.Fatal(err)
		}
	}
	// A page of the log holds 1,000 rows. That memory is collected meanwhile may have it read once more.
	if n := store.Queries() - before; n > plans {
		t.Errorf("%d plans took %d queries", plans, n)
	}
	// What came meanwhile is held against the next plan all the same.
	must(t, other, "read", "2")
	for range 2 {
		for _, from := range []uint64{since, since + 1, since + plans} {
			guard := &Guard{Since: from, Conflicts: func(ev Event) bool { return ev.Key == "read" }}
			if _, _, err := l.Commit(t.Context(), []Change{{Key: "late", Value: []byte("1")}}, guard); !errors.Is(err, ErrReadSetMoved) {
				t.Errorf("a plan of revision %d: %v", from, err)
			}
		}
	}
	guard := &Guard{Since: since, Conflicts: func(ev Event) bool { return ev.Key == "plan0" }}
	if _, _, err := l.Commit(t.Context(), nil, guard); !errors.Is(err, ErrReadSetMoved) {
		t.Errorf("a plan that read what the first one wrote: %v", err)
	}
}
