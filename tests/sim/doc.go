// Package sim runs a whole cluster, its users, its kubelets and everything that goes wrong with them from one seed and by a
// virtual clock. What is not simulated is the product: API server, functions and core. The rest is: the table (busy, without
// an answer, with short pages), events and bells (lost, doubled, late, out of order), instances (killed between any two
// writes or reads; tests/instances has all these), nodes that stop, vanish and come back, pods that fail, users who make,
// scale, roll, pause, undo, evict and delete, and a clock that jumps.
//
//	sim_test.go       rounds: actions, then calm, then rest
//	users_test.go     what users do to workloads
//	trouble_test.go   what befalls nodes and pods
//	log_test.go       every commit, in order, to the rules
//	rules/            what must hold at each of them, and at the end
//	mutants_test.go   bugs that are planted, and how many seeds it takes to see them
//
// And scenes, in which nothing is left to chance:
//
//	scene_test.go           a cluster to which only that happens which a test has happen
//	stale_test.go           decisions on a past that is over
//	unobserved_test.go      states that come and go while nobody looks
//	intermediate_test.go    kills between two writes of a plan
//	scene_mutants_test.go   bugs that are planted for them
//
// One round again, with what it did:
//
//	go test -vet=off -v ./tests/sim -run Rounds -sim.seed=N
//
// In which order goroutines run is not the seed's to say: a failure that depends on it may take some tries.
package sim
