package startup

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// TestASmallHeapIsCollectedSeldom, and a large one as often as any.
func TestASmallHeapIsCollectedSeldom(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 38_400}, {96 << 20, 400}, {384 << 20, 100}, {4 << 30, 100}} {
		if got := percentFor(c.live); got != c.want {
			t.Errorf("a heap of %d MiB may grow by %d%%, want %d%%", c.live>>20, got, c.want)
		}
	}
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	t.Setenv("GOGC", "")
	roomy()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		now := debug.SetGCPercent(100)
		if now > usual {
			return
		}
		if time.Since(start) > 10*time.Second {
			t.Fatalf("after collections the heap of a test may grow by %d%%", now)
		}
	}
}
