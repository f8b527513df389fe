// Package linearizable checks that any number of instances on one store are one store to their clients.
//
//	processes_test.go  three processes of bin/zeroplane on one Azurite behind proxies that inject faults, one of them
//	                   killed with SIGKILL every second or so; then a calm phase, in which the delay of watches is taken
//	mutants_test.go    that the checks can fail: steps of adapters/tablelog and adapters/kubestorage are broken one by
//	                   one, in a copy of the source that only the compiler sees, and package instances must notice
//	history            what was asked, answered, delivered and stored, and the rules for it
//	workload           clients and watches
//	instances          instances without an API server on a store in memory, and stores that break a promise
//
// Clients work on a few objects of two kinds in two logs. Every operation's begin, end and answer are kept; one
// whose answer was lost or says nothing is open-ended. Afterwards the log itself tells whether such an operation was
// carried out: every write has a token of its own, every deletion a precondition. Then porcupine must find an order
// of all operations on the objects that lists read together in which every answer is right, and which is that of the
// revisions. Watches are held to etcd's promises: ordered, unique, atomic, reliable, resumable, bookmarkable.
//
//	ZEROPLANE_LINEARIZABLE_SEED=N  draws as the run that printed N did
//	ZEROPLANE_LINEARIZABLE_TIME=D  lets clients work so long
//	ZEROPLANE_LONG=1               is 30 minutes, and mutants that take long to notice
package linearizable
