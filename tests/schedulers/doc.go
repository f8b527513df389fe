// Package schedulers checks that any number of instances may place pods of one cluster.
//
//	processes_test.go  four processes of bin/zeroplane on one Azurite, some of them killed with SIGKILL every now and
//	                   then; all place pods. The log of pods is read as it grows, and checked at every revision
//	mutants_test.go    that the check can fail: what plans are held to is left out step by step, in a copy of the source that
//	                   only the compiler sees, and the same processes must be seen to break a rule (long form)
//	load_test.go       who makes, deletes, ends and relabels pods, through whichever process lives
//	log_test.go        every revision of the log of pods, in order
//	rules              what must hold at each of them: it shares no code with core/scheduling
//
// Nodes are fixed: objects without a kubelet, so that only bindings race. What else may is in docs/scheduling.md.
//
//	ZEROPLANE_SCHEDULERS_SEED=N  draws as the run that printed N did
//	ZEROPLANE_SCHEDULERS_TIME=D  has pods come and go for so long
//	ZEROPLANE_LONG=1             is 10 minutes, and the mutants
package schedulers
