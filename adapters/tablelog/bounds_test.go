package tablelog

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
)

// TestOneRunOfACompactionIsBounded compacts changes that leave nothing to remove: they are to be examined all the same.
func TestOneRunOfACompactionIsBounded(t *testing.T) {
	const changes, most = 2000, 100
	store := contract.NewCounting(memory.New())
	l := New(store, "c|pods", Options{})
	var batch []Change
	for i := range changes {
		if batch = append(batch, Change{Key: fmt.Sprintf("core/pods/d/p%05d", i), Value: []byte("x")}); len(batch) == 20 {
			if _, _, err := l.Commit(t.Context(), batch, nil); err != nil {
				t.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	runs, floor := 0, uint64(0)
	for ; floor < changes; runs++ {
		commits := store.Commits.Load()
		next, err := l.Compact(t.Context(), changes, most)
		if err != nil || next <= floor {
			t.Fatalf("run %d: from %d to %d: %v", runs, floor, next, err)
		}
		if next-floor > most+compactBatch {
			t.Fatalf("run %d examined %d changes in %d transactions, want some %d", runs, next-floor, store.Commits.Load()-commits, most)
		}
		floor = next
	}
	if runs < changes/(most+compactBatch) {
		t.Errorf("%d runs", runs)
	}
}

func TestChangesInMemoryAreBoundInBytes(t *testing.T) {
	const large = 1 << 20
	cache := NewCache(1 << 30)
	l := New(memory.New(), "c|objects", Options{Cache: cache})
	rev := uint64(0)
	for range 3 * recentBytes / large {
		events, _, err := l.Commit(t.Context(), []Change{{Key: "core/secrets/d/a", Expect: rev, Value: make([]byte, large)}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		rev = events[0].Rev
	}
	if l.recentSize > recentBytes || l.recentSize == 0 {
		t.Errorf("%d bytes of changes are in memory, want at most %d", l.recentSize, recentBytes)
	}
	if got, least := cache.Stats().Bytes, l.recentSize+large; got < least {
		t.Errorf("the cache knows of %d bytes, want %d at least", got, least)
	}
}

// asking is a failure after which the service wants to be left alone.
type asking time.Duration

func (a asking) Error() string             { return "busy" }
func (a asking) RetryAfter() time.Duration { return time.Duration(a) }

// troubled fails the first transaction of a log with an outcome that is unknown.
type troubled struct {
	table.Store
	err  error
	sent []time.Time
}

func (s *troubled) Commit(ctx context.Context, partition string, ops []table.Op) error {
	if s.sent = append(s.sent, time.Now()); len(s.sent) == 1 {
		return s.err
	}
	return s.Store.Commit(ctx, partition, ops)
}

func TestATransactionIsSentAgainWhenTheServiceWantsIt(t *testing.T) {
	const after = 80 * time.Millisecond
	s := &troubled{Store: memory.New(), err: fmt.Errorf("writing: %w", asking(after))}
	l := New(s, "c|pods", Options{})
	if _, _, err := l.Commit(t.Context(), []Change{{Key: "core/pods/d/a", Value: []byte("x")}}, nil); err != nil {
		t.Fatal(err)
	}
	if len(s.sent) != 2 || s.sent[1].Sub(s.sent[0]) < after {
		t.Errorf("sent at %v, want a pause of %v", s.sent, after)
	}
	s = &troubled{Store: memory.New(), err: asking(time.Hour)}
	_, _, err := New(s, "c|pods", Options{}).Commit(t.Context(), []Change{{Key: "core/pods/d/a", Value: []byte("x")}}, nil)
	if !errors.Is(err, s.err) || len(s.sent) != 1 {
		t.Errorf("sent %d times: %v", len(s.sent), err)
	}
}

// TestAnInstanceThatWasIdleDoesNotWriteWhereOthersHaveCompacted has a log go on and be compacted while an instance neither
// reads nor writes, for as long as changes are kept: the revision that it would take next is free again.
func TestAnInstanceThatWasIdleDoesNotWriteWhereOthersHaveCompacted(t *testing.T) {
	store := memory.New()
	idle, busy := New(store, "c|pods", Options{}), New(store, "c|pods", Options{})
	commit := func(l *Log, c Change) uint64 {
		t.Helper()
		_, rev, err := l.Commit(t.Context(), []Change{c}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return rev
	}
	commit(idle, Change{Key: "core/pods/d/first"})
	rev := commit(busy, Change{Key: "core/pods/d/a"})
	for range 20 {
		rev = commit(busy, Change{Key: "core/pods/d/a", Expect: rev})
	}
	if _, err := busy.Compact(t.Context(), rev, 1000); err != nil {
		t.Fatal(err)
	}
	idle.proven.Store(time.Now().Add(-time.Hour).UnixNano())
	if got := commit(idle, Change{Key: "core/pods/d/second"}); got != rev+1 {
		t.Errorf("it wrote revision %d of a log that is at %d", got, rev)
	}
	if s, err := busy.Current(t.Context()); err != nil || s.Get("core/pods/d/second") == nil {
		t.Errorf("others do not see it: %v", err)
	}
}
