package tablelog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
)

const partition = "cluster|group"

// must commits one change on the key's current revision and returns the revision it made.
func must(t *testing.T, l *Log, key, value string) uint64 {
	t.Helper()
	s, err := l.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := Change{Key: key, Value: []byte(value), Delete: value == ""}
	if e := s.Get(key); e != nil {
		c.Expect = e.Rev
	}
	_, rev, err := l.Commit(t.Context(), []Change{c}, nil)
	if err != nil {
		t.Fatalf("committing %q: %v", key, err)
	}
	return rev
}

func current(t *testing.T, l *Log) *State {
	t.Helper()
	s, err := l.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// dump is a state as text.
func dump(s *State) map[string]string {
	out := map[string]string{}
	s.Ascend("", "", func(e *Entry) bool {
		out[e.Key] = fmt.Sprintf("%d/%d %s", e.Created, e.Rev, e.Value)
		return true
	})
	return out
}

// increment adds one to a counter, deciding again at conflicts, and returns the number of attempts.
func increment(ctx context.Context, l *Log, key string) (int, error) {
	for attempt := 1; ; attempt++ {
		s, err := l.Current(ctx)
		if err != nil {
			return attempt, err
		}
		n, expect := 0, uint64(0)
		if e := s.Get(key); e != nil {
			if _, err := fmt.Sscan(string(e.Value), &n); err != nil {
				return attempt, err
			}
			expect = e.Rev
		}
		_, _, err = l.Commit(ctx, []Change{{Key: key, Expect: expect, Value: []byte(fmt.Sprint(n + 1))}}, nil)
		if _, ok := errors.AsType[*ConflictError](err); !ok {
			return attempt, err
		}
	}
}

func TestRevisionsAreDenseAndStartAfterOne(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		l := New(k.open(t), partition, Options{})
		if rev := current(t, l).Rev; rev != 1 {
			t.Errorf("an empty log is at %d", rev)
		}
		for want := uint64(2); want < 40; want++ {
			if got := must(t, l, fmt.Sprintf("k%d", want%7), fmt.Sprint(want)); got != want {
				t.Fatalf("revision %d, want %d", got, want)
			}
		}
		entries, rev, err := l.Commit(t.Context(), []Change{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("2")}, {Key: "c", Value: []byte("3")}}, nil)
		if err != nil || rev != 42 || entries[0].Rev != 40 || entries[2].Rev != 42 {
			t.Fatalf("three changes ended at %d: %v", rev, err)
		}
	})
}

func TestConcurrentWritersShareTransactions(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		store := contract.NewFaulty(slow{k.open(t)}, 1)
		l := New(store, partition, Options{SoleWriter: true})
		current(t, l)
		writers, each := 32, k.few(20)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					if _, _, err := l.Commit(context.Background(), []Change{{Key: fmt.Sprintf("%d-%d", w, i), Value: []byte("v")}}, nil); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if got := current(t, l).Rev; got != uint64(1+writers*each) {
			t.Errorf("revision %d, want %d", got, 1+writers*each)
		}
		if n := store.Commits.Load(); n > int64(writers*each/5) {
			t.Errorf("%d writes took %d transactions", writers*each, n)
		}
	})
}

// slow is a store whose transactions take as long as those of a real one.
type slow struct{ table.Store }

func (s slow) Commit(ctx context.Context, partition string, ops []table.Op) error {
	timer := time.NewTimer(time.Millisecond)
	defer timer.Stop()
	<-timer.C
	return s.Store.Commit(ctx, partition, ops)
}

// checkLog reads the log rows of a store and checks that revisions are dense.
func checkLog(t *testing.T, store table.Store, want uint64) {
	t.Helper()
	records, err := New(store, partition, Options{}).records(t.Context(), 2, ^uint64(0))
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range records {
		if r.rev != uint64(i)+2 {
			t.Fatalf("record %d has revision %d", i, r.rev)
		}
	}
	if uint64(len(records))+1 != want {
		t.Fatalf("%d records, want up to revision %d", len(records), want)
	}
}

