package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/core/plan"
)

var (
	start   = time.Date(2030, 1, 2, 3, 4, 5, 678, time.UTC)
	errDisk = errors.New("the disk failed")
)

// flaky is a store whose commits fail on demand.
type flaky struct {
	*memory.Store
	// fail is the number of commits that go well before all others fail, negative for never.
	fail atomic.Int64
}

func newFlaky() *flaky {
	f := &flaky{Store: memory.New()}
	f.fail.Store(-1)
	return f
}

func (f *flaky) Commit(ctx context.Context, partition string, ops []table.Op) error {
	if n := f.fail.Load(); n == 0 {
		return errDisk
	} else if n > 0 {
		f.fail.Add(-1)
	}
	return f.Store.Commit(ctx, partition, ops)
}

func open(store table.Store) *ledger {
	return newLedger(store, "c.1", []Function{{Name: "jobs"}, {Name: "nodes"}})
}

func later(kind, name string, seconds int) plan.Later {
	return plan.Later{
		At: start.Add(time.Duration(seconds) * time.Second), Kind: kind,
		Subject: plan.Ref{Resource: plan.Pods, Namespace: "default", Name: name, UID: "u"},
	}
}

// settle settles without a cursor and fails the test when that fails.
func settle(t *testing.T, l *ledger, handled, put []plan.Later) {
	t.Helper()
	if err := l.settle(t.Context(), "jobs", nil, handled, put); err != nil {
		t.Fatal(err)
	}
}

