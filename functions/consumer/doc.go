// Package consumer is the frame around every function: it reads what changed since the function's
// durable cursor, loads one consistent snapshot, lets the function decide and commit, and moves the
// cursor (docs/decisions.md, D4).
//
//	function.go  what a function is
//	snapshot.go  what it decides on
//	runner.go    one function of one cluster: from cursor to head, again and again until at head
//	ledger.go    the rows behind it: cursors, and what is due later
//	apply.go     carrying out a plan, and deciding again when it was stale
//	step.go      one step of a controller, and what comes of a refused write
//	owners.go    whose an object is, and when a refused write is tried again
//	recorder.go  notices become Kubernetes Events
//	cluster.go   all functions of one cluster, and when they are done
//
// Nothing here runs while nothing changes: a runner's goroutine ends at the head of its logs, and a
// timer is armed only for the next thing that is due.
package consumer
