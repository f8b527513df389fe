// Package endpoints holds the tests that compare core/endpoints with upstream's own code, on random worlds (package world).
//
// TestEveryDecisionIsTheReconcilersOwn puts each snapshot that the core decides on to the Reconciler of k8s.io/endpointslice, and compares what
// they write. TestWorldsSettleAsUnderUpstreamsControllers runs upstream's three controllers, in a bubble of fake time, over a client in
// memory in which users do the same, and compares what is there when everything has come to rest.
//
// What upstream leaves to the order of maps does not count: names, the order of endpoints in a slice, which of equal endpoints are in
// which slice, and which of them serve another zone than their own.
package endpoints
