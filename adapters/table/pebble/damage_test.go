package pebble_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/pebble"
)

// holderEnv makes this test binary a process that opens the directory it names and reports how.
const holderEnv = "ZEROPLANE_TEST_OPEN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holderEnv); dir != "" {
		_, err := pebble.Open(dir)
		fmt.Println(errors.Is(err, pebble.ErrLocked))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestASecondOpenerGetsErrLocked(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := pebble.Open(dir); !errors.Is(err, pebble.ErrLocked) {
		t.Errorf("in this process: %v", err)
	}
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), holderEnv+"="+dir)
	out, err := other.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "true" {
		t.Errorf("from another process: %q, %v", out, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
}

const part = "cluster|group"

func key(i int) string { return fmt.Sprintf("key-%04d", i) }

func value(i int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("%08d", i*7919)), 30) }

func put(t testing.TB, s *pebble.Store, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := s.Commit(context.Background(), part, []table.Op{{Kind: table.Put, Key: key(i), Value: value(i)}}); err != nil {
			t.Fatal(err)
		}
	}
}

// crash copies the files of an open store, as a machine leaves them that stops.
func crash(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// read opens a directory and returns the keys it has, failing the test at a wrong value.
func read(t *testing.T, dir string) (int, error) {
	t.Helper()
	s, err := pebble.Open(dir)
	if err != nil {
		return 0, err
	}
	defer func() { _ = s.Close() }()
	n := 0
	err = table.All(context.Background(), s, part, table.Query{From: "key-", To: "key."}, func(row table.Row) bool {
		if row.Key != key(n) || !bytes.Equal(row.Value, value(n)) {
			t.Errorf("row %q at place %d is wrong", row.Key, n)
			return false
		}
		n++
		return true
	})
	return n, err
}

// files is what a directory holds, but for the lock, which is empty and made by looking.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "LOCK" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = fmt.Sprintf("%d %x", len(data), sha256.Sum256(data))
	}
	return out
}

// newest returns the last file of a pattern that is not empty.
func newest(t *testing.T, dir, pattern string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Backward(paths) {
		if info, err := os.Stat(path); err == nil && info.Size() > 0 {
			return path
		}
	}
	t.Fatalf("no file %s in %s", pattern, dir)
	return ""
}

func flip(t *testing.T, path string, at int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= 0x55
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// damaged checks one flipped byte: either nothing is lost, or ErrCorrupt names the file and no file
// was altered by finding that out.
func damaged(t *testing.T, dir, pattern string, at, rows int) (found bool) {
	t.Helper()
	dir = crash(t, dir)
	path := newest(t, dir, pattern)
	flip(t, path, at)
	before := files(t, dir)
	n, err := read(t, dir)
	switch {
	case err == nil && n == rows:
		return false
	case err == nil:
		t.Errorf("%s with byte %d flipped: %d of %d rows and no error", filepath.Base(path), at, n, rows)
	case !errors.Is(err, table.ErrCorrupt):
		t.Errorf("%s with byte %d flipped: %v, want ErrCorrupt", filepath.Base(path), at, err)
	case !strings.Contains(err.Error(), number(path)):
		t.Errorf("%s with byte %d flipped: %v does not name it", filepath.Base(path), at, err)
	case pattern != "*.sst":
		if diff := cmp.Diff(before, files(t, dir)); diff != "" {
			t.Errorf("%s with byte %d flipped: opening altered files:\n%s", filepath.Base(path), at, diff)
		}
	}
	return true
}

// number is the number in a file's name, by which Pebble calls its files.
func number(path string) string {
	return strings.Trim(filepath.Base(path), "MANIFEST-.logst")
}

func TestDamageInTheMiddleOfTheLogIsFound(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, 0, 300)
	stopped := crash(t, dir)
	size := fileSize(t, newest(t, stopped, "*.log"))
	if n, err := read(t, crash(t, stopped)); err != nil || n != 300 {
		t.Fatalf("undamaged: %d rows, %v", n, err)
	}
	_ = s.Close()
	found := 0
	used := 300 * (len(value(0)) + 40)
	for at := 0; at < min(size, used)*9/10; at += 1009 {
		if damaged(t, stopped, "*.log", at, 300) {
			found++
		}
	}
	if found < 40 {
		t.Errorf("only %d flipped bytes were found", found)
	}
}

// sparse is how many places of a file count as one: n, or 1 in the long form.
func sparse(n int) int {
	if os.Getenv("ZEROPLANE_LONG") != "" {
		return 1
	}
	return n
}

