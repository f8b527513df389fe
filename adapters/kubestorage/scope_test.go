package kubestorage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/storage"

	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// guardOf is a guard on all pods since the storage's present revision.
func guardOf(ctx context.Context, t testing.TB, s *Storage) Guards {
	t.Helper()
	rev, err := s.GetCurrentResourceVersion(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return Guards{s.Log: {Since: rev, Conflicts: func(ev tablelog.Event) bool { return strings.HasPrefix(ev.Key, "core/pods/") }}}
}

func TestAScopeHoldsItsWritesUntilItCommits(t *testing.T) {
	ctx := t.Context()
	s := newStorage(memory.New(), tablelog.Options{})
	create(ctx, t, s, "old", "")
	create(ctx, t, s, "gone", "")
	scoped, scope := WithScope(ctx)
	create(scoped, t, s, "new", "")
	if err := place(scoped, s, "old", "n1"); err != nil {
		t.Fatal(err)
	}
	if err := remove(scoped, s, "gone"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`gone on ""`, `old on ""`}, names(ctx, t, s)); diff != "" {
		t.Errorf("before the commit (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{"new": "", "old": "n1", "gone": "-"} {
		if got := nodeOf(scoped, t, s, name); got != want {
			t.Errorf("in the scope %s is on %q, want %q", name, got, want)
		}
	}
	if err := scope.Commit(ctx, guardOf(ctx, t, s)); err != nil {
		t.Fatal(err)
	}
	want := []string{`new on ""`, `old on "n1"`}
	if diff := cmp.Diff(want, names(ctx, t, s)); diff != "" {
		t.Errorf("after the commit (-want +got):\n%s", diff)
	}
	if err := scope.Commit(ctx, nil); err != nil {
		t.Errorf("a second commit has nothing to do: %v", err)
	}
}

func TestWritesInAScopeFollowEachOther(t *testing.T) {
	ctx := t.Context()
	s := newStorage(memory.New(), tablelog.Options{})
	create(ctx, t, s, "old", "")
	before, _ := s.GetCurrentResourceVersion(ctx)
	scoped, scope := WithScope(ctx)
	first := create(scoped, t, s, "new", "")
	if err := s.Create(scoped, keyOf("new"), pod("new", ""), nil, 0); !storage.IsExist(err) {
		t.Errorf("created twice: %v", err)
	}
	if err := place(scoped, s, "new", "n1"); err != nil {
		t.Fatal(err)
	}
	if err := place(scoped, s, "new", "n2"); !errors.Is(err, errPlaced) {
		t.Errorf("an update does not see the one before: %v", err)
	}
	again := getPod(scoped, t, s, "new")
	if again.ResourceVersion == first.ResourceVersion {
		t.Errorf("two writes have the tentative revision %s", again.ResourceVersion)
	}
	create(scoped, t, s, "never", "")
	if err := remove(scoped, s, "never"); err != nil {
		t.Fatal(err)
	}
	if err := remove(scoped, s, "never"); !storage.IsNotFound(err) {
		t.Errorf("deleted twice: %v", err)
	}
	if err := remove(scoped, s, "old"); err != nil {
		t.Fatal(err)
	}
	create(scoped, t, s, "old", "n3")
	if err := scope.Commit(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`new on "n1"`, `old on "n3"`}, names(ctx, t, s)); diff != "" {
		t.Errorf("after the commit (-want +got):\n%s", diff)
	}
	if after, _ := s.GetCurrentResourceVersion(ctx); after != before+2 {
		t.Errorf("two objects changed by %d revisions", after-before)
	}
}

