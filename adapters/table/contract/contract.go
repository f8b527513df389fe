// Package contract holds what every adapter of the table port must do, as one suite, and a store
// that misbehaves in the ways that the port allows.
package contract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zeroplane/zeroplane/adapters/table"
)

const partition = "cluster|group"

// Adapter is what the suite runs against.
type Adapter struct {
	// New returns an empty store.
	New func(t *testing.T) table.Store
	// Reopen closes a store and opens its data again; nil where data does not outlive the store.
	Reopen func(t *testing.T, s table.Store) table.Store
}

// Run runs the suite.
func Run(t *testing.T, a Adapter) {
	claims := map[string]func(*testing.T, table.Store){
		"an insert makes a row that must not exist":              insert,
		"a put writes a row whether it exists or not":            put,
		"an update needs the row's ETag":                         update,
		"a delete needs the row's ETag":                          remove,
		"every write changes the ETag":                           etags,
		"a failed transaction writes nothing and says which row": atomicity,
		"ranges are in key order and half open":                  ranges,
		"pages end at the limit and go on at Next":               pages,
		"no page has more than MaxPage rows":                     largePages,
		"pages read while others write miss no lasting row":      pagesUnderWrites,
		"what Azure would refuse is refused":                     limits,
		"transactions at the limits are taken":                   atLimits,
		"of concurrent inserts of one row exactly one wins":      race,
		"of concurrent updates of one version exactly one wins":  updateRace,
		"partitions are apart":                                   partitions,
		"values are the caller's and the store's own":            ownership,
		"values of every length and byte come back":              lengths,
		"keys may have every byte that is not forbidden":         allowedKeys,
		"partitions may, too":                                    allowedPartitions,
		"bounds of ranges may have bytes that no key has":        bounds,
	}
	names := make([]string, 0, len(claims))
	for name := range claims {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		t.Run(name, func(t *testing.T) { claims[name](t, a.New(t)) })
	}
	t.Run("a store that lists its partitions lists those with rows", func(t *testing.T) { listing(t, a.New(t)) })
	if a.Reopen != nil {
		t.Run("rows outlive the store, and later ETags differ from earlier ones", func(t *testing.T) { reopen(t, a) })
	}
}