// TestDamageIsFoundInALogOfManyBlocks writes records that fill blocks of the log, of which Pebble's own marks
// of what was synced leave out more and more. Only the last records can be taken for a torn end.
func TestDamageIsFoundInALogOfManyBlocks(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ends := make([]int, 60)
	var log string
	for i := range ends {
		ops := []table.Op{{Kind: table.Put, Key: key(i), Value: value(i)}}
		if i%3 == 0 {
			ops = append(ops, table.Op{Kind: table.Put, Key: "other-" + key(i), Value: bytes.Repeat([]byte{byte(i)}, i*701)})
		}
		if err := s.Commit(context.Background(), part, ops); err != nil {
			t.Fatal(err)
		}
		log = newest(t, dir, "*.log")
		data, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = len(bytes.TrimRight(data, "\x00"))
	}
	stopped := crash(t, dir)
	_ = s.Close()
	for i := 1; i < len(ends)-3; i++ {
		for n, at := range []int{ends[i-1] + 1, ends[i-1] + 40, (ends[i-1] + ends[i]) / 2, ends[i] - 1} {
			if (i+n)%sparse(4) > 0 {
				continue
			}
			if !damaged(t, stopped, "*.log", at, len(ends)) {
				t.Errorf("byte %d of record %d was flipped and not found", at, i)
			}
		}
	}
}

