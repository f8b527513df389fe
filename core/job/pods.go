package job

import (
	"encoding/json"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podstate"
)

// hasFinalizer is tracking_utils.go hasJobTrackingFinalizer: the pod was not counted yet, or its finalizer is
// still to be taken.
func hasFinalizer(pod *corev1.Pod) bool {
	return slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer)
}

// isFailed is job_controller.go isPodFailed. A pod that is deleted counts as failed at once, unless the Job replaces
// pods only when they have failed.
func isFailed(job *batchv1.Job, pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodFailed {
		return true
	}
	return !onlyReplacesFailed(job) && pod.DeletionTimestamp != nil && pod.Status.Phase != corev1.PodSucceeded
}

// onlyReplacesFailed is job_controller.go onlyReplaceFailedPods.
func onlyReplacesFailed(job *batchv1.Job) bool {
	return job.Spec.PodReplacementPolicy != nil && *job.Spec.PodReplacementPolicy == batchv1.Failed
}

// countReady is job_controller.go countReadyPods.
func countReady(pods []*corev1.Pod) int32 {
	count := int32(0)
	for _, pod := range pods {
		if podstate.IsReady(pod) {
			count++
		}
	}
	return count
}

type finalizerPatch struct {
	Metadata finalizerPatchMeta `json:"metadata"`
}

type finalizerPatchMeta struct {
	UID              types.UID `json:"uid"`
	DeleteFinalizers []string  `json:"$deleteFromPrimitiveList/finalizers"`
}

// takeFinalizer is job_controller.go removeTrackingFinalizerPatch. The uid makes the server refuse the patch for
// another pod of the same name.
func takeFinalizer(pod *corev1.Pod, reason string) plan.Write {
	body, err := json.Marshal(finalizerPatch{finalizerPatchMeta{UID: pod.UID, DeleteFinalizers: []string{batchv1.JobTrackingFinalizer}}})
	if err != nil {
		// Strings and lists of them always encode.
		panic("job: encoding a patch of finalizers: " + err.Error())
	}
	return plan.Write{
		Verb: plan.Patch, Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name,
		PatchType: types.StrategicMergePatchType, PatchBody: body, Reason: reason,
	}
}
