// Package server_test drives `zeroplane serve` with simulated nodes: nothing is written while nothing happens, nodes
// that stop are lost and found, and pods end, go and fail to start as they say.
package server_test
