// Package traps breaks, one at a time, the steps by which the Azure adapter is not caught by what the service and its
// SDK do, and checks that the adapter's tests notice each.
package traps
