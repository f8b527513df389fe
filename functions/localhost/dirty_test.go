package localhost

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zeroplane/zeroplane/adapters/table"
	memorytable "github.com/zeroplane/zeroplane/adapters/table/memory"
)

// left returns the dirty rows of a store.
func left(t *testing.T, store table.Store) map[string]time.Time {
	t.Helper()
	marks, err := dirtyMarks(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]time.Time{}
	for _, m := range marks {
		out[m.cluster] = m.wake
	}
	return out
}

func write(t *testing.T, d *dirty) (ended func()) {
	t.Helper()
	ended, err := d.beforeWrite(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ended
}

func clean(t *testing.T, d *dirty, next time.Time, caughtUp bool) bool {
	t.Helper()
	ok, err := d.clean(t.Context(), next, func() bool { return caughtUp })
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestAClusterIsDirtyFromItsFirstWriteUntilEverybodyHasSeenTheLast(t *testing.T) {
	store := memorytable.New()
	d := &dirty{store: store, cluster: "a"}
	t.Cleanup(d.stop)
	now := map[string]time.Time{"a": {}}
	first, second := write(t, d), write(t, d)
	if diff := cmp.Diff(now, left(t, store)); diff != "" {
		t.Errorf("while writes are under way:\n%s", diff)
	}
	first()
	if clean(t, d, time.Time{}, true) {
		t.Error("it is clean while a write is under way")
	}
	second()
	if clean(t, d, time.Time{}, false) {
		t.Error("it is clean while a function runs")
	}
	if diff := cmp.Diff(now, left(t, store)); diff != "" {
		t.Errorf("while a function runs:\n%s", diff)
	}
	if !clean(t, d, time.Time{}, true) || len(left(t, store)) > 0 {
		t.Errorf("at rest there are %v", left(t, store))
	}
	write(t, d)()
	if diff := cmp.Diff(now, left(t, store)); diff != "" {
		t.Errorf("after another write:\n%s", diff)
	}
}

func TestARowNamesWhenSomethingIsDue(t *testing.T) {
	store := memorytable.New()
	d := &dirty{store: store, cluster: "a"}
	t.Cleanup(d.stop)
	for _, at := range []time.Time{time.Unix(100, 5).UTC(), time.Unix(200, 0).UTC()} {
		if !clean(t, d, at, true) {
			t.Error("it is not clean")
		}
		if diff := cmp.Diff(map[string]time.Time{"a": at}, left(t, store)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if d.marked() {
		t.Error("there is work left at once")
	}
	if !clean(t, d, time.Time{}, true) || len(left(t, store)) > 0 {
		t.Errorf("when nothing is due there are %v", left(t, store))
	}
}

// TestARowOfTheProcessBeforeGoes is about a start that finds nothing to do.
func TestARowOfTheProcessBeforeGoes(t *testing.T) {
	store := memorytable.New()
	before := &dirty{store: store, cluster: "a"}
	t.Cleanup(before.stop)
	write(t, before)
	d := &dirty{store: store, cluster: "a"}
	t.Cleanup(d.stop)
	if !clean(t, d, time.Time{}, true) || len(left(t, store)) > 0 {
		t.Errorf("there are %v", left(t, store))
	}
}

func TestADamagedRowIsNamed(t *testing.T) {
	store := memorytable.New()
	if err := store.Commit(t.Context(), dirtyPartition, []table.Op{{Kind: table.Put, Key: dirtyClass + "a", Value: []byte("{")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := dirtyMarks(t.Context(), store); !errors.Is(err, table.ErrCorrupt) {
		t.Errorf("%v", err)
	}
}