// TestCommitsAtTheSameTimeProveNoTornEndDamaged cuts, in the records of commits that shared syncs, what was
// never proven to be synced: the log must open.
func TestCommitsAtTheSameTimeProveNoTornEndDamaged(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 40 {
				err := s.Commit(context.Background(), fmt.Sprint("part-", w), []table.Op{{Kind: table.Put, Key: key(i), Value: bytes.Repeat(value(i), 1+i%20)}})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	stopped := crash(t, dir)
	_ = s.Close()
	path := newest(t, stopped, "*.log")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.TrimRight(data, "\x00")
	for cut := len(data) / 2; cut < len(data); cut += 1013 * sparse(4) {
		again := crash(t, stopped)
		// What follows a torn record is not there, or is zeros.
		if err := os.WriteFile(newest(t, again, "*.log"), append(bytes.Clone(data[:cut]), make([]byte, len(data)-cut)...), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := pebble.Open(again)
		if err != nil {
			t.Fatalf("cut at %d of %d: %v", cut, len(data), err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAMissingMarkerIsNoNewDirectory(t *testing.T) {
	dir := closed(t)
	for _, pattern := range []string{"marker.manifest*", "MANIFEST-*", "*.log"} {
		stopped := crash(t, dir)
		paths, err := filepath.Glob(filepath.Join(stopped, pattern))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v, %v", pattern, paths, err)
		}
		for _, path := range paths {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		before := files(t, stopped)
		if n, err := read(t, stopped); !errors.Is(err, table.ErrCorrupt) {
			t.Errorf("without %s: %d rows, %v, want ErrCorrupt", pattern, n, err)
		}
		if diff := cmp.Diff(before, files(t, stopped)); diff != "" {
			t.Errorf("without %s: opening altered files:\n%s", pattern, diff)
		}
	}
}

// TestADirectoryThatWasBeingMadeOpens stops the making of directories at places where files come and go.
func TestADirectoryThatWasBeingMadeOpens(t *testing.T) {
	seen := map[string]string{} // what was there to a copy of it
	for range 200 {
		if watchMaking(t, seen); len(seen) >= 3 {
			break
		}
	}
	for list, copied := range seen {
		if n, err := read(t, copied); err != nil || n != 0 {
			t.Errorf("stopped with %q: %d rows, %v", list, n, err)
		}
	}
	if len(seen) < 3 {
		t.Errorf("only %d places were seen", len(seen))
	}
}

// watchMaking copies a directory while it is being made, at each place where it is quick enough.
func watchMaking(t *testing.T, seen map[string]string) {
	t.Helper()
	dir := t.TempDir()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if s, err := pebble.Open(dir); err != nil {
			t.Error(err)
		} else if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for making := true; making; {
		select {
		case <-done:
			making = false
		default:
		}
		list := names(t, dir)
		if seen[list] != "" {
			continue
		}
		to := t.TempDir()
		if err := os.CopyFS(to, os.DirFS(dir)); err == nil && names(t, dir) == list {
			seen[list] = to // nothing came or went meanwhile
		}
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

// TestALogOfAnySizesOpensAfterACrash writes records that end at many places of the log's blocks.
func TestALogOfAnySizesOpensAfterACrash(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ctx := context.Background()
	written := map[string]int{}
	for i := range 400 {
		size := (i*131 + i*i*7) % 9000
		if i%3 == 0 {
			size = 32<<10 - 200 + i%200
		}
		if err := s.Commit(ctx, part, []table.Op{{Kind: table.Put, Key: key(i), Value: bytes.Repeat([]byte{byte(i)}, size)}}); err != nil {
			t.Fatal(err)
		}
		written[key(i)] = size
		if i%10 != 0 {
			continue
		}
		again, err := pebble.Open(crash(t, dir))
		if err != nil {
			t.Fatalf("after %d rows: %v", i, err)
		}
		for k, size := range written {
			if row, err := again.Get(ctx, part, k); err != nil || len(row.Value) != size {
				t.Fatalf("after %d rows: row %q: %d bytes, %v, want %d", i, k, len(row.Value), err, size)
			}
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.Close()
}

func fileSize(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Size())
}

func TestATornEndOfTheLogOpensWithWhatCameBefore(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, 0, 50)
	path := newest(t, dir, "*.log")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := len(bytes.TrimRight(data, "\x00"))
	put(t, s, 50, 51)
	data, err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := len(bytes.TrimRight(data, "\x00"))
	for cut := end + 1; cut < last; cut += 37 {
		stopped := crash(t, dir)
		if err := os.Truncate(newest(t, stopped, "*.log"), int64(cut)); err != nil {
			t.Fatal(err)
		}
		if n, err := read(t, stopped); err != nil || n != 50 {
			t.Fatalf("cut at %d of %d to %d: %d rows, %v, want 50", cut, end, last, n, err)
		}
		if n, err := read(t, stopped); err != nil || n != 50 {
			t.Fatalf("opened again: %d rows, %v", n, err)
		}
	}
	_ = s.Close()
}

// closed is a directory whose rows are all in table files, after some openings.
func closed(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i := range 3 {
		s := open(t, dir)
		put(t, s, i*100, i*100+100)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDamageOfTheManifestIsFoundAndNothingIsAltered(t *testing.T) {
	dir := closed(t)
	size := fileSize(t, newest(t, dir, "MANIFEST-*"))
	for at := range size {
		if !damaged(t, dir, "MANIFEST-*", at, 300) {
			t.Errorf("byte %d of %d was flipped and not found", at, size)
		}
	}
}

func TestATornEndOfTheManifestOpens(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, 0, 20)
	stopped := crash(t, dir) // its log holds all rows
	_ = s.Close()
	path := newest(t, stopped, "MANIFEST-*")
	size := fileSize(t, path)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte{1, 2, 3, 4, 200, 0, 1, 9, 9, 9}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := read(t, stopped); err != nil || n != 20 {
		t.Fatalf("manifest of %d bytes and a torn chunk: %d rows, %v", size, n, err)
	}
}

func TestDamageOfATableFileIsFoundWhenRead(t *testing.T) {
	dir := closed(t)
	size := fileSize(t, newest(t, dir, "*.sst"))
	found, step := 0, 13*sparse(5)
	for at := 0; at < size; at += step {
		if damaged(t, dir, "*.sst", at, 300) {
			found++
		}
	}
	if found < size/step/2 {
		t.Errorf("only %d of %d flipped bytes were found", found, size/step)
	}
}

func TestAMissingTableFileIsFound(t *testing.T) {
	dir := closed(t)
	if err := os.Remove(newest(t, dir, "*.sst")); err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	if n, err := read(t, dir); !errors.Is(err, table.ErrCorrupt) {
		t.Errorf("%d rows, %v, want ErrCorrupt", n, err)
	}
	if diff := cmp.Diff(before, files(t, dir)); diff != "" {
		t.Errorf("opening altered files:\n%s", diff)
	}
}

// The log of a database is begun anew by its first opening, which may be killed just between the two.
func TestADirectoryWithoutALogOpensIfItWasNeverOpened(t *testing.T) {
	dir := t.TempDir()
	s, err := pebble.Open(dir)
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, log := range glob(t, dir, "*.log") {
		if err := os.Remove(log); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := read(t, dir); !errors.Is(err, table.ErrCorrupt) {
		t.Errorf("a store that lost its log opens: %v", err)
	}

	manifest := filepath.Base(newest(t, dir, "MANIFEST-*"))
	for _, options := range glob(t, dir, "OPTIONS-*") {
		if strings.TrimPrefix(filepath.Base(options), "OPTIONS-") > strings.TrimPrefix(manifest, "MANIFEST-") {
			if err := os.Remove(options); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "MANIFEST-000001"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := read(t, dir); err != nil || n != 0 {
		t.Errorf("one that was being made does not: %d rows, %v", n, err)
	}
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}
