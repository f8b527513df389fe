// Package rollout decides what the Deployment controller and the ReplicaSet controller of
// Kubernetes 1.37 would do next. It does none of it: a snapshot goes in and a plan comes out.
//
//	Deployment(DeploymentSnapshot) plan.Plan
//	ReplicaSet(ReplicaSetSnapshot) plan.Plan
//
// The rules are upstream's, one to a file, and each function names the upstream file that it
// follows (paths are below k8s.io/kubernetes/pkg/controller unless they say otherwise). What
// differs is the frame around the rules:
//
//   - One call makes the writes of one upstream sync. Where upstream's sync writes an object,
//     goes on with a stale copy, conflicts and is queued again, the plan holds the writes that
//     those syncs settle on. So a plan writes no object twice, and the status of a Deployment
//     describes its ReplicaSets as the plan leaves them (they lie in one log and are committed
//     together).
//   - Claims stand alone for a Deployment: when ReplicaSets have to be adopted or released the
//     plan does only that, since a patch moves the version that any other write would be made on.
//     A ReplicaSet goes on in the same plan, but leaves the pods that it adopts undeleted until
//     the next one.
//   - There are no expectations. A snapshot is consistent, and the plan names its read set, so
//     what an earlier plan created is in the next snapshot or the plan is refused.
//   - There are no errors either. A selector or a strategy that validation would have refused
//     yields a plan without writes. What can only fail at the server (a refused create) comes back
//     through NewReplicaSetRefused and ReplicaSetFailed.
//   - Waiting is a plan.Later: Kind "progress" for the progress deadline of a Deployment, Kind
//     "available" for the minReadySeconds of a ReplicaSet. A plan states its Later for as long as
//     there is something to wait for (the same time for the same state), and takes it back once when there
//     is no more. So a subject that has settled gets an empty plan, and one that waits gets a plan
//     without writes.
//
// Snapshots are never altered: working copies are shallow, and a field is replaced, not edited.
package rollout
