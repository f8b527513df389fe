// Package cluster makes, lists and deletes clusters, and keeps the chains of those that are awake.
//
// A cluster is rows: one in the registry partition, with its keys sealed, and the partitions of its
// logs. Creating one writes what a cluster is born with (birth.go) and then registers it, so that a
// cluster that can be found is complete. Deleting one takes it from the registry first.
//
//	registry.go  the row of a cluster
//	keys.go      its keys, and how they are sealed
//	birth.go     what it is born with
//	create.go    creation and deletion
//	adopt.go     one that was saved
package cluster
