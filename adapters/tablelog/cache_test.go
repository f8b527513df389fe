package tablelog

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
)

func TestARequestLooksOnceAtALog(t *testing.T) {
	store := contract.NewCounting(memory.New())
	l := New(store, partition, Options{})
	must(t, l, "a", "1")
	ctx := Begin(t.Context())
	before := store.Queries()
	for range 5 {
		if _, err := l.Current(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n := store.Queries() - before; n != 1 {
		t.Errorf("five reads of a request took %d queries", n)
	}
}

func TestARequestSeesWhatOthersCommittedBeforeItBegan(t *testing.T) {
	store := memory.New()
	l, other := New(store, partition, Options{}), New(store, partition, Options{})
	for i := range 20 {
		current(t, l)
		rev := must(t, other, "a", fmt.Sprint(i))
		if s, err := l.Current(Begin(t.Context())); err != nil || s.Rev != rev {
			t.Fatalf("a request read revision %d after %d was committed: %v", s.Rev, rev, err)
		}
	}
}

func TestAWriteTakesOneTransactionAndNoQueryWhileNobodyElseWrites(t *testing.T) {
	store := contract.NewCounting(memory.New())
	l := New(store, partition, Options{})
	current(t, l)
	queries, commits := store.Queries(), store.Commits.Load()
	const writes = 10
	for i := range writes {
		if _, _, err := l.Commit(t.Context(), []Change{{Key: fmt.Sprint(i), Value: []byte("v")}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if q, c := store.Queries()-queries, store.Commits.Load()-commits; q != 0 || c != writes {
		t.Errorf("%d writes took %d queries and %d transactions", writes, q, c)
	}
}

func TestAWriteThatAnOldStateRefusesIsDecidedOnTheNewest(t *testing.T) {
	store := memory.New()
	l, other := New(store, partition, Options{}), New(store, partition, Options{})
	must(t, l, "a", "1")
	must(t, other, "a", "") // deleted behind l's back
	if _, _, err := l.Commit(t.Context(), []Change{{Key: "a", Value: []byte("2")}}, nil); err != nil {
		t.Errorf("creating what l thinks exists, and does not: %v", err)
	}
	rev := must(t, other, "a", "3")
	if _, _, err := l.Commit(t.Context(), []Change{{Key: "a", Expect: rev, Value: []byte("4")}}, nil); err != nil {
		t.Errorf("updating a version that l has not seen: %v", err)
	}
}

func TestAGuardOnAnOldStateIsCheckedOnTheNewest(t *testing.T) {
	store := memory.New()
	l, other := New(store, partition, Options{}), New(store, partition, Options{})
	since := must(t, l, "a", "1")
	must(t, other, "b", "1")
	guard := &Guard{Since: since, Conflicts: func(ev Event) bool { return ev.Key == "b" }}
	if _, _, err := l.Commit(t.Context(), []Change{{Key: "c", Value: []byte("1")}}, guard); err == nil {
		t.Error("a plan was committed although its read set had moved elsewhere")
	}
	if _, _, err := l.Commit(t.Context(), nil, guard); err == nil {
		t.Error("a guard alone held although its read set had moved elsewhere")
	}
}

func TestTheCacheKeepsItsBoundAndDropsWhatWasUsedLast(t *testing.T) {
	const object, limit = 10_000, 200_000
	c := NewCache(limit)
	store := memory.New()
	var logs []*Log
	for i := range 20 {
		l := New(store, fmt.Sprintf("cluster|%d", i), Options{Cache: c, SoleWriter: true})
		must(t, l, "a", strings.Repeat("x", object))
		logs = append(logs, l)
		if s := c.Stats(); s.Bytes > limit {
			t.Fatalf("%d bytes in a cache of %d", s.Bytes, limit)
		}
	}
	stats := c.Stats()
	if stats.Evictions == 0 || stats.Logs >= len(logs) {
		t.Fatalf("nothing was dropped: %+v", stats)
	}
	if logs[0].state.Load() != nil || logs[19].state.Load() == nil {
		t.Error("what was used last was dropped before what was used first")
	}
	for i, l := range logs {
		if e := current(t, l).Get("a"); e == nil || len(e.Value) != object {
			t.Errorf("log %d cannot be read any more", i)
		}
	}
	if loads := c.Stats().Loads; loads <= stats.Loads {
		t.Error("reading what was dropped loaded nothing")
	}
	for _, l := range logs {
		l.Close()
	}
	if s := c.Stats(); s.Bytes != 0 || s.Logs != 0 {
		t.Errorf("after all logs were closed: %+v", s)
	}
}

func TestAWatchedLogStaysInTheCache(t *testing.T) {
	c := NewCache(1)
	store := memory.New()
	watched := New(store, "cluster|watched", Options{Cache: c, SoleWriter: true})
	rev := must(t, watched, "a", "1")
	sub, err := watched.Subscribe(t.Context(), "", rev)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		must(t, New(store, fmt.Sprintf("cluster|%d", i), Options{Cache: c, SoleWriter: true}), "a", "1")
	}
	must(t, watched, "a", "2")
	if events, _, err := sub.Next(t.Context()); err != nil || len(events) != 1 {
		t.Errorf("the watch got %d events: %v", len(events), err)
	}
	watched.Unsubscribe(sub)
	if err := watched.Idle(t.Context()); err != nil { // who commits leads a moment longer, and is not disturbed
		t.Fatal(err)
	}
	must(t, New(store, "cluster|another", Options{Cache: c, SoleWriter: true}), "a", "1")
	if watched.state.Load() != nil {
		t.Error("what nobody watches any more stays")
	}
}

func TestTheSizeOfAStateIsThatOfItsEntries(t *testing.T) {
	l := New(memory.New(), partition, Options{SoleWriter: true})
	for i := range 200 {
		must(t, l, fmt.Sprint(i%17), strings.Repeat("x", i*7%300+1))
		if i%5 == 4 {
			must(t, l, fmt.Sprint(i%17), "")
		}
	}
	s := current(t, l)
	var want int64
	s.Ascend("", "", func(e *Entry) bool { want += e.size(); return true })
	if s.size != want || want == 0 {
		t.Errorf("size %d, its entries have %d", s.size, want)
	}
}

func TestAWatchHearsOfWhatOtherInstancesWrite(t *testing.T) {
	store := memory.New()
	here, there := New(store, partition, Options{}), New(store, partition, Options{})
	rev := must(t, here, "a", "1")
	sub, err := here.Subscribe(t.Context(), "", rev)
	if err != nil {
		t.Fatal(err)
	}
	defer here.Unsubscribe(sub)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i := range 5 {
		must(t, there, "a", fmt.Sprint("there", i))
		for heard := 0; heard == 0; {
			select {
			case <-sub.Wake():
			case <-ctx.Done():
				t.Fatal("the watch did not hear of a change made elsewhere")
			}
			events, _, err := sub.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			heard = len(events)
		}
	}
}

func TestNothingLooksAtALogThatNobodyWatches(t *testing.T) {
	store := contract.NewCounting(memory.New())
	l := New(store, partition, Options{})
	rev := must(t, l, "a", "1")
	sub, err := l.Subscribe(t.Context(), "", rev)
	if err != nil {
		t.Fatal(err)
	}
	l.Unsubscribe(sub)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		l.watchMu.Lock()
		following := l.following
		l.watchMu.Unlock()
		if !following {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a log that nobody watches is still looked at")
		}
	}
	before := store.Queries()
	time.Sleep(2 * followLate)
	if n := store.Queries() - before; n != 0 {
		t.Errorf("%d queries while nothing happened", n)
	}
}

func TestAWatchCostsNothingWhileItsInstanceWrites(t *testing.T) {
	store := contract.NewCounting(memory.New())
	l := New(store, partition, Options{})
	rev := must(t, l, "a", "1")
	sub, err := l.Subscribe(t.Context(), "", rev)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Unsubscribe(sub)
	before := store.Queries()
	pauses, last := int64(0), time.Now() // in a pause of the test's own, a look is due
	for end := last.Add(2 * followLate); last.Before(end); time.Sleep(5 * time.Millisecond) {
		e := l.state.Load().Get("a")
		if _, _, err := l.Commit(t.Context(), []Change{{Key: "a", Expect: e.Rev, Value: []byte("v")}}, nil); err != nil {
			t.Fatal(err)
		}
		if now := time.Now(); now.Sub(last) > followSoon/2 {
			pauses, last = pauses+1, now
		} else {
			last = now
		}
	}
	if n := store.Queries() - before; n > pauses {
		t.Errorf("%d queries while the instance itself wrote, with %d pauses", n, pauses)
	}
}

// TestALogThatIsToldIsLookedAtAtOnce has somebody else write while the next look by itself is some time away.
func TestALogThatIsToldIsLookedAtAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		mine, theirs := New(store, partition, Options{}), New(store, partition, Options{})
		if mine.LookNow() {
			t.Error("a log is looked at that nobody watches")
		}
		s := current(t, mine)
		sub, err := mine.Subscribe(t.Context(), "", s.Rev)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*followLate + followLate/2) // it has become rare
		synctest.Wait()
		_, rev, err := theirs.Commit(t.Context(), []Change{{Key: "a", Value: []byte("1")}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		synctest.Wait()
		if mine.Seen() >= rev {
			t.Fatal("it was seen without being told")
		}
		for range 3 {
			if !mine.LookNow() {
				t.Error("a log that is watched is not looked at")
			}
		}
		got, _, err := sub.Next(t.Context())
		for err == nil && len(got) == 0 { // how far it is may come first
			got, _, err = sub.Next(t.Context())
		}
		if err != nil || len(got) != 1 || got[0].Rev != rev || time.Since(at) != 0 {
			t.Errorf("after %s %+v was seen: %v", time.Since(at), got, err)
		}
		mine.Unsubscribe(sub)
		time.Sleep(2 * followLate) // the looks end
	})
}
