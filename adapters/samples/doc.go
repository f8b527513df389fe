// Package samples keeps what was measured of a cluster, as rows in a partition of their own, and gives it back:
// to metrics.k8s.io, and to who decides about autoscalers (docs/autoscaling.md).
//
//	rows.go     the rows: one for each node, and some for external metrics
//	take.go     samples that came as an event are merged into them
//	read.go     what was measured, of real nodes and of simulated ones
//	api.go      the same, as metrics.k8s.io has it
//	outcomes.go counters
//
// What counts, and what is dropped for which reason, is core/samples' to say. What simulated nodes use is never
// stored: it follows from the pods and the time (kubelet.PodUsage).
package samples
