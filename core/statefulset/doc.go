// Package statefulset decides what the StatefulSet controller of Kubernetes 1.37 would do next. It
// does none of it: a snapshot goes in and a plan comes out.
//
//	Decide(Snapshot) plan.Plan
//
// The rules are upstream's, one to a file, and each function names the upstream function that it
// follows, of k8s.io/kubernetes/pkg/controller/statefulset. Feature gates have their defaults. What
// differs is the frame around the rules, as in core/rollout:
//
//   - Claims of ownership stand alone: when pods or revisions have to be adopted or released the plan
//     does only that.
//   - A plan writes no object twice. The pods that it repairs are not taken away for an update before
//     the next plan, and those that it makes never; claims that it makes are owned in the next one.
//   - Pods have fixed names, so that two plans that make the same pod exclude each other.
//   - One plan makes or removes at most 500 pods.
//   - A set that is being deleted makes no revisions, and removes none.
//   - Where upstream stops at an error and is queued again (a volume claim that is being deleted, a
//     pod of somebody else that has the name), the plan stops, and the change of that object calls again.
//   - Waiting for minReadySeconds is a plan.Later of Kind "available", as that of a ReplicaSet.
//
// Snapshots are never altered.
package statefulset
