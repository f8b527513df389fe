// Package tablelog keeps one dense log of changes in one partition of a table (docs/row-schema.md).
//
// Every change has a revision of its own, one more than the change before it. A commit inserts the
// log row of the next revision; since a row can be inserted only once, two writers cannot take one
// revision, and a change is visible exactly when it is logged. Beside its log row, in the same
// transaction, a change writes the row of its object.
//
// Follow a write through the files:
//
//	commit.go   callers submit changes; one of them takes the lead, packs what waits into a
//	            transaction (group commit), checks it against the state, commits it, applies it
//	codec.go    what a log row and an object row hold
//	key.go      how a name becomes a row key
//	state.go    the objects at one revision, immutable, shared by all readers
//	load.go     a state from nothing: a scan of the object rows plus the log since the scan began
//	tail.go     a state made current: the log rows after its revision
//	watch.go    every change, in order, to those who watch
//	follow.go   the looks at a log that is watched here and written elsewhere
//	cache.go    the memory that the states of all logs may take
//	history.go  changes and states of the past, from memory or from the log rows
//	save.go     a log as it was at a revision, to be kept elsewhere; restore.go makes a log of that
//	verify.go   what in the rows no writer can have left there; verify_rows.go compares them
//
// The state in memory is a hint: any instance may be killed at any point and loses nothing.
package tablelog
