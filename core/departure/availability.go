package departure

import (
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

const (
	// AvailabilityAnnotation of a node holds the newest of what its cloud said of its machine's health, as JSON.
	AvailabilityAnnotation = "zeroplane.dev/availability"
	// UnavailableTaint of a node whose cloud says that its machine is unavailable. Its effect is NoSchedule.
	UnavailableTaint = "zeroplane.dev/unavailable"
)

// States of Azure that change a node's taints.
const (
	available   = "Available"
	unavailable = "Unavailable"
)

// Health is what a cloud says of a machine.
type Health struct {
	// State is Available, Unavailable, or another, which is noted only.
	State string    `json:"state"`
	At    time.Time `json:"at"`
}

// Availability notes the health of a node's machine. The newest counts, whatever comes last. A node that is unavailable
// gets no new pods; its pods are not touched: whether they are lost, the node's silence says (core/nodes).
func Availability(node *corev1.Node, h Health, now time.Time) plan.Plan {
	var old Health
	if err := json.Unmarshal([]byte(node.Annotations[AvailabilityAnnotation]), &old); err != nil {
		old = Health{}
	}
	h.At = h.At.UTC()
	if !h.At.After(old.At) || node.DeletionTimestamp != nil {
		return plan.Plan{}
	}
	text, _ := json.Marshal(h) // of a string and a time, which always encode
	w := update(node, AvailabilityAnnotation, string(text), func(spec *corev1.NodeSpec) {
		switch h.State {
		case unavailable:
			spec.Taints = append(without(spec.Taints, UnavailableTaint), corev1.Taint{Key: UnavailableTaint, Effect: corev1.TaintEffectNoSchedule, TimeAdded: &metav1.Time{Time: now}})
		case available:
			spec.Taints = without(spec.Taints, UnavailableTaint)
		}
	})
	kind := corev1.EventTypeWarning
	if h.State == available {
		kind = corev1.EventTypeNormal
	}
	w.OnSuccess = nodeNotice(node, kind, "Machine"+reasonOf(h.State), fmt.Sprintf("The cloud says that the machine is %.40q since %s", h.State, h.At.Format(time.RFC3339)))
	return plan.Plan{Writes: []plan.Write{w}}
}

// reasonOf makes a state part of an Event's reason.
func reasonOf(state string) string {
	switch state {
	case available, unavailable, "Degraded":
		return state
	}
	return "HealthUnknown"
}
