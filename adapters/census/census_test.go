package census

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// TestACensusCountsWhatIsThere after 101 changes in one hour, two in a transaction, of which the first 50 are compacted.
func TestACensusCountsWhatIsThere(t *testing.T) {
	store := memory.New()
	info := cluster.Info{Name: "c", ID: "01234567"}
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now := start
	name := kubestorage.Partition(info.Partition(), kubestorage.PodsGroup)
	l := tablelog.New(store, name, tablelog.Options{Now: func() time.Time { return now }})
	commit := func(changes ...tablelog.Change) {
		t.Helper()
		s, err := l.Current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range changes {
			if e := s.Get(c.Key); e != nil {
				changes[i].Expect = e.Rev
			}
		}
		if _, _, err := l.Commit(t.Context(), changes, nil); err != nil {
			t.Fatal(err)
		}
	}
	commit(tablelog.Change{Key: "core/pods/default/old", Value: []byte("x")})
	for i := 0; i < 100; i += 2 {
		now = start.Add(time.Duration(i) * 36 * time.Second)
		pod := func(i int) tablelog.Change {
			return tablelog.Change{Key: fmt.Sprintf("core/pods/default/p%d", i%3), Value: []byte("x")}
		}
		commit(pod(i), pod(i+1))
	}
	if _, err := l.Compact(t.Context(), 52, 1000); err != nil {
		t.Fatal(err)
	}
	if err := store.Commit(t.Context(), kubestorage.Partition(info.Partition(), "cursors"), []table.Op{{Kind: table.Put, Key: "c-f", Value: []byte("{}")}}); err != nil {
		t.Fatal(err)
	}
	c, err := Take(t.Context(), store, info, start.Add(time.Hour), nil)
	if err != nil {
		t.Fatal(err)
	}
	// Log rows: 51 from 52 to 102, the predecessors 49, 50 and 51, and 2; four objects; the floor.
	got := c.Logs[0]
	want := Log{
		Partition: Partition{Name: name, Rows: 60, Bytes: got.Bytes}, Group: kubestorage.PodsGroup,
		Revision: 102, Floor: 52, Objects: 4, ChangesPerHour: 101, SpanHours: 1,
		TransactionsPerHour: 101 * 26.0 / 51, // the oldest kept is the second of its transaction
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"pods": 4}, c.Kinds); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
	var bytes int64
	for _, partition := range []string{name, kubestorage.Partition(info.Partition(), "cursors")} {
		if err := table.All(t.Context(), store, partition, table.Query{From: " ", To: "\x7f"}, func(row table.Row) bool {
			bytes += int64(len(partition) + len(row.Key) + len(row.Value))
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
	if c.Rows != 61 || c.Bytes != bytes || c.Objects != 4 || c.ChangesPerHour != 101 {
		t.Errorf("%+v, want 61 rows of %d bytes", c, bytes)
	}
	// 51.5 transactions an hour are 37,600 a month, at $0.00036 for 10,000.
	if c.OperationsDollars < 0.00135 || c.OperationsDollars > 0.00136 {
		t.Errorf("operations cost $%f", c.OperationsDollars)
	}
}

func TestACensusStopsWhenItIsTold(t *testing.T) {
	store := memory.New()
	info := cluster.Info{Name: "c", ID: "01234567"}
	l := tablelog.New(store, kubestorage.Partition(info.Partition(), kubestorage.PodsGroup), tablelog.Options{})
	if _, _, err := l.Commit(t.Context(), []tablelog.Change{{Key: "core/pods/default/a", Value: []byte("x")}}, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Take(ctx, store, info, time.Now(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
