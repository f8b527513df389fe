package job

import (
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Orphan takes the finalizer of a pod of which no Job will: job_controller.go handleSingleOrphanPod. job is the one
// that the pod's controller reference names, nil if there is none.
func Orphan(pod *corev1.Pod, job *batchv1.Job) plan.Plan {
	if !hasFinalizer(pod) {
		return plan.Plan{}
	}
	reads := []plan.Read{{Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name}}
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		if ref.Kind != jobKind.Kind || ref.APIVersion != jobKind.GroupVersion().String() {
			return plan.Plan{}
		}
		if job != nil && (managedBySomeoneElse(job) || finishedCondition(job) == nil) {
			return plan.Plan{}
		}
		// A Job that was made since it was looked for does count it.
		reads = append(reads, plan.Read{Resource: plan.Jobs, Namespace: pod.Namespace, Name: ref.Name, Again: true})
	}
	return plan.Plan{Writes: []plan.Write{takeFinalizer(pod, "no Job counts it")}, Reads: reads}
}
