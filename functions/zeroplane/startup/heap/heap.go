// Package heap prepares a server's heap before the packages of Kubernetes are initialised, which allocate a
// hundred megabytes. It depends on os alone: packages are initialised in the order of their paths as soon as
// what they import is, so with runtime/debug among its imports it came after half of them.
package heap

import (
	"os"
	"runtime"
)

// ballastSize is what a cluster at rest has in the heap, in bytes.
const ballastSize = 32 << 20

var (
	// profileRate is how much is allocated between two samples of the heap profile, in bytes.
	profileRate = runtime.MemProfileRate
	// ballast is never touched, so it takes addresses and no memory. The collector counts it: it runs half as
	// often while the heap is as small as that of one cluster, and hardly less often when it is large. It is
	// allocated before prepare gives its block back, since addresses that were used are cleared first.
	ballast    = make([]byte, ballastSize)
	smallPages = prepare()
)

func prepare() (undo func()) {
	if len(os.Args) < 2 || os.Args[1] != "serve" && os.Args[1] != "host" {
		return func() {}
	}
	// Samples of what starting allocates cost a tenth of its page faults.
	runtime.MemProfileRate = 0
	return hugePages()
}

// Profile has what is allocated from now on be seen in the heap profile.
func Profile() {
	runtime.MemProfileRate = profileRate
	runtime.KeepAlive(ballast)
}

// SmallPages has the kernel use small pages from now on, so that memory given back stays given back.
func SmallPages() { smallPages() }