// due is all that a ledger holds for a function.
func due(t *testing.T, l *ledger) []plan.Later {
	t.Helper()
	out, err := l.dueFor(t.Context(), "jobs", start.Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWhatIsPutOffIsThereForTheNextInstance(t *testing.T) {
	store := memory.New()
	a, b, c := later("retry", "a", 1), later("retry", "b", 2), later("progress", "a", 3)
	l := open(store)
	settle(t, l, nil, []plan.Later{c, a, b})
	want := []plan.Later{a, b, c}
	for name, l := range map[string]*ledger{"the same": l, "another": open(store)} {
		if diff := cmp.Diff(want, due(t, l)); diff != "" {
			t.Errorf("%s instance (-want +got):\n%s", name, diff)
		}
		if next, there, err := l.next(t.Context()); err != nil || !there || !next.Equal(a.At) {
			t.Errorf("%s instance: next is %v, %t, %v", name, next, there, err)
		}
		early, err := l.dueFor(t.Context(), "jobs", a.At)
		if diff := cmp.Diff([]plan.Later{a}, early); diff != "" || err != nil {
			t.Errorf("%s instance, by then: %v\n%s", name, err, diff)
		}
	}
}

func TestALaterOfTheSameSubjectAndKindReplacesTheEarlier(t *testing.T) {
	store := memory.New()
	l := open(store)
	for _, seconds := range []int{5, 9, 2} {
		settle(t, l, nil, []plan.Later{later("retry", "a", seconds)})
		want := []plan.Later{later("retry", "a", seconds)}
		if diff := cmp.Diff(want, due(t, open(store))); diff != "" {
			t.Errorf("after %d s (-want +got):\n%s", seconds, diff)
		}
	}
	settle(t, l, nil, []plan.Later{{Kind: "retry", Subject: later("retry", "a", 0).Subject}})
	if rows := due(t, open(store)); len(rows) > 0 {
		t.Errorf("a zero time leaves %v", rows)
	}
}

func TestWhatIsPutOffCanBeAskedForByItsSubjectAndKind(t *testing.T) {
	store := memory.New()
	want := later("retry", "a", 5)
	want.Delay = time.Minute
	settle(t, open(store), nil, []plan.Later{want, later("other", "a", 6), later("retry", "b", 7)})
	l := open(store) // the next instance
	got, found, err := l.pending(t.Context(), "jobs", want.Subject, "retry")
	if err != nil || !found || !got.At.Equal(want.At) || got.Delay != time.Minute {
		t.Errorf("got %+v, %v, %v", got, found, err)
	}
	if _, found, err = l.pending(t.Context(), "nodes", want.Subject, "retry"); err != nil || found {
		t.Errorf("another function has it: %v, %v", found, err)
	}
	settle(t, l, []plan.Later{got}, nil)
	if _, found, err = l.pending(t.Context(), "jobs", want.Subject, "retry"); err != nil || found {
		t.Errorf("it is there after it was handled: %v, %v", found, err)
	}
}

func TestALaterThatKeepsLeavesTheEarlierUntilItWasHandled(t *testing.T) {
	store := memory.New()
	l := open(store)
	keep := func(seconds int) plan.Later {
		p := later("quarantine", "a", seconds)
		p.Keep = true
		return p
	}
	steps := []struct{ handled, put, want []plan.Later }{
		{put: []plan.Later{keep(5), keep(6)}, want: []plan.Later{keep(5)}},
		{put: []plan.Later{keep(9)}, want: []plan.Later{keep(5)}},
		{put: []plan.Later{keep(2)}, want: []plan.Later{keep(5)}},
		{handled: []plan.Later{keep(5)}, put: []plan.Later{keep(9)}, want: []plan.Later{keep(9)}},
	}
	for i, step := range steps {
		settle(t, l, step.handled, step.put)
		if diff := cmp.Diff(step.want, due(t, open(store))); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestWhatWasHandledIsGoneUnlessItWasPutOffAgain(t *testing.T) {
	store := memory.New()
	l := open(store)
	a, b := later("retry", "a", 1), later("retry", "b", 1)
	settle(t, l, nil, []plan.Later{a, b})
	settle(t, l, []plan.Later{a, b}, []plan.Later{later("retry", "b", 7)})
	if diff := cmp.Diff([]plan.Later{later("retry", "b", 7)}, due(t, open(store))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestACrashBetweenTransactionsLosesNothingThatWasPutOff ends the process after any transaction of a
// settlement that needs several.
func TestACrashBetweenTransactionsLosesNothingThatWasPutOff(t *testing.T) {
	var before, after []plan.Later
	for i := range 130 {
		before = append(before, later("retry", fmt.Sprint(i), 1))
		after = append(after, later("retry", fmt.Sprint(i), 60))
	}
	for survived := range int64(3) {
		store := newFlaky()
		l := open(store)
		settle(t, l, nil, before)
		store.fail.Store(survived)
		if err := l.settle(t.Context(), "jobs", map[string]uint64{"pods": 7}, before, after); !errors.Is(err, errDisk) {
			t.Fatalf("after %d transactions: %v", survived, err)
		}
		store.fail.Store(-1)
		again := open(store)
		if got := due(t, again); len(got) != len(before) {
			t.Errorf("after %d transactions %d are left of %d", survived, len(got), len(before))
		}
		if cursor, err := again.cursor(t.Context(), "jobs"); err != nil || len(cursor) > 0 {
			t.Errorf("after %d transactions the cursor is %v, %v", survived, cursor, err)
		}
		// The batch comes again, and leaves nothing of what the crash left.
		if err := again.settle(t.Context(), "jobs", map[string]uint64{"pods": 7}, due(t, again), after); err != nil {
			t.Fatal(err)
		}
		if n := rows(t, store); n != len(after)+1 {
			t.Errorf("after %d transactions and another batch there are %d rows", survived, n)
		}
	}
}

func rows(t *testing.T, store table.Store) int {
	t.Helper()
	n := 0
	err := table.All(t.Context(), store, kubestorage.Partition("c.1", "cursors"), table.Query{From: " ", To: "~"}, func(table.Row) bool {
		n++
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCursorsAreKeptByFunction(t *testing.T) {
	store := memory.New()
	l := open(store)
	if c, err := l.cursor(t.Context(), "jobs"); err != nil || len(c) > 0 {
		t.Errorf("the first cursor is %v, %v", c, err)
	}
	want := map[string]map[string]uint64{"jobs": {"pods": 1 << 60, "workloads": 2}, "nodes": {"nodes": 3}}
	if err := l.storeCursors(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if err := l.settle(t.Context(), "nodes", map[string]uint64{"nodes": 4}, nil, nil); err != nil {
		t.Fatal(err)
	}
	want["nodes"] = map[string]uint64{"nodes": 4}
	for function, cursor := range want {
		got, err := open(store).cursor(t.Context(), function)
		if diff := cmp.Diff(cursor, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", function, err, diff)
		}
	}
}

func TestAPausedFunctionIsNotRungForWhatIsDue(t *testing.T) {
	l := open(memory.New())
	settle(t, l, nil, []plan.Later{later("retry", "a", 1)})
	until := start.Add(30 * time.Second)
	l.pause("jobs", until)
	at := func(now time.Time) []string {
		t.Helper()
		functions, err := l.functionsDue(t.Context(), now)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for f := range functions {
			out = append(out, f)
		}
		slices.Sort(out)
		return out
	}
	if got := at(until.Add(-1)); len(got) > 0 {
		t.Errorf("during the pause %v are due", got)
	}
	if next, _, err := l.next(t.Context()); err != nil || !next.Equal(until) {
		t.Errorf("next is %v, %v", next, err)
	}
	if got := at(until); !cmp.Equal(got, []string{"jobs"}) {
		t.Errorf("after the pause %v are due", got)
	}
	l.resume("jobs")
	if got := at(start.Add(time.Second)); !cmp.Equal(got, []string{"jobs"}) {
		t.Errorf("resumed, %v are due", got)
	}
}

func TestRowsOfAFunctionThatIsNoMoreRingNobody(t *testing.T) {
	store := memory.New()
	if err := newLedger(store, "c.1", []Function{{Name: "gone"}}).settle(t.Context(), "gone", nil, nil, []plan.Later{later("retry", "a", 1)}); err != nil {
		t.Fatal(err)
	}
	if _, there, err := open(store).next(t.Context()); there || err != nil {
		t.Errorf("something is due: %t, %v", there, err)
	}
}

// TestASettlementOfUnknownOutcomeLosesAndDoublesNothing has each transaction of a settlement fail without a reply, and
// the batch come again, as it does after a failure.
func TestASettlementOfUnknownOutcomeLosesAndDoublesNothing(t *testing.T) {
	const many = 130 // need three transactions
	var before, after []plan.Later
	for i := range many {
		before = append(before, later("retry", fmt.Sprint(i), 1))
		after = append(after, later("retry", fmt.Sprint(i), 60))
	}
	cursor := map[string]uint64{"pods": 7}
	for _, fate := range contract.Fates {
		for n := range 3 {
			store := contract.NewUnknown(memory.New())
			l := open(store)
			settle(t, l, nil, before)
			store.Fail(store.Commits()+n, fate)
			if err := l.settle(t.Context(), "jobs", cursor, before, after); !errors.Is(err, contract.ErrNoReply) {
				t.Fatalf("transaction %d %s: %v", n, fate, err)
			}
			if got := len(due(t, l)); got != many {
				t.Errorf("transaction %d %s: %d are due of %d", n, fate, got, many)
			}
			if err := l.settle(t.Context(), "jobs", cursor, due(t, l), after); err != nil {
				t.Errorf("transaction %d %s: the batch again: %v", n, fate, err)
			}
			if _, err := store.Land(); err != nil {
				t.Fatal(err)
			}
			for name, l := range map[string]*ledger{"this": l, "another": open(store)} {
				if diff := cmp.Diff(sorted(after), sorted(due(t, l))); diff != "" {
					t.Errorf("transaction %d %s, %s instance (-want +got):\n%s", n, fate, name, diff)
				}
			}
			if got, err := open(store).cursor(t.Context(), "jobs"); err != nil || !cmp.Equal(cursor, got) {
				t.Errorf("transaction %d %s: the cursor is %v, %v", n, fate, got, err)
			}
			if rows := rows(t, store); rows != many+1 {
				t.Errorf("transaction %d %s: %d rows, want %d", n, fate, rows, many+1)
			}
		}
	}
}

func sorted(all []plan.Later) []plan.Later {
	return slices.SortedFunc(slices.Values(all), func(a, b plan.Later) int { return strings.Compare(a.Subject.Name, b.Subject.Name) })
}

// TestCursorsOfUnknownOutcomeAreStoredAgain: an older one that comes late has a batch handled twice, and no more.
func TestCursorsOfUnknownOutcomeAreStoredAgain(t *testing.T) {
	for _, fate := range contract.Fates {
		store := contract.NewUnknown(memory.New())
		store.Fail(0, fate)
		want := map[string]uint64{"pods": 3}
		if err := open(store).storeCursors(t.Context(), map[string]map[string]uint64{"jobs": want}); err != nil {
			t.Errorf("%s: %v", fate, err)
		}
		if _, err := store.Land(); err != nil {
			t.Fatal(err)
		}
		if got, err := open(store).cursor(t.Context(), "jobs"); err != nil || !cmp.Equal(want, got) {
			t.Errorf("%s: the cursor is %v, %v", fate, got, err)
		}
	}
}

func TestWhatIsAskedForWhileABatchIsHandledIsDueAfterIt(t *testing.T) {
	store := newFlaky()
	l := open(store)
	ask := func(at time.Time) {
		t.Helper()
		p := later("samples", "a", 0)
		p.At = at
		if err := l.ask(t.Context(), "jobs", []plan.Later{p}); err != nil {
			t.Fatal(err)
		}
	}
	take := func() []plan.Later {
		t.Helper()
		due, err := l.dueFor(t.Context(), "jobs", start.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return due
	}
	ask(start)
	ask(start.Add(time.Second)) // the first waits still, and stands for it
	batch := take()
	if len(batch) != 1 || !batch[0].At.Equal(start) {
		t.Fatalf("the batch has %v", batch)
	}
	ask(start.Add(time.Microsecond)) // of the same millisecond, which is what keys have
	settle(t, l, batch, nil)
	again := take()
	if len(again) != 1 || !again[0].At.Equal(start.Add(time.Microsecond)) {
		t.Fatalf("what was asked for meanwhile: %v", again)
	}
	settle(t, l, again, nil)
	if rest := take(); len(rest) > 0 {
		t.Errorf("then there is %v", rest)
	}
	if due, err := open(store).dueFor(t.Context(), "jobs", start.Add(time.Hour)); err != nil || len(due) > 0 {
		t.Errorf("in the store there is %v, %v", due, err)
	}
}
