package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
)

// eachUnknown runs a test for every transaction that do makes and each fate that it may have while its caller is not
// told. Do returns an error where it says so.
func eachUnknown(t *testing.T, prepare, do func(t *testing.T, m Maker) error, check func(t *testing.T, m Maker, err error)) {
	t.Helper()
	for _, shared := range []bool{false, true} {
		for _, fate := range contract.Fates {
			if fate == contract.Late && !shared {
				continue // what is embedded is not late
			}
			for n, more := 0, true; more; n++ {
				store := contract.NewUnknown(memory.New())
				m := maker(t, store)
				m.Shared = shared
				if err := prepare(t, m); err != nil {
					t.Fatal(err)
				}
				begun := store.Commits()
				store.Fail(begun+n, fate)
				err := do(t, m)
				more = store.Commits() > begun+n
				if err != nil && !errors.Is(err, contract.ErrNoReply) {
					t.Errorf("transaction %d %s (shared: %t): %v", n, fate, shared, err)
				}
				if _, err := store.Land(); err != nil {
					t.Fatal(err)
				}
				check(t, m, err)
				onlyRegistered(t, m)
				if t.Failed() {
					t.Fatalf("where transaction %d was %s (shared: %t)", n, fate, shared)
				}
			}
		}
	}
}

// onlyRegistered checks that after a sweep no rows are left but those of registered clusters.
func onlyRegistered(t *testing.T, m Maker) {
	t.Helper()
	if err := m.Sweep(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	infos, err := m.Registry.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{registryPartition: true}
	for _, i := range infos {
		if rows(t, m.Registry.Store, i.Partition()) == 0 {
			t.Errorf("cluster %s has no rows", i.Partition())
		}
		for _, group := range kubestorage.Groups {
			known[kubestorage.Partition(i.Partition(), group)] = true
		}
	}
	partitions, err := m.Registry.Store.(*contract.Unknown).Store.(table.Lister).Partitions(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range partitions {
		if !known[p] {
			t.Errorf("partition %q is nobody's", p)
		}
	}
	if left, err := m.Registry.left(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("after a sweep there are notes of %v, %v", left, err)
	}
}

func nothing(*testing.T, Maker) error { return nil }

func create(t *testing.T, m Maker) error {
	t.Helper()
	_, _, err := m.Create(t.Context(), "dev", time.Now())
	return err
}

func remove(t *testing.T, m Maker) error {
	t.Helper()
	info, err := m.Unregister(t.Context(), "dev")
	if err != nil {
		return err
	}
	return m.RemoveRows(t.Context(), info)
}

// TestACreationOfUnknownOutcomeEndsInOneCluster: who was told of a failure creates it again, and has it.
func TestACreationOfUnknownOutcomeEndsInOneCluster(t *testing.T) {
	eachUnknown(t, nothing, create, func(t *testing.T, m Maker, err error) {
		t.Helper()
		again := create(t, m)
		if err == nil && !errors.Is(again, ErrExists) || again != nil && !errors.Is(again, ErrExists) {
			t.Errorf("it ended with %v, and another with %v", err, again)
		}
		if _, err := m.Registry.Get(t.Context(), "dev"); err != nil {
			t.Errorf("after both: %v", err)
		}
	})
}

// TestADeletionOfUnknownOutcomeEndsInNone: who was told of a failure deletes it again, or finds it gone.
func TestADeletionOfUnknownOutcomeEndsInNone(t *testing.T) {
	eachUnknown(t, create, remove, func(t *testing.T, m Maker, err error) {
		t.Helper()
		again := remove(t, m)
		if err == nil && !errors.Is(again, ErrNotFound) || again != nil && !errors.Is(again, ErrNotFound) {
			t.Errorf("it ended with %v, and another with %v", err, again)
		}
		if _, err := m.Registry.Get(t.Context(), "dev"); !errors.Is(err, ErrNotFound) {
			t.Errorf("after both: %v", err)
		}
	})
}

// TestAnAdoptionOfUnknownOutcomeLeavesOneCluster: the new one or the former, whole.
func TestAnAdoptionOfUnknownOutcomeLeavesOneCluster(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, Maker) error{"new": nothing, "replaced": create} {
		t.Run(name, func(t *testing.T) {
			var adopted Info
			adopt := func(t *testing.T, m Maker) (err error) {
				t.Helper()
				adopted, err = m.Adopt(t.Context(), Adoption{Name: "dev", Created: time.Now(), Replace: true, Write: func(ctx context.Context, partition string) error {
					return m.Registry.Store.Commit(ctx, kubestorage.Partition(partition, kubestorage.PodsGroup), []table.Op{{Kind: table.Put, Key: "o-x"}})
				}})
				return err
			}
			eachUnknown(t, prepare, adopt, func(t *testing.T, m Maker, err error) {
				t.Helper()
				there, found := m.Registry.Get(t.Context(), "dev")
				if err == nil && (found != nil || there.ID != adopted.ID) {
					t.Errorf("there is %q, %v, want %q", there.ID, found, adopted.ID)
				}
				if err := adopt(t, m); err != nil {
					t.Errorf("another: %v", err)
				}
			})
		})
	}
}
