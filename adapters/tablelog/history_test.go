package tablelog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sort"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
)

// model is what a log should say: every state it ever had, and every change.
type model struct {
	states []map[string]string // states[i] is that of revision i+1
	events []string            // events[i] led to revision i+2
}

func newModel() *model { return &model{states: []map[string]string{{}}} }

func (m *model) rev() uint64 { return uint64(len(m.states)) }

func (m *model) apply(key, value string) {
	next := map[string]string{}
	maps.Copy(next, m.states[len(m.states)-1])
	before, had := next[key]
	next[key] = value
	kind := Created
	if had {
		kind = Updated
	}
	if value == "" {
		kind = Deleted
		delete(next, key)
	}
	m.states = append(m.states, next)
	m.events = append(m.events, fmt.Sprintf("%d %s %s %q after %q", m.rev(), kind, key, value, before))
}

func text(ev Event) string {
	var value, before string
	if ev.Entry != nil {
		value = string(ev.Entry.Value)
	}
	if ev.Prev != nil {
		before = string(ev.Prev.Value)
	}
	return fmt.Sprintf("%d %s %s %q after %q", ev.Rev, ev.Type, ev.Key, value, before)
}

func values(s *State) map[string]string {
	out := map[string]string{}
	s.Ascend("", "", func(e *Entry) bool {
		out[e.Key] = string(e.Value)
		return true
	})
	return out
}

// TestTheLogIsItsModel writes, compacts and restarts at random, and asks every question of the past.
func TestTheLogIsItsModel(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		k.fewChecks(t)
		outer := t
		rapid.Check(t, func(t *rapid.T) {
			store := contract.NewFaulty(k.open(outer), rapid.Uint64().Draw(t, "seed"))
			store.ShortPages, store.EmptyPages, store.Retried = 0.4, 0.2, 0.2
			logs := []*Log{New(store, partition, Options{}), New(store, partition, Options{})}
			m, floor := newModel(), uint64(1)
			t.Repeat(map[string]func(*rapid.T){
				"trim": func(t *rapid.T) {
					if err := rapid.SampledFrom(logs).Draw(t, "log").Trim(t.Context()); err != nil {
						t.Fatal(err)
					}
				},
				"write": func(t *rapid.T) {
					key := rapid.SampledFrom([]string{"a", "a/b", "b", "c?", "d"}).Draw(t, "key")
					value := rapid.SampledFrom([]string{"", "1", "2", "3"}).Draw(t, "value")
					l := logs[rapid.IntRange(0, 1).Draw(t, "instance")]
					write(t, l, m, key, value)
				},
				"restart": func(*rapid.T) { logs[0] = New(store, partition, Options{}) },
				"compact": func(t *rapid.T) {
					before := uint64(rapid.IntRange(1, int(m.rev())).Draw(t, "before"))
					got, err := logs[1].Compact(context.Background(), before, rapid.IntRange(1, 200).Draw(t, "rows"))
					if err != nil || got > max(before, floor) || got < floor {
						t.Fatalf("compacted to %d: %v, floor %d, before %d", got, err, floor, before)
					}
					floor = got
				},
				"ask": func(t *rapid.T) {
					rev := uint64(rapid.IntRange(1, int(m.rev())).Draw(t, "rev"))
					ask(t, logs[rapid.IntRange(0, 1).Draw(t, "instance")], m, floor, rev)
				},
			})
			for _, l := range []*Log{logs[0], logs[1], New(store, partition, Options{})} {
				for rev := floor; rev <= m.rev(); rev++ {
					ask(t, l, m, floor, rev)
				}
			}
		})
	})
}

