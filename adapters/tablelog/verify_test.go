package tablelog

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
)

// verified returns what is wrong with the partition, as "row invariant".
func verified(t testing.TB, store table.Store) []string {
	t.Helper()
	v, err := Verify(t.Context(), store, partition, VerifyOptions{Value: func(_ string, value []byte) (string, string) {
		if strings.HasPrefix(string(value), "bad") {
			return "values", "it is bad"
		}
		return "", ""
	}})
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, f := range v.Findings {
		out = append(out, f.Row+" "+f.Invariant)
		if f.Message == "" {
			t.Errorf("%s: no message", f.Row)
		}
	}
	return out
}

func put(t testing.TB, store table.Store, key string, value []byte) {
	t.Helper()
	if err := store.Commit(t.Context(), partition, []table.Op{{Kind: table.Put, Key: key, Value: value}}); err != nil {
		t.Fatal(err)
	}
}

func drop(t testing.TB, store table.Store, key string) {
	t.Helper()
	if err := store.Commit(t.Context(), partition, []table.Op{{Kind: table.Delete, Key: key, ETag: table.Any}}); err != nil {
		t.Fatal(err)
	}
}

func recordOf(t testing.TB, store table.Store, rev uint64) record {
	t.Helper()
	r, err := New(store, partition, Options{}).recordAt(t.Context(), rev)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// alter changes the record of a revision in its log row and, if it is there, in the object's row.
func alter(t testing.TB, store table.Store, rev uint64, change func(*record)) {
	t.Helper()
	r := recordOf(t, store, rev)
	_, err := store.Get(t.Context(), partition, objectKey(r.key))
	newest := err == nil && string(mustGet(t, store, objectKey(r.key))) == string(mustGet(t, store, logKey(rev)))
	change(&r)
	put(t, store, logKey(rev), r.encode())
	if newest {
		put(t, store, objectKey(r.key), r.encode())
	}
}

func mustGet(t testing.TB, store table.Store, key string) []byte {
	t.Helper()
	row, err := store.Get(t.Context(), partition, key)
	if err != nil {
		t.Fatal(err)
	}
	return row.Value
}

// TestVerifyFindsEachDamageAndNothingElse plants one damage at a time in a log that has been compacted.
func TestVerifyFindsEachDamageAndNothingElse(t *testing.T) {
	// Revisions 2 to 15. The floor is 8: 2 is the newest of "old", 6 the one before 9 of "a".
	const floor = 8
	script := []struct{ key, value string }{
		2: {"old", "1"}, 3: {"a", "1"}, 4: {"gone", "1"}, 5: {"gone", ""}, 6: {"a", "2"}, 7: {"b", "1"}, 8: {"b", "2"}, 9: {"a", "3"},
		10: {"c", "1"}, 11: {"c", ""}, 12: {"c", "2"}, 13: {"large", noise(1, 1<<20)}, 14: {"a", "4"}, 15: {"d", "1"}, 16: {"d", ""},
	}
	cases := map[string]struct {
		damage func(t *testing.T, s table.Store)
		want   []string
	}{
		"nothing": {func(*testing.T, table.Store) {}, []string{}},
		"a log row is missing above the floor": {
			func(t *testing.T, s table.Store) { drop(t, s, logKey(10)) }, []string{logKey(10) + " dense-revisions"},
		},
		"the log row of a deletion is missing": {
			func(t *testing.T, s table.Store) { drop(t, s, logKey(11)) }, []string{logKey(11) + " dense-revisions"},
		},
		"the log row of an object is missing above the floor": {
			func(t *testing.T, s table.Store) { drop(t, s, logKey(14)) }, []string{logKey(14) + " dense-revisions"},
		},
		"the row of the floor is missing": {
			func(t *testing.T, s table.Store) { drop(t, s, floorKey) }, []string{logKey(3) + " dense-revisions"},
		},
		"a row holds the change of another revision": {
			func(t *testing.T, s table.Store) { put(t, s, logKey(10), mustGet(t, s, logKey(9))) }, []string{logKey(10) + " dense-revisions"},
		},
		"an object row differs from its log row": {
			func(t *testing.T, s table.Store) {
				r := recordOf(t, s, 14)
				r.value = []byte("other")
				put(t, s, objectKey("a"), r.encode())
			}, []string{objectKey("a") + " object-rows"},
		},
		"an object row is behind its newest log row": {
			func(t *testing.T, s table.Store) { put(t, s, objectKey("a"), mustGet(t, s, logKey(9))) }, []string{objectKey("a") + " object-rows"},
		},
		"an object row is left of a deleted object": {
			func(t *testing.T, s table.Store) { put(t, s, objectKey("d"), mustGet(t, s, logKey(15))) }, []string{objectKey("d") + " object-rows"},
		},
		"an object row has no log row": {
			func(t *testing.T, s table.Store) { drop(t, s, logKey(2)) }, []string{objectKey("old") + " object-rows"},
		},
		"an object row is ahead of the log": {
			func(t *testing.T, s table.Store) {
				put(t, s, objectKey("e"), record{typ: Created, rev: 99, created: 99, key: "e"}.encode())
			}, []string{objectKey("e") + " object-rows"},
		},
		"an object has no row": {
			func(t *testing.T, s table.Store) { drop(t, s, objectKey("a")) }, []string{objectKey("a") + " object-rows"},
		},
		"an old object has no row": {
			func(t *testing.T, s table.Store) { drop(t, s, objectKey("old")) }, []string{objectKey("old") + " object-rows"},
		},
		"a value row is missing": {
			func(t *testing.T, s table.Store) { drop(t, s, valueKey(13, 1)) }, []string{valueKey(13, 1) + " value-rows"},
		},
		"a value row is cut": {
			func(t *testing.T, s table.Store) { put(t, s, valueKey(13, 0), []byte("cut")) }, []string{valueKey(13, 0) + " value-rows"},
		},
		"a value row is nobody's": {
			func(t *testing.T, s table.Store) { put(t, s, valueKey(12, 0), []byte("x")) }, []string{valueKey(12, 0) + " value-rows"},
		},
		"a value row is one too many": {
			func(t *testing.T, s table.Store) { put(t, s, valueKey(13, 2), []byte("x")) }, []string{valueKey(13, 2) + " value-rows"},
		},
		"a record names another object's change as the one before": {
			func(t *testing.T, s table.Store) { alter(t, s, 14, func(r *record) { r.prev = 12 }) }, []string{logKey(14) + " predecessors"},
		},
		"a record names a change as the one before that is not the newest": {
			func(t *testing.T, s table.Store) { alter(t, s, 14, func(r *record) { r.prev = 6 }) }, []string{logKey(14) + " predecessors"},
		},
		"a record names a later change as the one before": {
			func(t *testing.T, s table.Store) { alter(t, s, 14, func(r *record) { r.prev = 15 }) }, []string{logKey(14) + " predecessors"},
		},
		"an update names nothing as the one before": {
			func(t *testing.T, s table.Store) { alter(t, s, 14, func(r *record) { r.prev = 0 }) }, []string{logKey(14) + " predecessors"},
		},
		"a creation of what is there": {
			func(t *testing.T, s table.Store) {
				alter(t, s, 14, func(r *record) { r.typ, r.prev, r.created = Created, 0, 14 })
			}, []string{logKey(14) + " predecessors"},
		},
		"an update of what was deleted": {
			func(t *testing.T, s table.Store) {
				alter(t, s, 12, func(r *record) { r.typ, r.prev, r.created = Updated, 11, 10 })
			}, []string{logKey(12) + " predecessors"},
		},
		"a wrong number of value rows before": {
			func(t *testing.T, s table.Store) { alter(t, s, 14, func(r *record) { r.prevParts = 2 }) }, []string{logKey(14) + " predecessors"},
		},
		"a kept record's predecessor is missing": {
			func(t *testing.T, s table.Store) { drop(t, s, logKey(6)) }, []string{logKey(6) + " kept-predecessors"},
		},
		"the floor's own predecessor is missing": {
			func(t *testing.T, s table.Store) { drop(t, s, logKey(7)) }, []string{logKey(7) + " kept-predecessors"},
		},
		"a row that compaction should have removed": {
			func(t *testing.T, s table.Store) {
				put(t, s, logKey(3), record{typ: Created, rev: 3, created: 3, key: "a", written: recordOf(t, s, 2).written}.encode())
			}, []string{logKey(3) + " compaction"},
		},
		"a deletion that compaction should have removed": {
			func(t *testing.T, s table.Store) {
				put(t, s, logKey(5), record{typ: Deleted, rev: 5, prev: 4, created: 4, key: "gone", written: recordOf(t, s, 2).written}.encode())
			}, []string{logKey(5) + " compaction"},
		},
		"the floor is beyond the head": {
			func(t *testing.T, s table.Store) {
				put(t, s, floorKey, binary.BigEndian.AppendUint64([]byte{floorSchema}, 17))
			}, []string{floorKey + " floor"},
		},
		"the floor cannot be read": {
			func(t *testing.T, s table.Store) { put(t, s, floorKey, []byte{9, 9}) }, []string{floorKey + " floor"},
		},
		"a log row of another schema": {
			func(t *testing.T, s table.Store) {
				put(t, s, logKey(12), append([]byte{77}, mustGet(t, s, logKey(12))[1:]...))
			}, []string{logKey(12) + " records"},
		},
		"a log row is cut": {
			func(t *testing.T, s table.Store) { put(t, s, logKey(9), mustGet(t, s, logKey(9))[:12]) }, []string{logKey(9) + " records"},
		},
		"the newest log row is cut": {
			func(t *testing.T, s table.Store) { put(t, s, logKey(16), mustGet(t, s, logKey(16))[:12]) }, []string{logKey(16) + " records"},
		},
		"a deletion has a value": {
			func(t *testing.T, s table.Store) { alter(t, s, 16, func(r *record) { r.value = []byte("x") }) }, []string{logKey(16) + " records"},
		},
		"an object row is cut": {
			func(t *testing.T, s table.Store) { put(t, s, objectKey("a"), []byte{recordSchema, 1}) }, []string{objectKey("a") + " records"},
		},
		"an object row holds a deletion": {
			func(t *testing.T, s table.Store) { put(t, s, objectKey("d"), mustGet(t, s, logKey(16))) }, []string{objectKey("d") + " records"},
		},
		"an object's name is wrongly escaped": {
			func(t *testing.T, s table.Store) { put(t, s, "o-%61", mustGet(t, s, objectKey("a"))) }, []string{"o-%61 keys"},
		},
		"a creation at another revision": {
			func(t *testing.T, s table.Store) { alter(t, s, 12, func(r *record) { r.created = 10 }) }, []string{logKey(12) + " creations"},
		},
		"an update that says another creation": {
			func(t *testing.T, s table.Store) { alter(t, s, 14, func(r *record) { r.created = 5 }) }, []string{logKey(14) + " creations"},
		},
		"a time that goes back": {
			func(t *testing.T, s table.Store) { alter(t, s, 12, func(r *record) { r.written -= 1000 }) }, []string{logKey(12) + " times"},
		},
		"a key that no row has": {
			func(t *testing.T, s table.Store) { put(t, s, "q-1", nil) }, []string{"q-1 known-rows"},
		},
		"a log row whose key is no revision": {
			func(t *testing.T, s table.Store) { put(t, s, "l-12", nil) }, []string{"l-12 known-rows"},
		},
		"a value that is refused": {
			func(t *testing.T, s table.Store) { alter(t, s, 14, func(r *record) { r.value = []byte("bad") }) }, []string{logKey(14) + " values"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			l := New(store, partition, Options{})
			for _, change := range script[2:] {
				must(t, l, change.key, change.value)
			}
			if got, err := l.Compact(t.Context(), floor, 1000); err != nil || got != floor {
				t.Fatalf("compacted to %d: %v", got, err)
			}
			c.damage(t, store)
			if diff := cmp.Diff(c.want, verified(t, store)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAnIntactLogHasNoFindings after any history of writes by two instances, compaction, expiry and lost replies.
func TestAnIntactLogHasNoFindings(t *testing.T) {
	large := noise(3, 1200<<10)
	rapid.Check(t, func(t *rapid.T) {
		store := contract.NewFaulty(memory.New(), rapid.Uint64().Draw(t, "seed"))
		store.ShortPages, store.EmptyPages, store.Retried, store.LostReplies, store.Unsent = 0.3, 0.2, 0.2, 0.1, 0.1
		logs := []*Log{New(store, partition, Options{}), New(store, partition, Options{})}
		now := time.Now()
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				l := logs[rapid.IntRange(0, 1).Draw(t, "instance")]
				s, err := l.Current(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				var changes []Change
				for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "a/b", "é?", "d", strings.Repeat("x", 600)}), 1, 3, rapid.ID).Draw(t, "keys") {
					c := Change{Key: key, Value: []byte("1"), Owners: []string{"u"}}
					if rapid.IntRange(0, 15).Draw(t, "value") == 15 {
						c.Value = []byte(large)
					}
					if e := s.Get(key); e != nil {
						c.Expect, c.Delete = e.Rev, rapid.Bool().Draw(t, "delete")
					}
					if rapid.Bool().Draw(t, "expires") {
						c.Expires = now.Unix() + int64(rapid.IntRange(-5, 5).Draw(t, "in"))
					}
					if size, bytes := size(append(changes, c)); size <= table.MaxOps && bytes <= maxBatchBytes {
						changes = append(changes, c)
					}
				}
				_, _, _ = l.Commit(context.Background(), changes, nil) // replies may be lost
			},
			"compact": func(t *rapid.T) {
				l := logs[rapid.IntRange(0, 1).Draw(t, "instance")]
				_, _ = l.Compact(context.Background(), uint64(rapid.IntRange(1, 80).Draw(t, "before")), rapid.IntRange(1, 200).Draw(t, "rows"))
			},
			"expire": func(t *rapid.T) {
				_, _, _ = logs[0].DeleteExpired(context.Background(), now, rapid.IntRange(1, 5).Draw(t, "limit"))
			},
			"": func(t *rapid.T) {
				v, err := Verify(context.Background(), store, partition, VerifyOptions{})
				if err != nil || len(v.Findings) > 0 {
					t.Fatalf("%v, %+v", err, v.Findings)
				}
			},
		})
	})
}

// TestVerifyReportsNothingFalseWhileOthersWrite: writers and compaction go on while it looks again and again.
func TestVerifyReportsNothingFalseWhileOthersWrite(t *testing.T) {
	store := contract.NewFaulty(memory.New(), 1)
	store.ShortPages = 0.5 // many pages, so that much happens between them
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	large := noise(7, 600<<10)
	const writers = 2
	// begun is what each writer decides on: compaction must not pass it, or a late commit would be taken.
	var begun [writers]atomic.Uint64
	for w := range writers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 9))
			l := New(store, partition, Options{})
			for ctx.Err() == nil {
				s, err := l.Current(ctx)
				if err != nil {
					continue
				}
				begun[w].Store(s.Rev)
				c := Change{Key: fmt.Sprintf("k%d", rng.IntN(40)), Value: []byte("v")}
				if rng.IntN(20) == 0 {
					c.Value = []byte(large)
				}
				if e := s.Get(c.Key); e != nil {
					c.Expect, c.Delete = e.Rev, rng.IntN(3) == 0
				}
				_, _, err = l.Commit(ctx, []Change{c}, nil)
				if err == nil && rng.IntN(10) == 0 {
					_, _ = l.Compact(ctx, max(1, min(begun[0].Load(), begun[1].Load())), 100)
				}
			}
		})
	}
	rounds, moved := 0, uint64(0)
	// At least a second, and on a busy machine until enough has happened.
	start := time.Now()
	enough := func() bool { return rounds >= 5 && moved >= 100 && time.Since(start) > time.Second }
	for ; !enough() && time.Since(start) < time.Minute; rounds++ {
		v, err := Verify(t.Context(), store, partition, VerifyOptions{Value: func(string, []byte) (string, string) { return "", "" }})
		if err != nil {
			t.Fatal(err)
		}
		if len(v.Findings) > 0 {
			t.Errorf("round %d, at %d, floor %d: %+v", rounds, v.Rev, v.Floor, v.Findings)
			break
		}
		moved = v.Floor
	}
	cancel()
	wg.Wait()
	if !t.Failed() && !enough() {
		t.Errorf("%d rounds, floor %d: too little happened", rounds, moved)
	}
}
