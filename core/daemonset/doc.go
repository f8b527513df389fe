// Package daemonset decides what the DaemonSet controller of Kubernetes 1.37 would do next. It does
// none of it: a snapshot goes in and a plan comes out.
//
//	Decide(Snapshot) plan.Plan
//
// The rules are upstream's, one to a file, and each function names the upstream function that it
// follows, of k8s.io/kubernetes/pkg/controller/daemon. Feature gates have their defaults. What differs
// is the frame around the rules, as in core/rollout:
//
//   - Claims of ownership stand alone: when pods or revisions have to be adopted or released the plan
//     does only that. So does putting a history in order: labels that are missing, the same revision
//     twice, a name that is taken.
//   - Nodes are looked at in the order of their names, where upstream takes them as its maps give them.
//   - One plan makes or removes at most 250 pods. Where it makes or removes any because of where they
//     run, the update of the others waits for the next one, as upstream's waits for what it expects.
//   - Waiting for minReadySeconds is a plan.Later of Kind "available". That a failed pod is left alone
//     for a while is one of Kind "failed-pod", and how long, which upstream has in memory, is kept in
//     another that comes due when it is forgotten.
//   - A node that is gone gets nothing; upstream's rolling update with surge fails while it has pods.
//
// Snapshots are never altered.
package daemonset