func write(t *rapid.T, l *Log, m *model, key, value string) {
	s, err := l.Current(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	c := Change{Key: key, Value: []byte(value), Delete: value == ""}
	if e := s.Get(key); e != nil {
		c.Expect = e.Rev
	} else if c.Delete {
		return
	}
	m.apply(key, value)
	if _, rev, err := l.Commit(context.Background(), []Change{c}, nil); err != nil || rev != m.rev() {
		t.Fatalf("revision %d, %v, want %d", rev, err, m.rev())
	}
}

// ask compares a past state, the changes since and a subscription with the model.
func ask(t *rapid.T, l *Log, m *model, floor, rev uint64) {
	ctx := context.Background()
	past, err := l.At(ctx, rev)
	if errors.Is(err, ErrCompacted) && rev < floor {
		return
	}
	if err != nil {
		t.Fatalf("at %d of %d, floor %d: %v", rev, m.rev(), floor, err)
	}
	if diff := cmp.Diff(m.states[rev-1], values(past)); diff != "" || past.Rev != rev {
		t.Fatalf("at %d (-want +got):\n%s", rev, diff)
	}
	events, _, err := l.EventsSince(ctx, rev)
	if errors.Is(err, ErrCompacted) && rev < floor {
		return // the state was remembered, and another instance compacted what came after it
	}
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, ev := range events {
		got = append(got, text(ev))
	}
	if diff := cmp.Diff(append([]string(nil), m.events[rev-1:]...), got); diff != "" {
		t.Fatalf("since %d (-want +got):\n%s", rev, diff)
	}
	sub, err := l.Subscribe(ctx, "a", rev)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Unsubscribe(sub)
	seen, upTo, err := sub.Next(t.Context())
	if err != nil || upTo != m.rev() {
		t.Fatalf("subscription from %d is at %d: %v", rev, upTo, err)
	}
	at := 0
	for _, ev := range events {
		if ev.Key[0] != 'a' {
			continue
		}
		if at >= len(seen) || text(seen[at]) != text(ev) {
			t.Fatalf("subscription from %d lacks %s", rev, text(ev))
		}
		at++
	}
}

func TestTheFutureCannotBeRead(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		l := New(k.open(t), partition, Options{})
		if _, err := l.At(t.Context(), 9); !errors.Is(err, ErrFuture) {
			t.Errorf("at: %v", err)
		}
		if _, err := l.Subscribe(t.Context(), "", 9); !errors.Is(err, ErrFuture) {
			t.Errorf("subscribe: %v", err)
		}
	})
}

func TestCompactionKeepsWhatIsReferencedAndNoMore(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		store := k.open(t)
		l := New(store, partition, Options{})
		large := noise(1, 1<<20)
		for i := range 10 {
			must(t, l, "large", large[i:])
			must(t, l, "small", fmt.Sprint(i))
			must(t, l, fmt.Sprintf("gone%d", i), "x")
			must(t, l, fmt.Sprintf("gone%d", i), "")
		}
		head := current(t, l).Rev
		for runs := 0; ; runs++ {
			floor, err := l.Compact(t.Context(), head+100, 7)
			if err != nil || runs > 50 {
				t.Fatalf("run %d: %v", runs, err)
			}
			if floor == head {
				break
			}
		}
		var keys []string
		err := table.All(t.Context(), store, partition, table.Query{From: "a", To: "z"}, func(row table.Row) bool {
			keys = append(keys, row.Key)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		sort.Strings(keys)
		// Of each object the present log row, object row and value rows, then the newest log row with the
		// row it names, and the floor.
		s := current(t, l)
		big, small := s.Get("large").Rev, s.Get("small").Rev
		want := []string{
			logKey(head), logKey(head - 1), logKey(big), logKey(small), floorKey, objectKey("large"), objectKey("small"),
			valueKey(big, 0), valueKey(big, 1),
		}
		sort.Strings(want)
		if diff := cmp.Diff(want, keys); diff != "" {
			t.Errorf("rows (-want +got):\n%s", diff)
		}
		if l.Compacted() != head {
			t.Errorf("compacted to %d, want %d", l.Compacted(), head)
		}
		again := current(t, New(store, partition, Options{}))
		if diff := cmp.Diff(dump(s), dump(again)); diff != "" {
			t.Errorf("a new instance (-want +got):\n%s", diff)
		}
	})
}

func TestAnInstanceThatFellBehindCompactionBeginsAgainAndEndsItsWatches(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		store := k.open(t)
		a, b := New(store, partition, Options{}), New(store, partition, Options{})
		must(t, a, "x", "1")
		sub, err := b.Subscribe(t.Context(), "", current(t, b).Rev)
		if err != nil {
			t.Fatal(err)
		}
		// An instance that stands still looks at nothing, though it is watched.
		if err := b.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			must(t, a, fmt.Sprintf("k%d", i%3), fmt.Sprint(i))
		}
		if _, err := a.Compact(t.Context(), 20, 1000); err != nil {
			t.Fatal(err)
		}
		b.release()
		if diff := cmp.Diff(dump(current(t, a)), dump(current(t, b))); diff != "" {
			t.Errorf("the one behind (-want +got):\n%s", diff)
		}
		if _, _, err := sub.Next(t.Context()); !errors.Is(err, ErrCompacted) {
			t.Errorf("its watch: %v", err)
		}
		for name, l := range map[string]*Log{"a": a, "b": b} {
			if _, err := l.Subscribe(t.Context(), "", 5); !errors.Is(err, ErrCompacted) {
				t.Errorf("%s: subscribe: %v", name, err)
			}
			if _, _, err := l.EventsSince(t.Context(), 5); !errors.Is(err, ErrCompacted) {
				t.Errorf("%s: events: %v", name, err)
			}
			if _, err := l.At(t.Context(), 5); !errors.Is(err, ErrCompacted) {
				t.Errorf("%s: at: %v", name, err)
			}
		}
		guard := &Guard{Since: 5, Conflicts: func(Event) bool { return false }}
		if _, _, err := New(store, partition, Options{}).Commit(t.Context(), []Change{{Key: "p", Value: []byte("1")}}, guard); !errors.Is(err, ErrReadSetMoved) {
			t.Errorf("guard: %v", err)
		}
	})
}

