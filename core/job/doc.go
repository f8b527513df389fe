// Package job decides what the Job controller and the TTL-after-finished controller of Kubernetes 1.37 would do next. It
// does none of it: a snapshot goes in and a plan comes out.
//
//	Job(Snapshot) plan.Plan
//	Orphan(*corev1.Pod, *batchv1.Job) plan.Plan
//	TTL(*batchv1.Job, time.Time) plan.Plan
//
// The rules are upstream's, one to a file, and each function names the upstream file that it follows (paths are below
// k8s.io/kubernetes/pkg/controller/job unless they say otherwise). What differs is the frame around them:
//
//   - A plan writes the status once, and last. Upstream's sync writes it before it takes finalizers, and again after. Here
//     a plan takes the finalizers of the pods that the status it was decided on accounts for, and its status counts
//     them and accounts for those that have ended since: their finalizers are taken by the plan that the status calls for.
//     So a pod loses its finalizer only when the stored status has it, whatever crash comes between two transactions.
//   - Claims stand alone: when pods have to be adopted or released, the plan does only that.
//   - There are no expectations. Upstream's keep a sync from counting what its informers have not seen; here the
//     Job is read before the pods, so a pod that still has its finalizer was not counted by that Job, and
//     a plan that makes pods has the Job looked at once more (plan.Read.Again), so that both were so at one moment.
//   - What upstream keeps in memory for the back-off, how many pods failed in a row and when, is read from the pods that are
//     still there (backoff.go). It survives restarts, and forgets pods that were deleted.
//   - There is no batching of a second: every event decides.
//   - There are no errors. What validation refuses yields a plan without writes. What the API refuses comes back as
//     Snapshot.Refused.
//   - Waiting is a plan.Later: "deadline" for activeDeadlineSeconds, "backoff" for pods to come again, "ttl" for the end of
//     a finished Job. A plan states it for as long as there is something to wait for, and takes it back with the
//     status that ends the waiting.
//
// Not followed: the gate WorkloadWithJob, which is off by default. The gates that are on by default count as on.
//
// Snapshots are never altered: working copies are shallow, and a field is replaced, not edited.
package job