func TestAScopeFindsWhatAnotherInstanceWrote(t *testing.T) {
	cases := map[string]struct {
		held, other func(ctx context.Context, s *Storage) error
		guarded     bool
		want        string // "", "conflict" or "moved"
	}{
		"both update one object": {
			held:  func(ctx context.Context, s *Storage) error { return place(ctx, s, "a", "n1") },
			other: func(ctx context.Context, s *Storage) error { return place(ctx, s, "a", "n2") },
			want:  "conflict",
		},
		"both create one object": {
			held:  func(ctx context.Context, s *Storage) error { return s.Create(ctx, keyOf("x"), pod("x", "n1"), nil, 0) },
			other: func(ctx context.Context, s *Storage) error { return s.Create(ctx, keyOf("x"), pod("x", "n2"), nil, 0) },
			want:  "conflict",
		},
		"deleted meanwhile": {
			held:  func(ctx context.Context, s *Storage) error { return place(ctx, s, "a", "n1") },
			other: func(ctx context.Context, s *Storage) error { return remove(ctx, s, "a") },
			want:  "conflict",
		},
		"another object, no guard": {
			held:  func(ctx context.Context, s *Storage) error { return place(ctx, s, "a", "n1") },
			other: func(ctx context.Context, s *Storage) error { return place(ctx, s, "b", "n1") },
		},
		"another object of the read set": {
			held:    func(ctx context.Context, s *Storage) error { return place(ctx, s, "a", "n1") },
			other:   func(ctx context.Context, s *Storage) error { return place(ctx, s, "b", "n1") },
			guarded: true, want: "moved",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ctx, store := t.Context(), memory.New()
			ours, theirs := newStorage(store, tablelog.Options{}), newStorage(store, tablelog.Options{})
			create(ctx, t, ours, "a", "")
			create(ctx, t, ours, "b", "")
			var guards Guards
			if c.guarded {
				guards = guardOf(ctx, t, ours)
			}
			scoped, scope := WithScope(ctx)
			if err := c.held(scoped, ours); err != nil {
				t.Fatal(err)
			}
			if err := c.other(ctx, theirs); err != nil {
				t.Fatal(err)
			}
			err := scope.Commit(ctx, guards)
			var conflict *tablelog.ConflictError
			got := ""
			switch {
			case errors.As(err, &conflict):
				got = "conflict"
			case errors.Is(err, tablelog.ErrReadSetMoved):
				got = "moved"
			case err != nil:
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("the commit gave %v, want %q", err, c.want)
			}
		})
	}
}

func TestALargePlanIsCommittedInPiecesUnderOneGuard(t *testing.T) {
	ctx := t.Context()
	store := contract.NewFaulty(memory.New(), 1)
	s := newStorage(store, tablelog.Options{})
	scoped, scope := WithScope(ctx)
	for i := range 120 {
		p := pod(fmt.Sprintf("p%03d", i), "")
		if i%40 == 0 {
			p.Annotations = map[string]string{"large": strings.Repeat("x", 600<<10)}
		}
		if err := s.Create(scoped, keyOf(p.Name), p, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	guards := guardOf(ctx, t, s)
	before := store.Commits.Load()
	if err := scope.Commit(ctx, guards); err != nil {
		t.Fatal(err)
	}
	if n := store.Commits.Load() - before; n < 3 || n > 5 {
		t.Errorf("120 objects took %d transactions", n)
	}
	if n := len(names(ctx, t, newStorage(store, tablelog.Options{}))); n != 120 {
		t.Errorf("%d objects came of it", n)
	}
}

// TestPlansOnOneSnapshotCannotMakeMoreThanTheyWant is D8: each of many instances sees three of five
// and makes two; there are five in the end.
func TestPlansOnOneSnapshotCannotMakeMoreThanTheyWant(t *testing.T) {
	ctx, store := t.Context(), memory.New()
	first := newStorage(store, tablelog.Options{})
	for i := range 3 {
		create(ctx, t, first, fmt.Sprintf("old%d", i), "")
	}
	instances := make([]*Storage, 6)
	guards := make([]Guards, len(instances))
	for i := range instances {
		instances[i] = newStorage(store, tablelog.Options{})
		guards[i] = guardOf(ctx, t, instances[i])
	}
	var won atomic.Int32
	var wg sync.WaitGroup
	for i, s := range instances {
		wg.Go(func() {
			scoped, scope := WithScope(ctx)
			for n := range 2 {
				name := fmt.Sprintf("new%d-%d", i, n)
				if err := s.Create(scoped, keyOf(name), pod(name, ""), nil, 0); err != nil {
					t.Error(err)
				}
			}
			err := scope.Commit(ctx, guards[i])
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, tablelog.ErrReadSetMoved) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(names(ctx, t, first)); n != 5 || won.Load() != 1 {
		t.Errorf("%d objects, %d plans won", n, won.Load())
	}
}

// TestAScopeCommitsInPlace also what arrived in another order: of more than a transaction holds, what a crash leaves is the
// beginning.
func TestAScopeCommitsInPlace(t *testing.T) {
	ctx := t.Context()
	s := newStorage(memory.New(), tablelog.Options{})
	scoped, scope := WithScope(ctx)
	const writes = 120
	for i := range writes {
		at := writes - 1 - i
		create(InPlace(scoped, at), t, s, fmt.Sprintf("p%03d", at), "")
	}
	if err := scope.Commit(ctx, nil); err != nil {
		t.Fatal(err)
	}
	events, _, err := s.Log.EventsSince(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, ev := range events {
		if want := fmt.Sprintf("p%03d", i); !strings.HasSuffix(ev.Key, "/"+want) {
			t.Fatalf("change %d is of %s, want %s", i, ev.Key, want)
		}
	}
	if len(events) != writes {
		t.Errorf("%d changes, want %d", len(events), writes)
	}
}
