package startup

import (
	"runtime"
	"syscall"
	"unsafe"
)

const (
	// heapSize is what starting allocates, and more.
	heapSize = 96 << 20
	// hugePage is the size of a huge page on amd64 and arm64.
	hugePage = 2 << 20
)

// hugePages has the heap begin in huge pages: the kernel then meets a page of it for the first time some
// forty times instead of ten thousand times, which is a third of the time to the first answer. What it
// returns has the kernel use small pages again, so that memory given back stays given back.
//
// A block is allocated, its addresses are marked, and it is freed: the collector hands out the same
// addresses next. A kernel without huge pages refuses, and nothing is lost.
func hugePages() (undo func()) {
	// Not touched, it takes addresses, not memory.
	block := make([]byte, heapSize)
	address := uintptr(unsafe.Pointer(unsafe.SliceData(block))) //nolint:gosec // for the kernel: nothing is read or written through it
	start := (address + hugePage - 1) &^ (hugePage - 1)
	advise := func(advice uintptr) {
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, start, heapSize-hugePage, advice)
	}
	advise(syscall.MADV_HUGEPAGE)
	runtime.KeepAlive(block)
	go runtime.GC() // meanwhile packages are initialised
	return func() { advise(syscall.MADV_NOHUGEPAGE) }
}
