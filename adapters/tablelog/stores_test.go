package tablelog

import (
	"flag"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/table/pebble"
	"github.com/zeroplane/zeroplane/tests/azurite"
	"github.com/zeroplane/zeroplane/tests/azurite/limits"
)

// kind is a kind of table that the tests run over.
type kind struct {
	// open returns a new one.
	open func(t testing.TB) table.Store
	// far tables take milliseconds for what others do in microseconds.
	far bool
	// checks is how often the short form tries a property, 0 for as often as rapid does.
	checks int
}

var kinds = map[string]kind{
	"memory": {open: func(testing.TB) table.Store { return memory.New() }},
	"pebble": {open: func(t testing.TB) table.Store {
		s, err := pebble.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}, checks: 25},
	"Azurite": {far: true, checks: 3, open: func(t testing.TB) table.Store { return azurite.Open(t, nil) }},
	// Transactions are refused and their replies lost, pages are short: what is committed is still committed once.
	"Azurite behind limits": {far: true, checks: 3, open: func(t testing.TB) table.Store {
		limited := limits.New(nil, limits.Options{Seed: 1})
		s := azurite.Open(t, limited)
		limited.SetFaults(limits.Faults{ShortPages: 0.3, EmptyPages: 0.1, Busy: 0.01, Unconnected: 0.01})
		return s
	}},
}

// over runs a test over every kind of table.
func over(t *testing.T, test func(t *testing.T, k kind)) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(name, func(t *testing.T) { test(t, kinds[name]) })
	}
}

// few returns how often to do something over this kind: fewer times where it takes long, except in the long form.
func (k kind) few(n int) int {
	if k.far && os.Getenv("ZEROPLANE_LONG") == "" {
		return max(1, n/10)
	}
	return n
}

// fewChecks lowers the number of runs of a property for the rest of a test.
func (k kind) fewChecks(t *testing.T) {
	t.Helper()
	checks := flag.Lookup("rapid.checks")
	before := checks.Value.String()
	n := k.checks
	if os.Getenv("ZEROPLANE_LONG") != "" {
		n *= 10
	}
	if n > 0 {
		if err := checks.Value.Set(strconv.Itoa(n)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = checks.Value.Set(before) })
}
