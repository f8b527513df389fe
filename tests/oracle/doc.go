// Package oracle holds tests that ask upstream's own components, in process, what they would have
// decided, and compare. They live apart since they compile kube-scheduler's framework and plugins,
// which nothing else needs.
//
// The scheduler is asked two things on random clusters. For one pod: which nodes can take it, the
// weighted total of each, and the message when there is none, preemption's part included. For a queue
// of pods: whether each pod went to one of the nodes that upstream ranks highest, with the pods before
// it in place.
package oracle
