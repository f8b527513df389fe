package heap

import (
	"runtime"
	"syscall"
	"unsafe"
)

const (
	// size is what starting allocates, and more.
	size = 96 << 20
	// hugePage is the size of a huge page on amd64 and arm64.
	hugePage = 2 << 20
)

// hugePages has the heap begin in huge pages: the kernel then meets a page of it for the first time some
// forty times instead of ten thousand times, which is a third of the time to the first answer.
//
// A block is allocated, its addresses are marked, and it is freed: the collector hands out the same
// addresses next. A kernel without huge pages refuses, and nothing is lost.
func hugePages() (undo func()) {
	// Not touched, it takes addresses, not memory.
	address := uintptr(unsafe.Pointer(unsafe.SliceData(make([]byte, size)))) //nolint:gosec // for the kernel: nothing is read or written through it
	start := (address + hugePage - 1) &^ (hugePage - 1)
	advise := func(advice uintptr) {
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, start, size-hugePage, advice)
	}
	advise(syscall.MADV_HUGEPAGE)
	go runtime.GC() // there is little to collect yet, and meanwhile packages are initialised
	return func() { advise(syscall.MADV_NOHUGEPAGE) }
}
