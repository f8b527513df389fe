package startup

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// headroom is by how much the heap of a server may grow before it is collected, in bytes, or by as much again as there is if that is
	// more. A small heap that doubles is collected dozens of times in a burst, which is a fifth of the burst's time; what is left of it is
	// given back when it is over (functions/localhost/memory.go).
	headroom = 384 << 20
	// usual is how much a heap grows by when nobody says otherwise, in per cent.
	usual = 100
	// worthwhile is which change of that is worth stopping for, in per cent.
	worthwhile = 10
)

// roomy has the collector leave headroom, unless the environment says how often it is to run: $GOMEMLIMIT holds in any case.
func roomy() {
	if os.Getenv("GOGC") != "" {
		return
	}
	(&collections{percent: usual}).next()
}

// collections is told of each, so that nothing has to look.
type collections struct{ percent int }

// next waits for the collection that finds what it leaves behind.
func (c *collections) next() {
	left := &struct{ of *collections }{c}
	runtime.SetFinalizer(left, func(left *struct{ of *collections }) { left.of.ended() })
}

func (c *collections) ended() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := percentFor(live[0].Value.Uint64())
	if change := percent - c.percent; change > worthwhile || change < -worthwhile {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
	c.next()
}

// percentFor is by how much a heap may grow of which so many bytes are in use.
func percentFor(live uint64) int {
	return max(usual, int(headroom*100/max(live, 1<<20))) //nolint:gosec // at most 38,400
}
