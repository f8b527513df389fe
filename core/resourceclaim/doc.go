// Package resourceclaim makes the ResourceClaims that pods ask for by a template, and takes pods that are done or gone off the
// claims that they used: the last one's devices are given back.
//
//	pod.go    what a pod needs: claims from templates, and reservations if it got its node without the scheduler
//	claim.go  what a claim is still for
//
// Pods and claims are in one log: a claim and what its pod is told of it are written in one transaction. Upstream makes the
// claim first, and finds it by its annotation if it could not tell the pod.
//
// Claims of PodGroups (DRAWorkloadResourceClaims, off in 1.37) are not known.
//
// Upstream: pkg/controller/resourceclaim/controller.go.
package resourceclaim