func TestInstancesOnOneStoreLoseNoUpdate(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		faults := map[string]func(*contract.Faulty){
			"good store":                           func(*contract.Faulty) {},
			"short pages":                          func(f *contract.Faulty) { f.ShortPages, f.EmptyPages = 0.5, 0.3 },
			"replies lost and requests sent again": func(f *contract.Faulty) { f.Retried = 0.3 },
			"replies lost":                         func(f *contract.Faulty) { f.LostReplies = 0.2 },
		}
		for name, set := range faults {
			t.Run(name, func(t *testing.T) {
				store := contract.NewFaulty(k.open(t), 7)
				set(store)
				instances, writers, each, keys := 3, 4, k.few(15), 5
				logs := make([]*Log, instances)
				for i := range logs {
					logs[i] = New(store, partition, Options{})
				}
				var wg sync.WaitGroup
				for i := range instances * writers {
					wg.Go(func() {
						for n := range each {
							if _, err := increment(context.Background(), logs[i%instances], fmt.Sprintf("n%d", (i+n)%keys)); err != nil {
								t.Error(err)
							}
						}
					})
				}
				wg.Wait()
				for _, l := range logs {
					s, sum := current(t, l), 0
					s.Ascend("n", "", func(e *Entry) bool {
						n := 0
						_, _ = fmt.Sscan(string(e.Value), &n)
						sum += n
						return true
					})
					if want := instances * writers * each; sum != want || s.Rev != uint64(want)+1 {
						t.Errorf("counted %d at revision %d, want %d", sum, s.Rev, want)
					}
				}
				checkLog(t, store.Store, uint64(instances*writers*each)+1)
				if diff := cmp.Diff(dump(current(t, logs[0])), dump(current(t, New(store, partition, Options{})))); diff != "" {
					t.Errorf("a new instance sees other objects:\n%s", diff)
				}
			})
		}
	})
}

func TestASoleWriterGoesOnAfterAFailedTransaction(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		for name, set := range map[string]func(*contract.Faulty, float64){
			"lost reply": func(f *contract.Faulty, p float64) { f.LostReplies = p },
			"sent again": func(f *contract.Faulty, p float64) { f.Retried = p },
			"not sent":   func(f *contract.Faulty, p float64) { f.Unsent = p },
		} {
			t.Run(name, func(t *testing.T) {
				store := contract.NewFaulty(k.open(t), 1)
				l := New(store, partition, Options{SoleWriter: true})
				must(t, l, "a", "1")
				set(store, 1)
				_, _, err := l.Commit(t.Context(), []Change{{Key: "b", Value: []byte("1")}}, nil)
				if landed := name != "not sent"; landed != (err == nil) {
					t.Errorf("commit gave %v", err)
				}
				set(store, 0)
				must(t, l, "c", "1")
				if diff := cmp.Diff(dump(current(t, New(store, partition, Options{}))), dump(current(t, l))); diff != "" {
					t.Errorf("the state is not the store's:\n%s", diff)
				}
			})
		}
	})
}

// blind is a store that cannot be read for a while.
type blind struct {
	table.Store
	on *atomic.Bool
}

func (b blind) Get(ctx context.Context, partition, key string) (table.Row, error) {
	if b.on.Load() {
		return table.Row{}, contract.ErrReplyLost
	}
	return b.Store.Get(ctx, partition, key)
}

func TestACommitOfUnknownOutcomeIsFoundLater(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		store := contract.NewFaulty(k.open(t), 1)
		var on atomic.Bool
		l := New(blind{store, &on}, partition, Options{SoleWriter: true})
		must(t, l, "a", "1")
		store.LostReplies = 1
		on.Store(true)
		if _, _, err := l.Commit(t.Context(), []Change{{Key: "b", Value: []byte("1")}}, nil); !errors.Is(err, contract.ErrReplyLost) {
			t.Fatalf("commit gave %v", err)
		}
		store.LostReplies = 0
		on.Store(false)
		if current(t, l).Get("b") == nil {
			t.Error("what was committed is not seen")
		}
		must(t, l, "c", "1")
	})
}

