// Package localhost is the host of one machine: the API and all functions in one process, over the
// embedded store. Other hosts run the same handlers (docs/decisions.md, D9).
//
//	host.go      opening the store, serving, stopping
//	pki.go       the serving certificate, the key that seals clusters' keys
//	awake.go     a cluster that is awake: its API chain and its functions
//	clusters.go  which clusters are awake, and who is put to sleep
//	dirty.go     rows that say which clusters have work left, for the next start
//	attend.go    work for an event, in a process that others start for it
//	frozen.go    the same where the process is frozen between two events
//	manage.go    the requests of `zeroplane cluster`
//	simulate.go  simulated nodes
package localhost
