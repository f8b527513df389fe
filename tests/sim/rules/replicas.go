package rules

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// want is how many pods a controller asked for, until when: the zero time while it still does.
type want struct {
	pods  int32
	until time.Time
}

// memory is how old a decision may be: what was asked for within it may still be made.
const memory = 30 * time.Second

// checkReplicas looks at each pod that is made for a ReplicaSet or ReplicationController: there are never more than it asks
// for, or did a moment ago.
func checkReplicas(h *History, c *Change) {
	switch o := c.New.(type) {
	case *appsv1.ReplicaSet:
		h.want(o, *o.Spec.Replicas, c.At)
	case *corev1.ReplicationController:
		h.want(o, *o.Spec.Replicas, c.At)
	}
	pod, ref := c.created()
	if pod == nil || ref == nil || h.wanted[ref.UID] == nil {
		return
	}
	h.asked(Replicas)
	most := int32(0)
	for _, w := range h.wanted[ref.UID] {
		if w.until.IsZero() || c.At.Sub(w.until) < memory {
			most = max(most, w.pods)
		}
	}
	if live := h.live(ref.UID); len(live) > int(most) {
		h.violate(Replicas, c.At, "%s %s asks for %d pods and has %d: %v", ref.Kind, ref.Name, most, len(live), names(live))
	}
}

func (h *History) want(o metav1.Object, replicas int32, at time.Time) {
	list := h.wanted[o.GetUID()]
	if n := len(list); n > 0 {
		if list[n-1].pods == replicas {
			return
		}
		list[n-1].until = at
	}
	h.wanted[o.GetUID()] = append(list, want{pods: replicas})
}

func names(pods []*corev1.Pod) []string {
	out := make([]string, 0, len(pods))
	for _, pod := range pods {
		out = append(out, pod.Name)
	}
	slices.Sort(out)
	return out
}