func TestOneInstanceSeesWhatAnotherWrote(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		store := k.open(t)
		a, b := New(store, partition, Options{}), New(store, partition, Options{})
		for i := range 20 {
			from, to := a, b
			if i%2 == 1 {
				from, to = b, a
			}
			rev := must(t, from, fmt.Sprintf("k%d", i%3), fmt.Sprint(i))
			if s := current(t, to); s.Rev != rev || string(s.Get(fmt.Sprintf("k%d", i%3)).Value) != fmt.Sprint(i) {
				t.Fatalf("at write %d the other is at %d, want %d", i, s.Rev, rev)
			}
		}
	})
}

func TestACommitExpectsTheRevisionItWasDecidedOn(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		l := New(k.open(t), partition, Options{})
		rev := must(t, l, "a", "1")
		cases := map[string]Change{
			"made again":            {Key: "a", Value: []byte("2")},
			"changed at another":    {Key: "a", Expect: rev + 1, Value: []byte("2")},
			"changed but not there": {Key: "b", Expect: rev, Value: []byte("2")},
			"deleted at another":    {Key: "a", Expect: rev + 1, Delete: true},
		}
		for name, c := range cases {
			_, _, err := l.Commit(t.Context(), []Change{{Key: "other", Value: []byte("1")}, c}, nil)
			var conflict *ConflictError
			if !errors.As(err, &conflict) || conflict.Key != c.Key {
				t.Errorf("%s: %v", name, err)
			}
		}
		if s := current(t, l); s.Rev != rev || s.Get("other") != nil {
			t.Errorf("refused commits left revision %d", s.Rev)
		}
	})
}

func TestWhatTheTableWouldRefuseHarmsNobodyElse(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		l := New(k.open(t), partition, Options{})
		many := make([]Change, maxChanges+1)
		for i := range many {
			many[i] = Change{Key: fmt.Sprint(i)}
		}
		cases := map[string]struct {
			changes []Change
			want    error
		}{
			"twice one key":     {[]Change{{Key: "a"}, {Key: "a"}}, table.ErrInvalid},
			"no key":            {[]Change{{}}, table.ErrInvalid},
			"nothing to delete": {[]Change{{Key: "a", Delete: true}}, table.ErrInvalid},
			"too many":          {many, ErrTooLarge},
			"too large":         {[]Change{{Key: "a", Value: make([]byte, 3<<20)}}, ErrTooLarge},
		}
		for name, c := range cases {
			if _, _, err := l.Commit(t.Context(), c.changes, nil); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		must(t, l, "a", "1")
	})
}

func conflictsWith(prefix string) func(Event) bool {
	return func(ev Event) bool { return strings.HasPrefix(ev.Key, prefix) }
}

func TestAGuardHoldsAgainstChangesOfItsReadSetOnly(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		for name, sole := range map[string]bool{"sole writer": true, "one of many": false} {
			t.Run(name, func(t *testing.T) {
				store := k.open(t)
				l, other := New(store, partition, Options{SoleWriter: sole}), New(store, partition, Options{})
				if sole {
					other = l
				}
				base := must(t, l, "set/a", "1")
				must(t, other, "elsewhere", "1")
				guard := &Guard{Since: base, Conflicts: conflictsWith("set/")}
				if _, _, err := l.Commit(t.Context(), []Change{{Key: "plan1", Value: []byte("1")}}, guard); err != nil {
					t.Errorf("a change outside of the read set: %v", err)
				}
				must(t, other, "set/b", "1")
				if _, _, err := l.Commit(t.Context(), []Change{{Key: "plan2", Value: []byte("1")}}, guard); !errors.Is(err, ErrReadSetMoved) {
					t.Errorf("a change in the read set: %v", err)
				}
				if _, _, err := l.Commit(t.Context(), nil, guard); !errors.Is(err, ErrReadSetMoved) {
					t.Errorf("a check without changes: %v", err)
				}
				guard.Since = current(t, l).Rev
				if _, rev, err := l.Commit(t.Context(), nil, guard); err != nil || rev != guard.Since {
					t.Errorf("a check of the present: %d, %v", rev, err)
				}
			})
		}
	})
}

