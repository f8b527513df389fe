// Package history is what was asked of instances that share a store, what they answered, what their watches
// delivered and what the store's logs hold, and the rules that these must keep together.
//
//	operation.go  what a client asked and was answered
//	log.go        what a log holds, read from its rows by a decoder of its own (docs/row-schema.md)
//	resolve.go    which change of the log each operation made
//	model.go      the sequential model that porcupine checks the operations against
//	order.go      revisions follow real time, across all keys of a log
//	watch.go      etcd's promises to watches
//	check.go      all of it
package history
