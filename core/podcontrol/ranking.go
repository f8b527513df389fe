package podcontrol

import (
	"cmp"
	"math"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/apis/core/helper"

	"github.com/zeroplane/zeroplane/core/podstate"
)

// Ranked is a pod with what it is compared by when pods have to go.
type Ranked struct {
	*corev1.Pod
	// Neighbours is how many active pods of the same Deployment share its node.
	Neighbours int
}

// CompareRanked orders pods from the first to delete to the last, by the eight rules of
// controller_utils.go ActivePodsWithRanks. It is negative when a goes before b.
func CompareRanked(a, b Ranked, now time.Time) int {
	return cmp.Or(
		compareAssigned(a.Pod, b.Pod),
		cmp.Compare(phaseOrder(a.Pod), phaseOrder(b.Pod)),
		compareFalseFirst(podstate.IsReady(a.Pod), podstate.IsReady(b.Pod)),
		cmp.Compare(deletionCost(a.Pod), deletionCost(b.Pod)),
		cmp.Compare(b.Neighbours, a.Neighbours),
		compareReadyTime(a.Pod, b.Pod, now),
		compareRestarts(a.Pod, b.Pod),
		compareAge(a.Pod, b.Pod, a.CreationTimestamp, b.CreationTimestamp, now),
	)
}

// CompareActive orders active pods from the first to delete to the last where ranks, costs and the present do not
// count: controller_utils.go ActivePods. It is negative when a goes before b.
func CompareActive(a, b *corev1.Pod) int {
	return cmp.Or(
		compareAssigned(a, b),
		cmp.Compare(phaseOrder(a), phaseOrder(b)),
		compareFalseFirst(podstate.IsReady(a), podstate.IsReady(b)),
		compareReadySince(a, b),
		compareRestarts(a, b),
		compareYounger(a.CreationTimestamp, b.CreationTimestamp),
	)
}

// compareReadySince puts the pod that became ready later first.
func compareReadySince(a, b *corev1.Pod) int {
	readyA, readyB := podstate.ReadyCondition(a), podstate.ReadyCondition(b)
	if readyA == nil || readyB == nil {
		return 0
	}
	return compareYounger(readyA.LastTransitionTime, readyB.LastTransitionTime)
}

// compareYounger puts the later time first, and one that is not known before all: controller_utils.go afterOrZero.
func compareYounger(a, b metav1.Time) int {
	switch {
	case a.Equal(&b):
		return 0
	case a.IsZero():
		return -1
	case b.IsZero():
		return 1
	}
	return b.Compare(a.Time)
}

// compareAssigned is rule 1: a pod without a node goes first.
func compareAssigned(a, b *corev1.Pod) int {
	return compareFalseFirst(a.Spec.NodeName != "", b.Spec.NodeName != "")
}

// phaseOrder is rule 2: pending before unknown before running. A phase that is neither counts as
// pending, as in upstream's map.
func phaseOrder(pod *corev1.Pod) int {
	switch pod.Status.Phase {
	case corev1.PodUnknown:
		return 1
	case corev1.PodRunning:
		return 2
	case corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed:
		return 0
	default:
		return 0
	}
}

func compareFalseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// deletionCost is rule 4: the lower controller.kubernetes.io/pod-deletion-cost goes first. An
// invalid one counts as 0.
func deletionCost(pod *corev1.Pod) int32 {
	cost, _ := helper.GetDeletionCostFromPodAnnotations(pod.Annotations)
	return cost
}

// compareReadyTime is rule 6: the pod that became ready later goes first.
func compareReadyTime(a, b *corev1.Pod, now time.Time) int {
	readyA, readyB := podstate.ReadyCondition(a), podstate.ReadyCondition(b)
	if readyA == nil || readyB == nil {
		return 0
	}
	return compareAge(a, b, readyA.LastTransitionTime, readyB.LastTransitionTime, now)
}

// compareAge puts the younger time first. Ages are compared by their binary order of magnitude, and
// pods of the same magnitude by UID, which makes the choice among them a random one.
func compareAge(a, b *corev1.Pod, timeA, timeB metav1.Time, now time.Time) int {
	switch {
	case timeA.Equal(&timeB):
		return 0
	case timeA.IsZero():
		return -1
	case timeB.IsZero():
		return 1
	}
	return cmp.Or(
		cmp.Compare(magnitude(now.Sub(timeA.Time)), magnitude(now.Sub(timeB.Time))),
		strings.Compare(string(a.UID), string(b.UID)),
	)
}

func magnitude(age time.Duration) int64 {
	if age <= 0 {
		return -1
	}
	return int64(math.Log2(float64(age)))
}

// compareRestarts is rule 7: the pod whose container restarted more often goes first; among equals
// that of the sidecar that did.
func compareRestarts(a, b *corev1.Pod) int {
	regularA, sidecarA := maxRestarts(a)
	regularB, sidecarB := maxRestarts(b)
	return cmp.Or(cmp.Compare(regularB, regularA), cmp.Compare(sidecarB, sidecarA))
}

// maxRestarts is controller_utils.go maxContainerRestarts.
func maxRestarts(pod *corev1.Pod) (regular, sidecar int32) {
	for _, status := range pod.Status.ContainerStatuses {
		regular = max(regular, status.RestartCount)
	}
	sidecars := podstate.Sidecars(pod)
	for _, status := range pod.Status.InitContainerStatuses {
		if sidecars[status.Name] {
			sidecar = max(sidecar, status.RestartCount)
		}
	}
	return regular, sidecar
}
