// Package endpoints decides what the controllers of Kubernetes 1.37 for the endpoints of Services would do next. It does none
// of it: a snapshot goes in and a plan comes out.
//
//	Slices(SlicesSnapshot) plan.Plan  EndpointSlices of a Service with a selector
//	Object(ObjectSnapshot) plan.Plan  its Endpoints
//	Mirror(MirrorSnapshot) plan.Plan  EndpointSlices of Endpoints that somebody else keeps
//
// The rules are upstream's, and each function names the upstream function that it follows: of k8s.io/endpointslice v0.37.2, and
// of k8s.io/kubernetes/pkg/controller/{endpoint,endpointslice,endpointslicemirroring} v1.37.2. Upstream's reconciler itself is not run:
// it needs a client and keeps a cache, and what it returns depends on the order of maps. What differs:
//
//   - Everything is in order. Where upstream takes any endpoint, slice or zone, the first by name is taken.
//   - There are no trackers of stale caches: a snapshot is consistent, and a plan names what it read.
//   - Upstream remembers when pods became ready to tell what triggered a change. Here that is seen from the endpoints that are
//     there: a pod that is missing, or is there with another readiness, triggered it.
//   - Whether a Service had hints of topology mode Auto is seen from its slices, too. A notice about hints is given with
//     the writes that come of it and not at each look.
//   - A pod whose node is not known is left out until the node is there, without an event.
//   - Slices that are being deleted count as gone for mirroring, too.
//   - Endpoints that are over capacity are left alone when the same ones would be chosen again.
//
// The Service "kubernetes" has no selector, and its Endpoints say that they are not mirrored: they stay as the cluster was born
// with them.
//
// Services, pods and nodes lie in other logs than what is written here, and may have moved when a plan is committed, as upstream. What is
// written then is a change itself, by which the Service is looked at again.
//
// Snapshots are never altered.
package endpoints
