// Package chaos runs a cluster on three instances that are killed between any two writes and started again, whose events
// and delayed bells are dropped, doubled and reordered, and compares what becomes of it with a calm run. Each round has a
// clock of its own (testing/synctest), so that minutes take no time, and a seed that decides all faults:
//
//	go test ./tests/chaos -chaos.seed=N
//
// runs one round again.
package chaos
