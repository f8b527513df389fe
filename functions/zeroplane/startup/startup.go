// Package startup makes the program start fast. It is imported first and depends on nothing of Kubernetes,
// so that it is initialised before those packages, whose own initialisation is a third of a start.
//
// The garbage collector is off until the program has started: what starting allocates stays, so that
// collecting then finds nothing, and costs a quarter of the time to the first answer. And a server's heap
// begins in huge pages: see the package heap.
package startup

import (
	"runtime/debug"
	"time"

	"github.com/zeroplane/zeroplane/functions/zeroplane/startup/heap"
)

const (
	// settling is how long a server goes on starting after its first answers: it adds API groups, and
	// clients discover them.
	settling = 2 * time.Second
	// settlingLimit of memory, in bytes, is where the collector is needed even so.
	settlingLimit = 1 << 30
)

var (
	// percent and limit are the collector's settings.
	percent = debug.SetGCPercent(-1)
	limit   = debug.SetMemoryLimit(settlingLimit)
)

// Done turns the garbage collector on.
func Done() {
	debug.SetGCPercent(percent)
	debug.SetMemoryLimit(limit)
	heap.Profile()
}

// Served is called when a server answers. A little later the garbage collector is turned on, and gives
// back what starting no longer needs. One that has the memory of a whole machine has room for bursts.
func Served(machine bool) {
	time.AfterFunc(settling, func() {
		Done()
		if machine {
			roomy()
		}
		debug.FreeOSMemory()
		heap.SmallPages()
	})
}
