// Package local runs `zeroplane serve` and the other commands of bin/zeroplane for end-to-end tests: starts it,
// kills it, starts it again on the same data, and looks at what it left.
//
//	server.go     a server that runs
//	command.go    commands that end
//	eventually.go waiting, with a bound
//	rows.go       the rows in a data directory that nobody has open
package local
