package pebble_test

import (
	"testing"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/pebble"
)

func open(t *testing.T, dir string) *pebble.Store {
	t.Helper()
	s, err := pebble.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPebbleKeepsTheContract(t *testing.T) {
	dirs := map[table.Store]string{}
	stores := map[string]*pebble.Store{}
	t.Cleanup(func() {
		for _, s := range stores {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	at := func(t *testing.T, dir string) table.Store {
		s := open(t, dir)
		dirs[s], stores[dir] = dir, s
		return s
	}
	contract.Run(t, contract.Adapter{
		New: func(t *testing.T) table.Store { return at(t, tempDir(t)) },
		Reopen: func(t *testing.T, s table.Store) table.Store {
			dir := dirs[s]
			if err := stores[dir].Close(); err != nil {
				t.Fatal(err)
			}
			return at(t, dir)
		},
	})
}

// tempDir is a directory that outlives the subtest which asked for it.
func tempDir(t *testing.T) string {
	t.Helper()
	return t.TempDir()
}
