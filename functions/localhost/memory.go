package localhost

import (
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// giveBackAfter a cluster settled or went to sleep, memory that is not used any more is given back.
	giveBackAfter = 2 * time.Second
	// giveBackMin is what must have been allocated since for that to be worth a collection, in bytes.
	giveBackMin = 64 << 20
)

// memory gives back to the operating system what a burst of work has left, once, when it is over.
// The runtime by itself would keep it for minutes, and caches would keep what was of use in the burst.
type memory struct {
	// trim drops what can be made again.
	trim func()
	// used is when a request last began or ended.
	used func() time.Time

	mu    sync.Mutex
	timer *time.Timer
	// allocated is the number of bytes that had been allocated when memory was last given back.
	allocated uint64
}

// quieter is called when a cluster has nothing more to do, or sleeps.
func (h *Host) quieter() {
	if !h.opts.Front.Freezes && !h.opts.KeepMemory {
		h.memory.later()
	}
}

// later gives back in a while, or puts off what was to be given back before.
func (m *memory) later() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.timer == nil {
		m.timer = time.AfterFunc(giveBackAfter, m.giveBack)
		return
	}
	m.timer.Reset(giveBackAfter)
}

func (m *memory) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.timer != nil {
		m.timer.Stop()
	}
}

// giveBack waits for a pause in the requests: it is for rest, and would have them make again what it drops.
func (m *memory) giveBack() {
	if time.Since(m.used()) < giveBackAfter {
		m.later()
		return
	}
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	m.mu.Lock()
	defer m.mu.Unlock()
	if allocated := sample[0].Value.Uint64(); allocated-m.allocated >= giveBackMin {
		m.allocated = allocated
		m.trim()
		debug.FreeOSMemory()
	}
}
