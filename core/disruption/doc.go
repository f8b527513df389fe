// Package disruption keeps the status of PodDisruptionBudgets, by which the eviction subresource
// decides whether a pod may be evicted: [Budget] counts what a budget covers, and [Stale] takes back
// the announcement of a disruption that never came.
//
// Upstream: pkg/controller/disruption/disruption.go of k8s.io/kubernetes v1.37.2.
package disruption
