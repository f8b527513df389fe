// Command engines measures fsynced commits on the embedded engines that zeroplane could stand on:
// bbolt, Pebble and SQLite. Its figures are in docs/embedded-engine.md.
package main

import (
	"crypto/rand"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	bolt "go.etcd.io/bbolt"
	_ "modernc.org/sqlite"
)

const (
	rowBytes = 700 // a ConfigMap's object row or log row
	rounds   = 1000
)

// engine commits rows durably and can be closed.
type engine interface {
	commit(keys []string, value []byte) error
	scan(from, to string) (int, error)
	close() error
}

func main() {
	for _, name := range []string{"bbolt", "pebble", "sqlite"} {
		for _, writes := range []int{1, 16, 50} {
			if err := measure(name, writes); err != nil {
				fmt.Fprintln(os.Stderr, name, err)
				os.Exit(1)
			}
		}
	}
}

func measure(name string, writes int) error {
	dir, err := os.MkdirTemp(os.Getenv("ENGINES_DIR"), "engines")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	e, err := open(name, dir)
	if err != nil {
		return err
	}
	value := make([]byte, rowBytes)
	var took []time.Duration
	rev := 0
	start := time.Now()
	for range rounds {
		rand.Read(value)
		var keys []string
		for range writes {
			rev++
			keys = append(keys, fmt.Sprintf("l/%020d", rev), fmt.Sprintf("o/configmaps/default/c%d", rev%5000))
		}
		sort.Strings(keys)
		t := time.Now()
		if err := e.commit(keys, value); err != nil {
			return err
		}
		took = append(took, time.Since(t))
	}
	total := time.Since(start)
	sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
	t := time.Now()
	for range 1000 {
		if _, err := e.scan(fmt.Sprintf("l/%020d", rev+1), "l0"); err != nil {
			return err
		}
	}
	tail := time.Since(t) / 1000
	if err := e.close(); err != nil {
		return err
	}
	var size int64
	filepath.Walk(dir, func(_ string, i os.FileInfo, _ error) error { size += i.Size(); return nil })
	t = time.Now()
	if e, err = open(name, dir); err != nil {
		return err
	}
	opened := time.Since(t)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Printf("%-7s %3d writes/commit: commit p50 %7v p99 %8v, %6.0f writes/s, empty tail read %6v, reopen %7v, disk %4d MiB, rss %s\n",
		name, writes, took[len(took)/2].Round(time.Microsecond), took[len(took)*99/100].Round(time.Microsecond),
		float64(rev)/total.Seconds(), tail, opened.Round(100*time.Microsecond), size>>20, rss())
	return e.close()
}

func rss() string {
	b, _ := os.ReadFile("/proc/self/status")
	for _, l := range strings.Split(string(b), "\n") {
		if strings.HasPrefix(l, "VmRSS") {
			return strings.Join(strings.Fields(l)[1:], " ")
		}
	}
	return ""
}

func open(name, dir string) (engine, error) {
	switch name {
	case "bbolt":
		return openBolt(dir)
	case "pebble":
		db, err := pebble.Open(dir, &pebble.Options{MemTableSize: 4 << 20, Logger: quiet{}})
		return pebbleEngine{db}, err
	default:
		return openSQLite(dir)
	}
}

type quiet struct{}

func (quiet) Infof(string, ...any)      {}
func (quiet) Errorf(string, ...any)     {}
func (quiet) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

type boltEngine struct{ db *bolt.DB }

func openBolt(dir string) (engine, error) {
	db, err := bolt.Open(filepath.Join(dir, "db"), 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType, NoFreelistSync: true})
	if err != nil {
		return nil, err
	}
	return boltEngine{db}, db.Update(func(tx *bolt.Tx) error { _, err := tx.CreateBucketIfNotExists([]byte("p")); return err })
}

func (e boltEngine) commit(keys []string, value []byte) error {
	return e.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("p"))
		for _, k := range keys {
			if err := b.Put([]byte(k), value); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e boltEngine) scan(from, to string) (n int, err error) {
	return n, e.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte("p")).Cursor()
		for k, _ := c.Seek([]byte(from)); k != nil && string(k) < to; k, _ = c.Next() {
			n++
		}
		return nil
	})
}
func (e boltEngine) close() error { return e.db.Close() }

type pebbleEngine struct{ db *pebble.DB }

func (e pebbleEngine) commit(keys []string, value []byte) error {
	b := e.db.NewBatch()
	for _, k := range keys {
		if err := b.Set([]byte(k), value, nil); err != nil {
			return err
		}
	}
	return b.Commit(pebble.Sync)
}

func (e pebbleEngine) scan(from, to string) (n int, err error) {
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: []byte(from), UpperBound: []byte(to)})
	if err != nil {
		return 0, err
	}
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	return n, it.Close()
}
func (e pebbleEngine) close() error { return e.db.Close() }

type sqliteEngine struct{ db *sql.DB }

func openSQLite(dir string) (engine, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	_, err = db.Exec("create table if not exists r (k text primary key, v blob) without rowid")
	return sqliteEngine{db}, err
}

func (e sqliteEngine) commit(keys []string, value []byte) error {
	tx, err := e.db.Begin()
	if err != nil {
		return err
	}
	st, err := tx.Prepare("insert into r values (?,?) on conflict(k) do update set v=excluded.v")
	if err != nil {
		return err
	}
	for _, k := range keys {
		if _, err := st.Exec(k, value); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (e sqliteEngine) scan(from, to string) (n int, err error) {
	return n, e.db.QueryRow("select count(*) from r where k>=? and k<?", from, to).Scan(&n)
}
func (e sqliteEngine) close() error { return e.db.Close() }
