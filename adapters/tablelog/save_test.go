package tablelog

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
)

// testing of rapid and of Go.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// saved returns a log as it was at a revision.
func saved(t tester, l *Log, rev uint64) []Saved {
	t.Helper()
	var out []Saved
	if err := l.Save(context.Background(), rev, func(s Saved) error { out = append(out, s); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// restored returns a store with what was saved.
func restored(t tester, rev uint64, all []Saved) table.Store {
	t.Helper()
	store := memory.New()
	r := Restore(store, partition, rev)
	for _, s := range all {
		if err := r.Add(context.Background(), s); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	return store
}

// rowsOf returns the rows of a partition, but not their ETags.
func rowsOf(t tester, s table.Store) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := table.All(context.Background(), s, partition, table.Query{From: " ", To: "\x7f"}, func(row table.Row) bool {
		out[row.Key] = fmt.Sprintf("%x", sha256.Sum256(row.Value))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestARestoredLogIsTheCompactedOne byte for byte, at the head; and at any revision that is kept it has the state of
// that revision, goes on from there, and refuses what came before.
func TestARestoredLogIsTheCompactedOne(t *testing.T) {
	large := noise(5, 1100<<10)
	rapid.Check(t, func(t *rapid.T) {
		store := contract.NewFaulty(memory.New(), rapid.Uint64().Draw(t, "seed"))
		store.ShortPages, store.EmptyPages = 0.3, 0.2
		l := New(store, partition, Options{})
		for range rapid.IntRange(0, 40).Draw(t, "writes") {
			s, err := l.Current(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			v := rapid.IntRange(0, 15).Draw(t, "value")
			c := Change{Key: rapid.SampledFrom([]string{"a", "b/?", "c", "d"}).Draw(t, "key"), Value: []byte{byte(v)}}
			if v == 15 {
				c.Value = []byte(large)
			}
			if e := s.Get(c.Key); e != nil {
				c.Expect, c.Delete = e.Rev, rapid.Bool().Draw(t, "delete")
			}
			if !c.Delete {
				c.Owners, c.Expires = []string{"u1", "u2"}, int64(rapid.IntRange(0, 2).Draw(t, "expires"))
			}
			if _, _, err := l.Commit(context.Background(), []Change{c}, nil); err != nil {
				t.Fatal(err)
			}
		}
		s, err := l.Current(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		floor, err := l.Compact(context.Background(), uint64(rapid.IntRange(1, int(s.Rev)).Draw(t, "floor")), 1000)
		if err != nil {
			t.Fatal(err)
		}
		rev := uint64(rapid.IntRange(int(floor), int(s.Rev)).Draw(t, "rev"))
		all := saved(t, l, rev)
		copied := restored(t, rev, all)
		v, err := Verify(context.Background(), copied, partition, VerifyOptions{})
		if err != nil || len(v.Findings) > 0 || v.Rev != rev || v.Floor != rev {
			t.Fatalf("%+v, %v", v, err)
		}
		again := New(copied, partition, Options{})
		compareAt(t, l, again, rev)
		if rev == s.Rev {
			if _, err := l.Compact(context.Background(), rev, 1<<20); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(rowsOf(t, store), rowsOf(t, copied)); diff != "" {
				t.Fatalf("rows (-compacted +restored):\n%s", diff)
			}
		}
		if _, next, err := again.Commit(context.Background(), []Change{{Key: "new", Value: []byte("1")}}, nil); err != nil || next != rev+1 {
			t.Fatalf("the first change after is %d: %v", next, err)
		}
		if got, err := again.Compact(context.Background(), rev+1, 1000); err != nil || got != rev+1 {
			t.Fatalf("compacted to %d: %v", got, err)
		}
	})
}

// compareAt compares the states of two logs at a revision, and checks that the second one begins there.
func compareAt(t *rapid.T, l, again *Log, rev uint64) {
	want, err := l.At(context.Background(), rev)
	if err != nil {
		t.Fatal(err)
	}
	got, err := again.Current(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full(want), full(got)); diff != "" || got.Rev != rev {
		t.Fatalf("state at %d is at %d (-want +got):\n%s", rev, got.Rev, diff)
	}
	if rev > firstRevision {
		if _, err := again.Subscribe(context.Background(), "", rev-1); !errors.Is(err, ErrCompacted) {
			t.Fatalf("a watch from before: %v", err)
		}
	}
	if _, err := again.Subscribe(context.Background(), "", rev); err != nil {
		t.Fatalf("a watch from the end: %v", err)
	}
}

// full is a state as text, with all that an entry has.
func full(s *State) map[string]string {
	out := map[string]string{}
	s.Ascend("", "", func(e *Entry) bool {
		out[e.Key] = fmt.Sprintf("%d/%d %d %v %x", e.Created, e.Rev, e.Expires, e.Owners, sha256.Sum256(e.Value))
		return true
	})
	return out
}

// TestALogSavedWhileOthersWriteIsExact at each of many revisions.
func TestALogSavedWhileOthersWriteIsExact(t *testing.T) {
	store := contract.NewFaulty(memory.New(), 2)
	store.ShortPages = 0.5
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			l := New(store, partition, Options{})
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("%d-%d", w, i%15)
				s, err := l.Current(ctx)
				if err != nil {
					continue
				}
				c := Change{Key: key, Value: []byte(fmt.Sprint(i))}
				if e := s.Get(key); e != nil {
					c.Expect, c.Delete = e.Rev, i%4 == 0
				}
				_, _, _ = l.Commit(ctx, []Change{c}, nil)
			}
		})
	}
	reader := New(store, partition, Options{})
	rounds := 0
	for end := time.Now().Add(time.Second); time.Now().Before(end) || rounds < 3; rounds++ {
		head, err := reader.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		copied := New(restored(t, head.Rev, saved(t, reader, head.Rev)), partition, Options{})
		want, err := reader.At(t.Context(), head.Rev)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(full(want), full(current(t, copied))); diff != "" {
			t.Fatalf("at %d (-want +got):\n%s", head.Rev, diff)
		}
	}
	cancel()
	wg.Wait()
}

func TestWhatIsNotKeptCannotBeSaved(t *testing.T) {
	l := New(memory.New(), partition, Options{})
	for i := range 20 {
		must(t, l, "k", fmt.Sprint(i))
	}
	if _, err := l.Compact(t.Context(), 10, 100); err != nil {
		t.Fatal(err)
	}
	for rev, want := range map[uint64]error{9: ErrCompacted, 22: ErrFuture} {
		if err := l.Save(t.Context(), rev, func(Saved) error { return nil }); !errors.Is(err, want) {
			t.Errorf("revision %d: %v", rev, err)
		}
	}
}

func TestWhatNoLogCanHoldIsNotRestored(t *testing.T) {
	good := Saved{Type: Created, Rev: 7, Created: 7, Key: "k", Object: true}
	for name, alter := range map[string]func(*Saved){
		"no key":               func(s *Saved) { s.Key = "" },
		"no type":              func(s *Saved) { s.Type = 9 },
		"a later revision":     func(s *Saved) { s.Rev = 8 },
		"the first revision":   func(s *Saved) { s.Rev = 1 },
		"a later predecessor":  func(s *Saved) { s.Prev = 7 },
		"a later creation":     func(s *Saved) { s.Created = 8 },
		"an object that isn't": func(s *Saved) { s.Type = Deleted },
	} {
		s := good
		alter(&s)
		if err := Restore(memory.New(), partition, 7).Add(t.Context(), s); !errors.Is(err, table.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := Restore(memory.New(), partition, 8)
	if err := r.Add(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(t.Context()); !errors.Is(err, table.ErrInvalid) {
		t.Errorf("without the newest change: %v", err)
	}
}

// clock is a time that tests move.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func TestTheRevisionAtATimeIsTheNewestWrittenByThen(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c := &clock{start}
	store := memory.New()
	l := New(store, partition, Options{Now: c.now})
	at := func(d time.Duration) (uint64, error) {
		p, err := New(store, partition, Options{}).RevisionAt(t.Context(), start.Add(d))
		return p.Rev, err
	}
	if rev, err := at(0); rev != 1 || err != nil {
		t.Errorf("an empty log: %d, %v", rev, err)
	}
	for _, d := range []time.Duration{0, 10, 20, 5, 30} { // the fourth clock is behind
		c.at = start.Add(d * time.Second)
		must(t, l, "k", fmt.Sprint(d))
		l = New(store, partition, Options{Now: c.now}) // another instance
	}
	for d, want := range map[time.Duration]uint64{-1: 1, 0: 2, 9: 2, 10: 3, 19: 3, 20: 5, 29: 5, 30: 6, 99: 6} {
		if rev, err := at(d * time.Second); rev != want || err != nil {
			t.Errorf("after %d s: revision %d, %v, want %d", d, rev, err, want)
		}
	}
	if _, err := l.Compact(t.Context(), 4, 100); err != nil {
		t.Fatal(err)
	}
	if rev, err := at(20 * time.Second); rev != 5 || err != nil {
		t.Errorf("after compaction: %d, %v", rev, err)
	}
	_, err := at(19 * time.Second)
	if old, ok := errors.AsType[*TooOldError](err); !ok || !old.Oldest.Equal(start.Add(20*time.Second)) {
		t.Errorf("what was compacted: %v", err)
	}
	if v := verified(t, store); len(v) > 0 {
		t.Errorf("findings: %v", v)
	}
}

// ofSchema is a record as an earlier schema had it.
func ofSchema(schema byte, r record) []byte {
	b := binary.BigEndian.AppendUint64([]byte{schema, byte(r.typ)}, r.writeID)
	if schema > untimedSchema {
		b = binary.BigEndian.AppendUint64(b, uint64(r.written))
	}
	for _, n := range []uint64{r.rev, r.prev, uint64(r.prevParts), r.created} {
		b = binary.AppendUvarint(b, n)
	}
	b = appendString(binary.AppendVarint(b, r.expires), r.key)
	b = binary.AppendUvarint(b, uint64(len(r.owners)))
	for _, o := range r.owners {
		b = appendString(b, o)
	}
	return append(binary.AppendUvarint(b, uint64(r.parts)), r.value...)
}

func TestARecordOfTheSecondSchemaIsRead(t *testing.T) {
	r := record{typ: Created, writeID: 7, written: 5, rev: 2, created: 2, key: "old", expires: -3, owners: []string{"u"}, value: []byte("v")}
	if got, err := decodeRecord(ofSchema(uncausedSchema, r)); err != nil || fmt.Sprint(got) != fmt.Sprint(r) {
		t.Errorf("decoded %+v, %v, want %+v", got, err, r)
	}
}

// TestALogOfTheFirstSchemaGoesOn and its times are known from the first change on that notes one.
func TestALogOfTheFirstSchemaGoesOn(t *testing.T) {
	store := memory.New()
	first := record{typ: Created, writeID: 7, rev: 2, created: 2, key: "old", expires: -3, owners: []string{"u"}, value: []byte("v")}
	second := record{typ: Updated, writeID: 8, rev: 3, prev: 2, created: 2, key: "old", value: []byte("w")}
	put(t, store, logKey(2), ofSchema(untimedSchema, first))
	put(t, store, logKey(3), ofSchema(untimedSchema, second))
	put(t, store, objectKey("old"), ofSchema(untimedSchema, second))
	put(t, store, floorKey, binary.BigEndian.AppendUint64([]byte{1}, 2))
	if got := recordOf(t, store, 2); fmt.Sprint(got) != fmt.Sprint(first) {
		t.Errorf("decoded %+v, want %+v", got, first)
	}
	c := &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	l := New(store, partition, Options{Now: c.now})
	_, err := l.RevisionAt(t.Context(), c.at)
	if old, ok := errors.AsType[*TooOldError](err); !ok || !old.Oldest.IsZero() {
		t.Errorf("a time of what has none: %v", err)
	}
	must(t, l, "old", "x")
	must(t, l, "new", "y")
	if p, err := l.RevisionAt(t.Context(), c.at); p.Rev != 5 || err != nil {
		t.Errorf("%+v, %v", p, err)
	}
	_, err = l.RevisionAt(t.Context(), c.at.Add(-time.Second))
	if old, ok := errors.AsType[*TooOldError](err); !ok || !old.Oldest.Equal(c.at) {
		t.Errorf("before the times: %v", err)
	}
	if diff := cmp.Diff(map[string]string{"old": "2/4 x", "new": "5/5 y"}, dump(current(t, New(store, partition, Options{})))); diff != "" {
		t.Error(diff)
	}
	if v := verified(t, store); len(v) > 0 {
		t.Errorf("findings: %v", v)
	}
	again := restored(t, 5, saved(t, l, 5))
	if v := verified(t, again); len(v) > 0 {
		t.Errorf("findings after restoring: %v", v)
	}
	if _, err := decodeRecord(append([]byte{recordSchema + 1}, first.encode()[1:]...)); !errors.Is(err, table.ErrCorrupt) {
		t.Errorf("a later schema: %v", err)
	}
}
