package rollout

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/apis/core/helper"
)

// rankedPod is a pod with what it is compared by when pods have to go.
type rankedPod struct {
	pod *corev1.Pod
	// neighbours is how many active pods of the same Deployment share its node.
	neighbours int
}

// podsToDelete picks count of the active pods: replicaset/replica_set.go getPodsToDelete. related
// are the pods that the ReplicaSets of the same controller select.
func podsToDelete(pods, related []*corev1.Pod, count int, now time.Time) []*corev1.Pod {
	ranked := make([]rankedPod, 0, len(pods))
	onNode := podsByNode(related)
	for _, pod := range pods {
		ranked = append(ranked, rankedPod{pod, onNode[pod.Spec.NodeName]})
	}
	// By name first: pods that the rules do not tell apart then go in an order of their own.
	slices.SortFunc(ranked, func(a, b rankedPod) int { return strings.Compare(a.pod.Name, b.pod.Name) })
	slices.SortStableFunc(ranked, func(a, b rankedPod) int { return compareDeletion(a, b, now) })

	chosen := make([]*corev1.Pod, 0, count)
	for _, r := range ranked[:min(count, len(ranked))] {
		chosen = append(chosen, r.pod)
	}
	return chosen
}

// podsByNode counts active pods by node: replicaset/replica_set.go
// getPodsRankedByRelatedPodsOnSameNode.
func podsByNode(related []*corev1.Pod) map[string]int {
	onNode, seen := map[string]int{}, map[types.UID]bool{}
	for _, pod := range related {
		if isActive(pod) && !seen[pod.UID] {
			seen[pod.UID] = true
			onNode[pod.Spec.NodeName]++
		}
	}
	return onNode
}

// compareDeletion orders pods from the first to delete to the last, by the eight rules of
// controller_utils.go ActivePodsWithRanks. It is negative when a goes before b.
func compareDeletion(a, b rankedPod, now time.Time) int {
	return cmp.Or(
		compareAssigned(a.pod, b.pod),
		cmp.Compare(phaseOrder(a.pod), phaseOrder(b.pod)),
		compareFalseFirst(isReady(a.pod), isReady(b.pod)),
		cmp.Compare(deletionCost(a.pod), deletionCost(b.pod)),
		cmp.Compare(b.neighbours, a.neighbours),
		compareReadyTime(a.pod, b.pod, now),
		compareRestarts(a.pod, b.pod),
		compareAge(a.pod, b.pod, a.pod.CreationTimestamp, b.pod.CreationTimestamp, now),
	)
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
	readyA, readyB := readyCondition(a), readyCondition(b)
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
	sidecars := map[string]bool{}
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars[c.Name] = true
		}
	}
	for _, status := range pod.Status.InitContainerStatuses {
		if sidecars[status.Name] {
			sidecar = max(sidecar, status.RestartCount)
		}
	}
	return regular, sidecar
}
