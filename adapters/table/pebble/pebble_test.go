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
	contract.Run(t, contract.Adapter{
		New: func(t *testing.T) table.Store {
			dir := t.TempDir()
			s := open(t, dir)
			dirs[s] = dir
			t.Cleanup(func() {
				if dirs[s] != "" {
					_ = s.Close()
				}
			})
			return s
		},
		Reopen: func(t *testing.T, s table.Store) table.Store {
			dir := dirs[s]
			delete(dirs, s)
			if err := s.(*pebble.Store).Close(); err != nil {
				t.Fatal(err)
			}
			next := open(t, dir)
			dirs[next] = dir
			t.Cleanup(func() {
				if dirs[next] != "" {
					_ = next.Close()
				}
			})
			return next
		},
	})
}
