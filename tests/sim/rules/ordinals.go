package rules

import (
	"fmt"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

// checkOrdinals looks at each pod that is made for a StatefulSet: no other has its ordinal, and where the set starts its pods
// in order all before it are ready, or were a moment ago.
func checkOrdinals(h *History, c *Change) {
	pod, ref := c.created()
	if pod == nil || ref == nil || ref.Kind != "StatefulSet" {
		return
	}
	h.asked(Ordinals)
	index := pod.Labels[appsv1.PodIndexLabel]
	for _, other := range h.byOwner[ref.UID] {
		if other != pod && other.Labels[appsv1.PodIndexLabel] == index {
			h.violate(Ordinals, c.At, "%s and %s are both number %s of %s", pod.Name, other.Name, index, ref.Name)
		}
	}
	set, is := h.Get(plan.StatefulSets, pod.Namespace, ref.Name).(*appsv1.StatefulSet)
	if !is || set.UID != ref.UID || set.Spec.PodManagementPolicy == appsv1.ParallelPodManagement {
		return
	}
	h.checkOrder(set, pod, index, c.At)
}

// checkOrder is for sets that start their pods in order.
func (h *History) checkOrder(set *appsv1.StatefulSet, pod *corev1.Pod, index string, at time.Time) {
	own, err := strconv.Atoi(index)
	if err != nil {
		h.violate(Ordinals, at, "%s has the ordinal %q", pod.Name, index)
		return
	}
	first := 0
	if set.Spec.Ordinals != nil {
		first = int(set.Spec.Ordinals.Start)
	}
	for i := first; i < own; i++ {
		before := types.NamespacedName{Namespace: pod.Namespace, Name: fmt.Sprintf("%s-%d", set.Name, i)}
		if last, was := h.ready[before]; !was || at.Sub(last) > memory && h.notReady(before) {
			h.violate(Ordinals, at, "%s is made, and %s is not ready", pod.Name, before.Name)
		}
	}
}

// notReady reports whether the pod of a name is not there, or not ready.
func (h *History) notReady(name types.NamespacedName) bool {
	pod, is := h.objects[pods][name].(*corev1.Pod)
	return !is || !isReady(pod)
}
