// Package autoscaling decides what the HorizontalPodAutoscaler controller of Kubernetes 1.37 would do
// next about one HorizontalPodAutoscaler. It does none of it: [Input] goes in and a [Decision] comes out.
//
// The rules are upstream's, one to a file, and each function names what it follows (files are of
// pkg/controller/podautoscaler of k8s.io/kubernetes v1.37.2). The feature gates are as 1.37 has them by
// default: HPAScaleToZero, HPAConfigurableTolerance and HPAGeneration are on. What differs is the frame:
//
//   - Upstream looks every 15 seconds. Here a decision is made when samples arrive, when the autoscaler
//     or its target changes, and at the plan.Later of Kind [ReconsiderKind]: the next moment at which
//     the same samples would lead to another number of replicas, since a recommendation has left its
//     stabilization window or a scaling its policy's period. It is never earlier than upstream's next
//     look. Nothing waits for a metric that cannot be read, or for a target that is not there: what
//     brings them rings.
//   - Upstream keeps recommendations and past scalings in memory. Here they are a [State], which goes in
//     and comes out. Whoever decides keeps it, in one row of the store for each autoscaler, by UID: not
//     in the object, where kubectl describe would print it. It is written after the plan was committed,
//     on the condition that it is as it was read. A row that is lost, or behind by one decision, is what
//     upstream has after a restart: the window begins again with the replicas of now.
//   - Upstream tries to write the scale again when that conflicts. Here the write is made on the version
//     that was decided on, and a conflict means to load and decide again. Any other refusal comes back as
//     Input.Refused.
//   - A metric is the value that metrics.k8s.io, custom.metrics.k8s.io or external.metrics.k8s.io would
//     give, or the error that they would. Samples of pods that the target's selector does not match are
//     left out, as those services leave them out.
//
// Inputs are never altered.
package autoscaling
