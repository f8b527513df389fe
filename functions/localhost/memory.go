package localhost

import (
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// giveBackAfter a cluster settled, memory that is not used any more is given back.
	giveBackAfter = 2 * time.Second
	// giveBackMin is what must be free for that to be worth a collection, in bytes.
	giveBackMin = 64 << 20
)

// memory gives back to the operating system what a burst of work has left, once, when it is over.
// The runtime by itself would keep it for minutes.
type memory struct {
	mu    sync.Mutex
	timer *time.Timer
}

// settled is called when a cluster has nothing more to do.
func (m *memory) settled() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.timer == nil {
		m.timer = time.AfterFunc(giveBackAfter, giveBack)
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

func giveBack() {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	unused := samples[0].Value.Uint64() + samples[1].Value.Uint64() - min(samples[2].Value.Uint64(), samples[1].Value.Uint64())
	if unused > giveBackMin {
		debug.FreeOSMemory()
	}
}