func TestTwoThatCompactAtOnceAgree(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		store := k.open(t)
		writer := New(store, partition, Options{})
		for i := range 300 {
			must(t, writer, fmt.Sprintf("k%d", i%7), fmt.Sprint(i))
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if floor, err := New(store, partition, Options{}).Compact(context.Background(), 250, 1<<20); err != nil || floor != 250 {
					t.Errorf("compacted to %d: %v", floor, err)
				}
			})
		}
		wg.Wait()
		if diff := cmp.Diff(dump(current(t, writer)), dump(current(t, New(store, partition, Options{})))); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAGapInTheLogIsCorruption(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		store := k.open(t)
		l, behind := New(store, partition, Options{}), New(store, partition, Options{})
		must(t, l, "a", "1")
		current(t, behind)
		for range 5 {
			must(t, l, "a", "2")
		}
		if err := store.Commit(t.Context(), partition, []table.Op{{Kind: table.Delete, Key: logKey(4), ETag: table.Any}}); err != nil {
			t.Fatal(err)
		}
		if _, err := behind.Current(t.Context()); !errors.Is(err, table.ErrCorrupt) {
			t.Errorf("a missing row: %v", err)
		}
	})
}

func TestAWatchHasNoGapNoDuplicateAndIsInOrder(t *testing.T) {
	over(t, func(t *testing.T, k kind) {
		store := k.open(t)
		logs := []*Log{New(store, partition, Options{}), New(store, partition, Options{})}
		must(t, logs[0], "k", "0")
		writes := k.few(300)
		var wg sync.WaitGroup
		for i, l := range logs {
			wg.Go(func() {
				for n := range writes {
					if _, _, err := l.Commit(context.Background(), []Change{{Key: fmt.Sprintf("w%d-%d", i, n), Value: []byte("1")}}, nil); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for i := range 8 {
			wg.Go(func() { follow(t, logs[i%2], uint64(2+i*9*writes/300), uint64(2+2*writes)) })
		}
		wg.Wait()
	})
}

// follow watches from a revision, once that is reached, to another, and checks that it sees each.
func follow(t *testing.T, l *Log, from, to uint64) {
	for {
		s, err := l.Current(context.Background())
		if err != nil {
			t.Error(err)
			return
		}
		if s.Rev >= from {
			break
		}
	}
	sub, err := l.Subscribe(context.Background(), "", from)
	if err != nil {
		t.Error(err)
		return
	}
	defer l.Unsubscribe(sub)
	for next := from + 1; next <= to; {
		if _, err := l.Current(context.Background()); err != nil {
			t.Error(err)
			return
		}
		events, upTo, err := sub.Next(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		for _, ev := range events {
			if ev.Rev != next || ev.Rev > upTo {
				t.Errorf("event %d after %d, up to %d", ev.Rev, next-1, upTo)
				return
			}
			next++
		}
	}
}

func TestASlowReaderEndsWithErrSlowAfterWhatItCanHave(t *testing.T) {
	// What is queued is in memory, whatever the table.
	l := New(kinds["memory"].open(t), partition, Options{SoleWriter: true})
	sub, err := l.Subscribe(t.Context(), "", current(t, l).Rev)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Unsubscribe(sub)
	for batch := range (maxQueuedEvents + 2000) / maxChanges {
		changes := make([]Change, maxChanges)
		for i := range changes {
			changes[i] = Change{Key: fmt.Sprintf("%d-%d", batch, i), Value: []byte("1")}
		}
		if _, _, err := l.Commit(t.Context(), changes, nil); err != nil {
			t.Fatal(err)
		}
	}
	events, _, err := sub.Next(t.Context())
	if !errors.Is(err, ErrSlow) {
		t.Errorf("a reader that never read: %v", err)
	}
	if len(events) > maxQueuedEvents+maxChanges {
		t.Errorf("%d events were kept for it", len(events))
	}
	for i, ev := range events {
		if ev.Rev != uint64(i)+2 {
			t.Fatalf("event %d is of revision %d", i, ev.Rev)
		}
	}
	again, err := l.Subscribe(t.Context(), "", events[len(events)-1].Rev)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Unsubscribe(again)
	rest, _, err := again.Next(t.Context())
	if err != nil || len(rest) == 0 || rest[0].Rev != events[len(events)-1].Rev+1 {
		t.Errorf("it went on with %d events: %v", len(rest), err)
	}
}
