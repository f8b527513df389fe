// Package store_test drives the commands that work on a store (zeroplane store): a cluster that was served is checked,
// measured, exported, made again elsewhere, and served there.
package store_test
