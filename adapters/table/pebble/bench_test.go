package pebble_test

import (
	"testing"

	"github.com/zeroplane/zeroplane/adapters/table/pebble"
)

// BenchmarkOpen measures a start after a crash that left 3 MB of log, and one of a closed directory.
func BenchmarkOpen(b *testing.B) {
	for name, rows := range map[string]int{"closed": 0, "crashed": 2000} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			s, err := pebble.Open(dir)
			if err != nil {
				b.Fatal(err)
			}
			for i := range rows {
				put(b, s, i, i+1)
			}
			from := crash(b, dir)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				b.StopTimer()
				at := crash(b, from)
				b.StartTimer()
				s, err := pebble.Open(at)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
