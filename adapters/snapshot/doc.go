// Package snapshot keeps a cluster in a file: for backups, and to move it to another store (docs/backup.md).
//
//	file.go    the format: lines of JSON, each with a sum of all up to it
//	export.go  a cluster at one revision of each log, while it is written to
//	import.go  the same cluster again
package snapshot