// TestPlansOnOneReadSetAreAdmittedOneByOne has many plans decided on one snapshot, committed at once
// in one transaction or in several: one of them wins.
func TestPlansOnOneReadSetAreAdmittedOneByOne(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		store := slow{k.open(t)}
		logs := []*Log{New(store, partition, Options{}), New(store, partition, Options{})}
		for round := range k.few(10) {
			since := current(t, logs[0]).Rev
			prefix := fmt.Sprintf("set%d/", round)
			var won atomic.Int32
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() {
					guard := &Guard{Since: since, Conflicts: conflictsWith(prefix)}
					_, _, err := logs[i%2].Commit(context.Background(), []Change{{Key: fmt.Sprintf("%s%d", prefix, i), Value: []byte("1")}}, guard)
					if err == nil {
						won.Add(1)
					} else if !errors.Is(err, ErrReadSetMoved) {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if won.Load() != 1 {
				t.Fatalf("%d plans won", won.Load())
			}
		}
	})
}

func noise(seed uint64, n int) string {
	rng := rand.New(rand.NewPCG(seed, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return string(b)
}

func TestLargeValuesAreStoredOnceAndReadBack(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		store := k.open(t)
		l := New(store, partition, Options{})
		values := map[string]string{
			"inline": noise(1, maxInlineValue), "just over": noise(2, maxInlineValue+1), "600K": noise(3, 600<<10),
			"1M": noise(4, 1<<20), "1.5M": noise(5, 3<<19),
		}
		for key, v := range values {
			must(t, l, key, "small before")
			must(t, l, key, v)
		}
		stored := 0
		err := table.All(t.Context(), store, partition, table.Query{From: "a", To: "z"}, func(row table.Row) bool {
			stored += len(row.Value)
			return true
		})
		if want := 2*maxInlineValue + (maxInlineValue + 1) + (600 << 10) + (1 << 20) + (3 << 19) + 8192; err != nil || stored > want {
			t.Errorf("%d bytes are stored, want at most %d, %v", stored, want, err)
		}
		for name, again := range map[string]*Log{"same": l, "new": New(store, partition, Options{})} {
			s := current(t, again)
			for key, v := range values {
				if got := s.Get(key); got == nil || !bytes.Equal(got.Value, []byte(v)) {
					t.Errorf("%s instance: %q did not come back", name, key)
				}
			}
			past, err := again.At(t.Context(), s.Rev-1)
			if err != nil || past.Len() != len(values) {
				t.Errorf("%s instance: the state before: %v", name, err)
			}
		}
		must(t, l, "1.5M", "")
		if current(t, New(store, partition, Options{})).Get("1.5M") != nil {
			t.Error("a large value outlived its deletion")
		}
	})
}

// between is a store of small pages, after each of which something happens.
type between struct {
	table.Store
	happens func()
}

func (b between) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	if q.From == objectClass {
		q.Limit = 4
		defer b.happens()
	}
	return b.Store.Range(ctx, partition, q)
}

// TestAStateLoadedWhileOthersWriteIsExact writes after each page of the scan that makes a state, and
// compares the result, and what it then says of the past, with the writer's own.
func TestAStateLoadedWhileOthersWriteIsExact(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		store := k.open(t)
		writer := New(store, partition, Options{SoleWriter: true})
		for i := range 40 {
			must(t, writer, fmt.Sprintf("k%02d", i), "0")
		}
		rng := rand.New(rand.NewPCG(1, 1))
		for round := range k.few(100) {
			n := 0
			load := New(between{store, func() {
				for range rng.IntN(4) {
					key, value := fmt.Sprintf("k%02d", rng.IntN(60)), fmt.Sprintf("%d-%d", round, n)
					if current(t, writer).Get(key) != nil && rng.IntN(3) == 0 {
						value = ""
					}
					must(t, writer, key, value)
					n++
				}
			}}, partition, Options{})
			before := current(t, writer).Rev
			got, want := current(t, load), current(t, writer)
			if diff := cmp.Diff(dump(want), dump(got)); diff != "" || got.Rev != want.Rev {
				t.Fatalf("round %d, revision %d of %d (-want +got):\n%s", round, got.Rev, want.Rev, diff)
			}
			events, _, err := load.EventsSince(t.Context(), before)
			if err != nil {
				t.Fatal(err)
			}
			own, _, err := writer.EventsSince(t.Context(), before)
			if err != nil || len(own) != len(events) {
				t.Fatalf("%d events, want %d, %v", len(events), len(own), err)
			}
			for i := range own {
				if text(own[i]) != text(events[i]) {
					t.Fatalf("event %s, want %s", text(events[i]), text(own[i]))
				}
			}
		}
	})
}

