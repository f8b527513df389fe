// Package cronjob decides what the CronJob controller of Kubernetes 1.37 would do next. It does none of it: a snapshot goes in
// and a plan comes out.
//
//	CronJob(Snapshot) plan.Plan
//	Rescheduled(*batchv1.CronJob, time.Time) plan.Plan
//
// The rules are upstream's, and each function names the upstream file that it follows (paths are below
// k8s.io/kubernetes/pkg/controller/cronjob). What differs is the frame around them:
//
//   - A Job and the lastScheduleTime that it is for are written in one plan, and, as both lie in one log, in one
//     transaction: no crash makes a Job run twice. The server names the Job's UID, so the plan that the new Job calls for
//     adds it to the active list. Upstream adds it with the time.
//   - The next run is a plan.Later of Kind "schedule", at the time that upstream would wait for. There is none for a CronJob
//     that is suspended or whose schedule cannot be read.
//
// Snapshots are never altered: working copies are shallow, and a field is replaced, not edited.
package cronjob
