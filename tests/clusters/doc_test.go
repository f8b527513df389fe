// Package clusters_test creates, uses and deletes many clusters on one server: what a cluster is born with, that
// nothing of one is visible with another's credential, that memory is bounded by the number kept awake, and that a
// cluster which sleeps wakes when something is due.
package clusters_test