func TestExpiredEntriesAreDeletedInBuckets(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		l := New(k.open(t), partition, Options{})
		now := time.Unix(1_000_000, 0)
		for i := range 130 {
			change := Change{Key: fmt.Sprintf("k%03d", i), Value: []byte("v"), Expires: now.Unix() - int64(i%5)}
			if _, _, err := l.Commit(t.Context(), []Change{change}, nil); err != nil {
				t.Fatal(err)
			}
		}
		later := now.Add(time.Hour)
		if _, _, err := l.Commit(t.Context(), []Change{{Key: "later", Value: []byte("v"), Expires: later.Unix()}, {Key: "never", Value: []byte("v")}}, nil); err != nil {
			t.Fatal(err)
		}
		sub, err := l.Subscribe(t.Context(), "k", current(t, l).Rev)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Unsubscribe(sub)
		for _, want := range []int{60, 60, 10, 0} {
			n, next, err := l.DeleteExpired(t.Context(), now, 60)
			if err != nil || n != want {
				t.Fatalf("deleted %d, %v, want %d", n, err, want)
			}
			if over := want == 60; over != !next.After(now) || !over && !next.Equal(later) {
				t.Errorf("after %d the next is due %v", n, next)
			}
		}
		events, _, err := sub.Next(t.Context())
		if err != nil || len(events) != 130 || events[0].Type != Deleted || events[0].Prev == nil {
			t.Errorf("%d events of deletions, %v", len(events), err)
		}
		if s := current(t, l); s.Len() != 2 {
			t.Errorf("%d entries are left", s.Len())
		}
		if n, next, err := l.DeleteExpired(t.Context(), later, 60); n != 1 || !next.IsZero() || err != nil {
			t.Errorf("deleted %d, next %v, %v", n, next, err)
		}
	})
}

func TestReadsThatWaitShareALook(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		var looks atomic.Int64
		store := counting{slow{k.open(t)}, &looks}
		l := New(store, partition, Options{})
		current(t, l)
		if err := l.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := l.Current(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		looks.Store(0)
		l.release()
		wg.Wait()
		if n := looks.Load(); n > 25 {
			t.Errorf("50 reads looked %d times", n)
		}
	})
}

// counting counts ranges, each of which takes a moment.
type counting struct {
	table.Store
	n *atomic.Int64
}

func (c counting) Range(ctx context.Context, partition string, q table.Query) (table.Page, error) {
	c.n.Add(1)
	timer := time.NewTimer(time.Millisecond)
	defer timer.Stop()
	<-timer.C
	return c.Store.Range(ctx, partition, q)
}

// unreadable is a store of which rows of the log cannot be got for a while.
type unreadable struct {
	table.Store
	lost bool
}

func (u *unreadable) Get(ctx context.Context, partition, key string) (table.Row, error) {
	if u.lost && strings.HasPrefix(key, logClass) {
		return table.Row{}, contract.ErrReplyLost
	}
	return u.Store.Get(ctx, partition, key)
}

func TestAConflictThatMayBeWithOneselfIsNoConflict(t *testing.T) {
	faulty := contract.NewFaulty(memory.New(), 1)
	store := &unreadable{Store: faulty}
	l := New(store, "p", Options{})
	faulty.Retried, store.lost = 1, true
	_, _, err := l.Commit(t.Context(), []Change{{Key: "a", Value: []byte("1")}}, nil)
	var conflict *ConflictError
	if err == nil || errors.As(err, &conflict) {
		t.Fatalf("a commit that was applied, and cannot be looked at, gives %v", err)
	}
	faulty.Retried, store.lost = 0, false
	s, err := l.Current(t.Context())
	if err != nil || s.Rev != 2 || s.Get("a") == nil {
		t.Errorf("the state afterwards: %+v, %v", s, err)
	}
}
