package localhost

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zeroplane/zeroplane/adapters/cluster"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
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

// TestARowThatOthersMayHaveTakenOverIsWrittenAgain is about an instance whose row has named a time for so long that
// others may take the instance for gone.
func TestARowThatOthersMayHaveTakenOverIsWrittenAgain(t *testing.T) {
	store := memorytable.New()
	d := &dirty{store: store, cluster: "a", instance: "i"}
	t.Cleanup(d.stop)
	next := time.Now().Add(24 * time.Hour).UTC()
	for old, want := range map[time.Duration]int{0: 0, renewNamedAfter: 1} {
		clean(t, d, next, true)
		if err := removeMark(t.Context(), store, d.key(), table.Any); err != nil {
			t.Fatal(err)
		}
		d.named = d.named.Add(-old)
		clean(t, d, next, true)
		if n := len(left(t, store)); n != want {
			t.Errorf("written %s ago: %d rows", old, n)
		}
		d.known = false
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

func TestWhatIsMarkedStaysSoWhenACleaningOfUnknownOutcomeComesLate(t *testing.T) {
	for _, shared := range []string{"", "i"} {
		for _, next := range []time.Time{{}, time.Unix(1<<32, 0).UTC()} {
			for _, fate := range contract.Fates {
				store := contract.NewUnknown(memorytable.New())
				d := &dirty{store: store, cluster: "a", instance: shared}
				t.Cleanup(d.stop)
				write(t, d)()
				store.Fail(store.Commits(), fate)
				if ok, err := d.clean(t.Context(), next, func() bool { return true }); ok || !errors.Is(err, contract.ErrNoReply) {
					t.Fatalf("cleaned: %t, %v", ok, err)
				}
				ended := write(t, d) // there is work again
				if _, err := store.Land(); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(map[string]time.Time{"a": {}}, left(t, store)); diff != "" {
					t.Errorf("the cleaning to %v was %s, and while a write is under way (-want +got):\n%s", next, fate, diff)
				}
				ended()
				want := map[string]time.Time{}
				if !next.IsZero() {
					want["a"] = next
				}
				if ok := clean(t, d, next, true); !ok || !cmp.Equal(want, left(t, store)) {
					t.Errorf("cleaned again: %t, there are %v, want %v", ok, left(t, store), want)
				}
			}
		}
	}
}

func TestACleaningOfUnknownOutcomeIsDoneAgain(t *testing.T) {
	for _, next := range []time.Time{{}, time.Unix(1<<32, 0).UTC()} {
		for _, before := range []bool{false, true} { // is there a row
			for _, fate := range contract.Fates {
				store := contract.NewUnknown(memorytable.New())
				d := &dirty{store: store, cluster: "a"}
				t.Cleanup(d.stop)
				if before {
					write(t, d)()
				}
				store.Fail(store.Commits(), fate)
				_, _ = d.clean(t.Context(), next, func() bool { return true })
				if !clean(t, d, next, true) {
					t.Errorf("to %v, %s: it is not clean", next, fate)
				}
				if _, err := store.Land(); err != nil {
					t.Fatal(err)
				}
				want := map[string]time.Time{}
				if !next.IsZero() {
					want["a"] = next
				}
				if diff := cmp.Diff(want, left(t, store)); diff != "" {
					t.Errorf("to %v, %s (-want +got):\n%s", next, fate, diff)
				}
			}
		}
	}
}

// TestNothingIsWrittenUnlessTheMarkIsThere: a write waits for a row that is known to be there, and is refused otherwise.
func TestNothingIsWrittenUnlessTheMarkIsThere(t *testing.T) {
	for _, fate := range contract.Fates {
		for _, failures := range []int{1, 2, 3, 100} {
			store := contract.NewUnknown(memorytable.New())
			for i := range failures {
				store.Fail(i, fate)
			}
			d := &dirty{store: store, cluster: "a"}
			t.Cleanup(d.stop)
			_, err := d.beforeWrite(t.Context())
			if there := len(left(t, store)) == 1; err == nil && !there || (err == nil) != (failures < 100) {
				t.Errorf("%d times %s: the write may begin: %v, and the row is there: %t", failures, fate, err, there)
			}
			err = MarkDirty(t.Context(), store, "b")
			if _, there := left(t, store)["b"]; err == nil && !there || (err == nil) != (failures < 100) {
				t.Errorf("%d times %s: MarkDirty: %v, and the row is there: %t", failures, fate, err, there)
			}
		}
	}
}

// TestADeletionSparesTheMarkOfANewClusterOfItsName: another instance makes one while this one removes the old.
func TestADeletionSparesTheMarkOfANewClusterOfItsName(t *testing.T) {
	store := memorytable.New()
	seal, err := cluster.NewSeal(make([]byte, cluster.SealBytes))
	if err != nil {
		t.Fatal(err)
	}
	maker := cluster.Maker{Registry: cluster.Registry{Store: store}, Seal: seal, Host: "127.0.0.1", RootCA: []byte("none")}
	if _, _, err := maker.Create(t.Context(), "a", time.Now()); err != nil {
		t.Fatal(err)
	}
	d := &dirty{store: store, cluster: "a", instance: "other"}
	t.Cleanup(d.stop)
	write(t, d)
	if err := removeDirty(t.Context(), store, "a"); err != nil || len(left(t, store)) != 1 {
		t.Errorf("of a cluster that is there, %v are left, %v", left(t, store), err)
	}
	if _, err := maker.Unregister(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := removeDirty(t.Context(), store, "a"); err != nil || len(left(t, store)) != 0 {
		t.Errorf("of one that is gone, %v are left, %v", left(t, store), err)
	}
}
