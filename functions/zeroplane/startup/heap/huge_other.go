//go:build !linux

package heap

func hugePages() (undo func()) { return func() {} }
