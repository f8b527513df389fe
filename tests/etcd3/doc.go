// Package etcd3 compares our storage (adapters/kubestorage over adapters/tablelog) with upstream's
// (k8s.io/apiserver/pkg/storage/etcd3 over a real etcd), operation by operation, on random histories.
//
// A history is a list of steps that several clients take on a few keys: every method of storage.Interface in every
// form, among them reads of the past and of the future, pages, stale cached objects, updates in whose middle another
// client writes, watches from anywhere, compaction. Each step is taken on both sides, and what comes back must be the
// same: objects, lists, errors in kind and in words, the events of every watch in their order, and whether a revision
// was used up.
//
// Revisions differ (ours are per log and dense, etcd's are of all keys) but one kind must be a monotone renaming of the
// other: compare_test.go keeps the two-way map, and every number in an answer or a message must agree with it.
//
// differences_test.go lists what differs on purpose, and why. mutants_test.go breaks our storage in many ways and
// checks that each is caught, so that agreement means something.
//
//	go test ./tests/etcd3                       300 histories, under a minute
//	ZEROPLANE_LONG=1 go test ./tests/etcd3      5,000
//	go test ./tests/etcd3 -rapid.seed=N         those of one seed, which a failure prints
//
// Needs the etcd that tests/peers/build.sh builds ($ZEROPLANE_PEERS or .cache/peers).
package etcd3