// listing needs a table.Lister, which is no part of the port.
func listing(t *testing.T, s table.Store) {
	lister, ok := s.(table.Lister)
	if !ok {
		t.Skip("the store does not list partitions")
	}
	ctx := context.Background()
	var want []string
	for i := range table.MaxPage + 50 {
		name := fmt.Sprintf("p%05d|g", i)
		want = append(want, name)
		ops := []table.Op{{Kind: table.Put, Key: "a", Value: []byte("1")}, {Kind: table.Put, Key: "b"}}
		if err := s.Commit(ctx, name, ops); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Commit(ctx, "gone|g", []table.Op{{Kind: table.Put, Key: "a"}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, "gone|g", []table.Op{{Kind: table.Delete, Key: "a", ETag: table.Any}}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for after := ""; ; after = got[len(got)-1] {
		names, err := lister.Partitions(ctx, after)
		if err != nil {
			t.Fatal(err)
		}
		if len(names) == 0 {
			break
		}
		got = append(got, names...)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}
}

func commit(t *testing.T, s table.Store, ops ...table.Op) {
	t.Helper()
	if err := s.Commit(context.Background(), partition, ops); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

func get(t *testing.T, s table.Store, key string) table.Row {
	t.Helper()
	row, err := s.Get(context.Background(), partition, key)
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	if row.Key != key || row.ETag == "" {
		t.Fatalf("get %q gave row %q with ETag %q", key, row.Key, row.ETag)
	}
	return row
}

func absent(t *testing.T, s table.Store, key string) {
	t.Helper()
	if row, err := s.Get(context.Background(), partition, key); !errors.Is(err, table.ErrNotFound) {
		t.Fatalf("get %q gave %q and %v, want ErrNotFound", key, row.Value, err)
	}
}

// refused checks that a transaction fails at one operation for one reason.
func refused(t *testing.T, s table.Store, index int, want error, ops ...table.Op) {
	t.Helper()
	err := s.Commit(context.Background(), partition, ops)
	var conflict *table.ConflictError
	if !errors.As(err, &conflict) || !errors.Is(err, want) {
		t.Fatalf("commit gave %v, want a conflict with %v", err, want)
	}
	if conflict.Index != index || conflict.Key != ops[index].Key {
		t.Fatalf("conflict at %d, %q, want %d, %q", conflict.Index, conflict.Key, index, ops[index].Key)
	}
}

func op(kind table.OpKind, key, value, etag string) table.Op {
	return table.Op{Kind: kind, Key: key, Value: []byte(value), ETag: etag}
}

func insert(t *testing.T, s table.Store) {
	absent(t, s, "a")
	commit(t, s, op(table.Insert, "a", "1", ""))
	if got := string(get(t, s, "a").Value); got != "1" {
		t.Fatalf("value %q", got)
	}
	refused(t, s, 0, table.ErrExists, op(table.Insert, "a", "2", ""))
	if got := string(get(t, s, "a").Value); got != "1" {
		t.Fatalf("value %q after a refused insert", got)
	}
}

func put(t *testing.T, s table.Store) {
	for _, v := range []string{"1", "2", ""} {
		commit(t, s, op(table.Put, "a", v, ""))
		if got := string(get(t, s, "a").Value); got != v {
			t.Fatalf("value %q, want %q", got, v)
		}
	}
}

func update(t *testing.T, s table.Store) {
	refused(t, s, 0, table.ErrNotFound, op(table.Update, "a", "1", "1"))
	refused(t, s, 0, table.ErrNotFound, op(table.Update, "a", "1", table.Any))
	commit(t, s, op(table.Insert, "a", "1", ""))
	first := get(t, s, "a")
	commit(t, s, op(table.Update, "a", "2", first.ETag))
	refused(t, s, 0, table.ErrChanged, op(table.Update, "a", "3", first.ETag))
	commit(t, s, op(table.Update, "a", "4", table.Any))
	if got := string(get(t, s, "a").Value); got != "4" {
		t.Fatalf("value %q", got)
	}
}

func remove(t *testing.T, s table.Store) {
	refused(t, s, 0, table.ErrNotFound, op(table.Delete, "a", "", table.Any))
	commit(t, s, op(table.Insert, "a", "1", ""))
	first := get(t, s, "a")
	commit(t, s, op(table.Put, "a", "2", ""))
	refused(t, s, 0, table.ErrChanged, op(table.Delete, "a", "", first.ETag))
	commit(t, s, op(table.Delete, "a", "", get(t, s, "a").ETag))
	absent(t, s, "a")
	commit(t, s, op(table.Insert, "a", "3", ""))
	commit(t, s, op(table.Delete, "a", "", table.Any))
	absent(t, s, "a")
}

func etags(t *testing.T, s table.Store) {
	seen := map[string]bool{}
	check := func() {
		t.Helper()
		tag := get(t, s, "a").ETag
		if seen[tag] {
			t.Fatalf("ETag %q again", tag)
		}
		seen[tag] = true
		if again := get(t, s, "a").ETag; again != tag {
			t.Fatalf("ETag went from %q to %q without a write", tag, again)
		}
	}
	for range 20 {
		commit(t, s, op(table.Put, "a", "same", ""))
		check()
		commit(t, s, op(table.Update, "a", "same", table.Any))
		check()
		commit(t, s, op(table.Delete, "a", "", table.Any))
		commit(t, s, op(table.Insert, "a", "same", ""))
		check()
	}
}

func atomicity(t *testing.T, s table.Store) {
	commit(t, s, op(table.Put, "kept", "1", ""), op(table.Put, "old", "1", ""), op(table.Put, "there", "1", ""))
	writes := []table.Op{op(table.Insert, "new", "2", ""), op(table.Put, "old", "2", ""), op(table.Delete, "kept", "", table.Any)}
	refused(t, s, 3, table.ErrExists, append(writes, op(table.Insert, "there", "2", ""))...)
	refused(t, s, 3, table.ErrChanged, append(writes, op(table.Update, "there", "2", "0"))...)
	refused(t, s, 3, table.ErrNotFound, append(writes, op(table.Delete, "nowhere", "", table.Any))...)
	absent(t, s, "new")
	for _, key := range []string{"kept", "old", "there"} {
		if got := string(get(t, s, key).Value); got != "1" {
			t.Fatalf("row %q has %q after failed transactions", key, got)
		}
	}
}

// list reads a whole range in pages and checks their sizes and order.
func list(t *testing.T, s table.Store, q table.Query) []string {
	t.Helper()
	var keys []string
	limit := q.Limit
	if limit <= 0 || limit > table.MaxPage {
		limit = table.MaxPage
	}
	for {
		page, err := s.Range(context.Background(), partition, q)
		if err != nil {
			t.Fatalf("range: %v", err)
		}
		if len(page.Rows) > limit {
			t.Fatalf("page of %d rows, limit %d", len(page.Rows), limit)
		}
		for _, row := range page.Rows {
			if row.Key < q.From || row.Key >= q.To {
				t.Fatalf("row %q is outside of %q to %q", row.Key, q.From, q.To)
			}
			if len(keys) > 0 && keys[len(keys)-1] >= row.Key {
				t.Fatalf("row %q after %q", row.Key, keys[len(keys)-1])
			}
			keys = append(keys, row.Key)
		}
		if page.Next == "" {
			return keys
		}
		q.Continue = page.Next
	}
}

func ranges(t *testing.T, s table.Store) {
	keys := []string{"a", "a b", "a!", "a-", "a.", "aa", "b", "b-1", "b-10", "b-2", "z~"}
	for i := range keys {
		commit(t, s, op(table.Insert, keys[(i*7)%len(keys)], "v", ""))
	}
	sort.Strings(keys)
	for _, from := range append(keys, "", "a,", "zz") {
		for _, to := range append(keys, "a,", "zz") {
			var want []string
			for _, k := range keys {
				if from <= k && k < to {
					want = append(want, k)
				}
			}
			for _, limit := range []int{0, 1, 3} {
				got := list(t, s, table.Query{From: from, To: to, Limit: limit})
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("range %q to %q by %d (-want +got):\n%s", from, to, limit, diff)
				}
			}
		}
	}
}

func pages(t *testing.T, s table.Store) {
	ops := make([]table.Op, 0, 50)
	for i := range 50 {
		ops = append(ops, op(table.Insert, fmt.Sprintf("k%02d", i), "v", ""))
	}
	commit(t, s, ops...)
	if got := list(t, s, table.Query{From: "k", To: "l", Limit: 7}); len(got) != 50 {
		t.Fatalf("%d rows, want 50", len(got))
	}
	page, err := s.Range(context.Background(), partition, table.Query{From: "k", To: "l", Limit: 7})
	if err != nil || page.Next == "" {
		t.Fatalf("first page: next %q, %v", page.Next, err)
	}
	// A row that is deleted between pages does not stop them, whichever it is.
	commit(t, s, op(table.Delete, "k06", "", table.Any), op(table.Delete, "k07", "", table.Any), op(table.Delete, "k08", "", table.Any))
	rest := list(t, s, table.Query{From: "k", To: "l", Limit: 7, Continue: page.Next})
	if len(page.Rows) == 7 && (len(rest) != 41 || rest[0] != "k09") {
		t.Fatalf("%d rows from %q on, want 41 from k09", len(rest), rest[0])
	}
}

func largePages(t *testing.T, s table.Store) {
	const rows = table.MaxPage + 150
	for start := 0; start < rows; start += 50 {
		var ops []table.Op
		for i := start; i < start+50; i++ {
			ops = append(ops, op(table.Insert, fmt.Sprintf("k%04d", i), "v", ""))
		}
		commit(t, s, ops...)
	}
	for _, limit := range []int{0, table.MaxPage, table.MaxPage + 1} {
		if got := list(t, s, table.Query{From: "k", To: "l", Limit: limit}); len(got) != rows {
			t.Fatalf("%d rows with limit %d, want %d", len(got), limit, rows)
		}
	}
}

// pagesUnderWrites reads pages while other rows come and go: those that stay are read once each.
func pagesUnderWrites(t *testing.T, s table.Store) {
	for i := range 40 {
		commit(t, s, op(table.Insert, fmt.Sprintf("k%02d-stays", i), "v", ""))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			key := fmt.Sprintf("k%02d-%d", i%40, i)
			ctx := context.Background()
			_ = s.Commit(ctx, partition, []table.Op{op(table.Insert, key, "v", "")})
			_ = s.Commit(ctx, partition, []table.Op{op(table.Delete, key, "", table.Any)})
		}
	})
	defer wg.Wait()
	defer close(stop)
	for range 50 {
		stays := 0
		for _, key := range list(t, s, table.Query{From: "k", To: "l", Limit: 3}) {
			if strings.HasSuffix(key, "-stays") {
				stays++
			}
		}
		if stays != 40 {
			t.Fatalf("read %d of 40 rows that stay", stays)
		}
	}
}

func limits(t *testing.T, s table.Store) {
	many := make([]table.Op, table.MaxOps+1)
	for i := range many {
		many[i] = op(table.Insert, fmt.Sprintf("k%d", i), "v", "")
	}
	large := strings.Repeat("x", table.MaxRowBytes)
	cases := map[string][]table.Op{
		"no rows":                 {},
		"too many rows":           many,
		"a row too large":         {op(table.Insert, "a", large+"x", "")},
		"a transaction too large": {op(table.Put, "a", large, ""), op(table.Put, "b", large, ""), op(table.Put, "c", large, ""), op(table.Put, "d", large, "")},
		"a row twice":             {op(table.Insert, "a", "1", ""), op(table.Put, "a", "2", "")},
		"an update without ETag":  {op(table.Update, "there", "1", "")},
		"a delete without ETag":   {op(table.Delete, "there", "", "")},
		"an unknown operation":    {op(99, "a", "1", "")},
		"an empty key":            {op(table.Insert, "", "1", "")},
		"a long key":              {op(table.Insert, strings.Repeat("k", table.MaxKeyBytes+1), "1", "")},
	}
	for _, c := range []string{"/", "\\", "#", "?", "\x00", "\x1f", "\x7f", "'", "\xc3\xa9"} {
		cases[fmt.Sprintf("a key with %q", c)] = []table.Op{op(table.Insert, "a"+c+"b", "1", "")}
	}
	commit(t, s, op(table.Insert, "there", "v", ""))
	for name, ops := range cases {
		if err := s.Commit(context.Background(), partition, ops); !errors.Is(err, table.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	for _, p := range []string{"", "a/b", strings.Repeat("p", table.MaxKeyBytes+1)} {
		if err := s.Commit(context.Background(), p, []table.Op{op(table.Insert, "a", "1", "")}); !errors.Is(err, table.ErrInvalid) {
			t.Errorf("partition %q: %v, want ErrInvalid", p, err)
		}
	}
	if got := list(t, s, table.Query{From: "", To: "~"}); len(got) != 1 {
		t.Errorf("refused transactions left rows: %q", got)
	}
}

func atLimits(t *testing.T, s table.Store) {
	many := make([]table.Op, table.MaxOps)
	for i := range many {
		many[i] = op(table.Insert, fmt.Sprintf("k%d", i), "v", "")
	}
	commit(t, s, many...)
	large := bytes.Repeat([]byte{0, 0xff, 'x'}, table.MaxRowBytes/3)
	key := strings.Repeat("k", table.MaxKeyBytes)
	commit(t, s, table.Op{Kind: table.Insert, Key: key, Value: large}, table.Op{Kind: table.Insert, Key: "l1", Value: large},
		table.Op{Kind: table.Insert, Key: "l2", Value: large})
	if got := get(t, s, key); !bytes.Equal(got.Value, large) {
		t.Fatalf("the value of %d bytes came back as %d others", len(large), len(got.Value))
	}
	for i := range many {
		many[i] = table.Op{Kind: table.Put, Key: fmt.Sprintf("%0100d", i), Value: large[:table.MaxCommitBytes/table.MaxOps]}
	}
	commit(t, s, many...)
}

// lengths writes longer and shorter values in turns, so that nothing of a longer one may stay.
func lengths(t *testing.T, s table.Store) {
	const part = 64 << 10 // what a property of a row takes in Azure Table Storage
	for i, n := range []int{0, 1, 2 * part, 2, part, 3, part + 1, part - 1, table.MaxRowBytes, 3*part - 1, table.MaxRowBytes - 1, 0, 255} {
		want := make([]byte, n)
		for j := range want {
			want[j] = byte(j + j/255 + i)
		}
		commit(t, s, table.Op{Kind: table.Put, Key: "alone", Value: want})
		commit(t, s, table.Op{Kind: table.Put, Key: "a", Value: want}, op(table.Put, "b", "", ""))
		for _, key := range []string{"alone", "a"} {
			if got := get(t, s, key); !bytes.Equal(got.Value, want) {
				t.Fatalf("%d bytes of %q came back as %d others", n, key, len(got.Value))
			}
		}
		page, err := s.Range(context.Background(), partition, table.Query{From: "a", To: "b", Limit: table.MaxPage})
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range page.Rows {
			if !bytes.Equal(row.Value, want) {
				t.Fatalf("%d bytes of %q came back in a range as %d others", n, row.Key, len(row.Value))
			}
		}
	}
}

// allowedKeys has each byte that a key may have within a key and at the end of one, in each kind of request.
func allowedKeys(t *testing.T, s table.Store) {
	var keys []string
	for c := byte(0x20); c < 0x7f; c++ {
		if key := "a" + string(c); table.ValidateKey(key) == nil {
			keys = append(keys, key, key+"b")
		}
	}
	sort.Strings(keys)
	for start := 0; start < len(keys); start += 50 {
		var ops []table.Op
		for _, key := range keys[start:min(len(keys), start+50)] {
			ops = append(ops, op(table.Insert, key, key, ""))
		}
		commit(t, s, ops...)
	}
	if diff := cmp.Diff(keys, list(t, s, table.Query{From: "a", To: "b", Limit: 30})); diff != "" {
		t.Fatalf("keys (-want +got):\n%s", diff)
	}
	for i, key := range keys {
		row := get(t, s, key)
		if string(row.Value) != key {
			t.Fatalf("row %q has %q", key, row.Value)
		}
		if i%2 == 0 {
			commit(t, s, op(table.Update, key, "2", row.ETag))
			commit(t, s, op(table.Delete, key, "", get(t, s, key).ETag))
		} else {
			commit(t, s, op(table.Update, key, "2", row.ETag), op(table.Insert, "other", "", ""))
			commit(t, s, op(table.Delete, key, "", get(t, s, key).ETag), op(table.Delete, "other", "", table.Any))
		}
		absent(t, s, key)
	}
}

func allowedPartitions(t *testing.T, s table.Store) {
	ctx := context.Background()
	for c := byte(0x20); c < 0x7f; c++ {
		p := "p" + string(c) + "q"
		if table.ValidateKey(p) != nil {
			continue
		}
		if err := s.Commit(ctx, p, []table.Op{op(table.Put, "a", p, ""), op(table.Put, "b", p, "")}); err != nil {
			t.Fatalf("partition %q: %v", p, err)
		}
		page, err := s.Range(ctx, p, table.Query{From: "a", To: "c"})
		for err == nil && len(page.Rows) == 0 && page.Next != "" {
			page, err = s.Range(ctx, p, table.Query{From: "a", To: "c", Continue: page.Next})
		}
		if err != nil || len(page.Rows) == 0 || string(page.Rows[0].Value) != p {
			t.Fatalf("partition %q: %d rows, %v", p, len(page.Rows), err)
		}
	}
}

func bounds(t *testing.T, s table.Store) {
	keys := []string{"a", "a ", "a~", "a~~", "b", "b!"}
	for _, key := range keys {
		commit(t, s, op(table.Insert, key, "v", ""))
	}
	ends := []string{"", "\x00", "a\x00", "a\x1f", "a\x7f", "a\xff", "a~\x7f\x00", "a'", "b/", "b\x00x", "b\xc3\xa9", "\xff", "\x7f"}
	for _, from := range ends {
		for _, to := range ends {
			var want []string
			for _, key := range keys {
				if from <= key && key < to {
					want = append(want, key)
				}
			}
			if diff := cmp.Diff(want, list(t, s, table.Query{From: from, To: to})); diff != "" {
				t.Fatalf("range %q to %q (-want +got):\n%s", from, to, diff)
			}
		}
	}
}

func race(t *testing.T, s table.Store) {
	for round := range 20 {
		var won, lost atomic.Int32
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				err := s.Commit(context.Background(), partition, []table.Op{
					op(table.Insert, fmt.Sprintf("own-%d-%d", round, i), "v", ""), op(table.Insert, fmt.Sprintf("r%d", round), fmt.Sprint(i), ""),
				})
				switch {
				case err == nil:
					won.Add(1)
				case errors.Is(err, table.ErrExists):
					lost.Add(1)
				default:
					t.Errorf("insert: %v", err)
				}
			})
		}
		wg.Wait()
		winner := string(get(t, s, fmt.Sprintf("r%d", round)).Value)
		own := list(t, s, table.Query{From: fmt.Sprintf("own-%d-", round), To: fmt.Sprintf("own-%d.", round)})
		if won.Load() != 1 || lost.Load() != 15 || len(own) != 1 || own[0] != fmt.Sprintf("own-%d-%s", round, winner) {
			t.Fatalf("%d won, %d lost, %s stands, beside it %q", won.Load(), lost.Load(), winner, own)
		}
	}
}

