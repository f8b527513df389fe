package local

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

// Rows counts the rows in the store of a data directory by partition, which begins with the cluster's name.
// Nobody may have it open.
func Rows(t testing.TB, dir string) map[string]int {
	t.Helper()
	db, err := pebble.Open(filepath.Join(DataDir(dir), "store"), &pebble.Options{ReadOnly: true, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = it.Close() }()
	rows := map[string]int{}
	for ok := it.First(); ok; ok = it.Next() {
		partition, _, _ := bytes.Cut(it.Key(), []byte{0})
		rows[string(partition)]++
	}
	if err := it.Error(); err != nil {
		t.Fatal(err)
	}
	return rows
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}
