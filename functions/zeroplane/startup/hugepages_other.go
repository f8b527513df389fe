//go:build !linux

package startup

func hugePages() (undo func()) { return func() {} }