func updateRace(t *testing.T, s table.Store) {
	commit(t, s, op(table.Insert, "n", "0", ""))
	var wg sync.WaitGroup
	var done atomic.Int32
	for range 8 {
		wg.Go(func() {
			for range 10 {
				row := get(t, s, "n")
				var n int
				_, _ = fmt.Sscan(string(row.Value), &n)
				err := s.Commit(context.Background(), partition, []table.Op{op(table.Update, "n", fmt.Sprint(n+1), row.ETag)})
				if err == nil {
					done.Add(1)
				} else if !errors.Is(err, table.ErrChanged) {
					t.Errorf("update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if got, want := string(get(t, s, "n").Value), fmt.Sprint(done.Load()); got != want {
		t.Fatalf("counted to %s in %s updates", got, want)
	}
}

func partitions(t *testing.T, s table.Store) {
	ctx := context.Background()
	names := []string{"p", "p-", "p1", "q"}
	for _, p := range names {
		if err := s.Commit(ctx, p, []table.Op{op(table.Insert, "a", p, "")}); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range names {
		row, err := s.Get(ctx, p, "a")
		if err != nil || string(row.Value) != p {
			t.Fatalf("partition %q has %q, %v", p, row.Value, err)
		}
		n := 0
		if err := table.All(ctx, s, p, table.Query{From: "", To: "~"}, func(table.Row) bool { n++; return true }); err != nil || n != 1 {
			t.Fatalf("partition %q has %d rows, %v", p, n, err)
		}
	}
	if _, err := s.Get(ctx, "nowhere", "a"); !errors.Is(err, table.ErrNotFound) {
		t.Fatalf("get from an empty partition: %v", err)
	}
}

func ownership(t *testing.T, s table.Store) {
	value := []byte("first")
	commit(t, s, table.Op{Kind: table.Put, Key: "a", Value: value})
	copy(value, "other")
	got := get(t, s, "a")
	if string(got.Value) != "first" {
		t.Fatalf("the store kept the caller's slice: %q", got.Value)
	}
	commit(t, s, op(table.Put, "a", "other", ""))
	if string(got.Value) != "first" {
		t.Fatalf("a row that was read changed to %q", got.Value)
	}
}

func reopen(t *testing.T, a Adapter) {
	s := a.New(t)
	seen := map[string]bool{}
	for i := range 5 {
		for j := range 10 {
			commit(t, s, op(table.Put, "a", fmt.Sprintf("%d-%d", i, j), ""), op(table.Insert, fmt.Sprintf("k%d-%d", i, j), "v", ""))
			tag := get(t, s, "a").ETag
			if seen[tag] {
				t.Fatalf("ETag %q again", tag)
			}
			seen[tag] = true
		}
		before := get(t, s, "a")
		s = a.Reopen(t, s)
		if diff := cmp.Diff(before, get(t, s, "a")); diff != "" {
			t.Fatalf("after reopening (-before +after):\n%s", diff)
		}
	}
	if got := list(t, s, table.Query{From: "k", To: "l"}); len(got) != 50 {
		t.Fatalf("%d rows after reopening, want 50", len(got))
	}
}
