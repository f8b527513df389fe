// Package audit checks all rows of a store against what docs/row-schema.md says of them, while the store is
// in use.
//
//	audit.go    all partitions, and what is found
//	registry.go the clusters, and partitions that belong to none
//	cursors.go  cursors, what is due, and clusters with work left
//	object.go   the Kubernetes objects in the logs
package audit
