package etcd3

import (
	"flag"
	"os"
	"testing"

	"pgregory.net/rapid"
)

// Histories of the short and of the long form.
const (
	shortHistories = "300"
	longHistories  = "5000"
)

func TestHistoriesAreAsUpstreamsStorageHasThem(t *testing.T) {
	n := shortHistories
	if os.Getenv("ZEROPLANE_LONG") != "" {
		n = longHistories
	}
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := flag.Set("rapid.nofailfile", "true"); err != nil { // a seed is printed
		t.Fatal(err)
	}
	p := startPeer(t)
	rapid.Check(t, func(rt *rapid.T) {
		h := histories.Draw(rt, "history")
		peers, err := p.newTheirs()
		if err != nil {
			rt.Fatal(err)
		}
		if err := run(t.Context(), h, newOurs(h.Layout, h.Seed), peers); err != nil {
			rt.Fatal(err)
		}
	})
}
