// Package chaos runs a cluster on three instances that are killed between any two writes and started again, whose events
// and delayed bells are dropped, doubled and reordered, and compares what becomes of it with a calm run. Each round has a
// clock of its own (testing/synctest), so that minutes take no time, and a seed that decides the steps, the fate of each
// event and the life of each instance:
//
//	go test ./tests/chaos -chaos.seed=N
//
// runs one round again. In which order goroutines run is not the seed's to say, so a failure that depends on that may take
// some tries: add -count=20.
package chaos
