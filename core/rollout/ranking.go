package rollout

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/podcontrol"
	"github.com/zeroplane/zeroplane/core/podstate"
)

// podsToDelete picks count of the active pods: replicaset/replica_set.go getPodsToDelete. related
// are the pods that the ReplicaSets of the same controller select.
func podsToDelete(pods, related []*corev1.Pod, count int, now time.Time) []*corev1.Pod {
	ranked := make([]podcontrol.Ranked, 0, len(pods))
	onNode := podsByNode(related)
	for _, pod := range pods {
		ranked = append(ranked, podcontrol.Ranked{Pod: pod, Neighbours: onNode[pod.Spec.NodeName]})
	}
	// By name first: pods that the rules do not tell apart then go in an order of their own.
	slices.SortFunc(ranked, func(a, b podcontrol.Ranked) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(ranked, func(a, b podcontrol.Ranked) int { return podcontrol.CompareRanked(a, b, now) })

	chosen := make([]*corev1.Pod, 0, count)
	for _, r := range ranked[:min(count, len(ranked))] {
		chosen = append(chosen, r.Pod)
	}
	return chosen
}

// podsByNode counts active pods by node: replicaset/replica_set.go
// getPodsRankedByRelatedPodsOnSameNode.
func podsByNode(related []*corev1.Pod) map[string]int {
	onNode, seen := map[string]int{}, map[types.UID]bool{}
	for _, pod := range related {
		if podstate.IsActive(pod) && !seen[pod.UID] {
			seen[pod.UID] = true
			onNode[pod.Spec.NodeName]++
		}
	}
	return onNode
}
