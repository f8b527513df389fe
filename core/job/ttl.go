package job

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// LaterTTL is the Kind of the plan.Later that deletes a finished Job.
const LaterTTL = "ttl"

// TTL deletes a Job, with its pods, ttlSecondsAfterFinished after it finished: ttlafterfinished/ttlafterfinished_controller.go
// processJob.
func TTL(job *batchv1.Job, now time.Time) plan.Plan {
	end := finishedCondition(job)
	if job.DeletionTimestamp != nil || job.Spec.TTLSecondsAfterFinished == nil || end == nil || end.LastTransitionTime.IsZero() {
		return plan.Plan{}
	}
	expires := end.LastTransitionTime.Add(time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second)
	if expires.After(now) {
		return plan.Plan{Later: []plan.Later{{
			At: expires, Kind: LaterTTL,
			Subject: plan.Ref{Resource: plan.Jobs, Namespace: job.Namespace, Name: job.Name, UID: job.UID},
		}}}
	}
	foreground := metav1.DeletePropagationForeground
	return plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.Delete, Resource: plan.Jobs, Namespace: job.Namespace, Name: job.Name,
			UID: job.UID, ResourceVersion: job.ResourceVersion, Propagation: &foreground, Reason: "ttlSecondsAfterFinished are over",
		}},
		Reads: []plan.Read{{Resource: plan.Jobs, Namespace: job.Namespace, Name: job.Name}},
	}
}
