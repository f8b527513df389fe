package departure

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// DeadlineKind is the kind of the plan.Later at which budgets are not respected any more. The node is its subject.
const DeadlineKind = "departure"

// forceBefore the machine goes, pods that budgets protect are deleted too: as long as a pod has by default to end.
const forceBefore = 30 * time.Second

// Drained is what is to be done about the pods of a departing node.
type Drained struct {
	// Pods has a plan for each pod that must leave: a budget that protects one does not keep the others.
	Pods []PodPlan
	// Later is when to look again, nil for not before something changes.
	Later *plan.Later
}

// PodPlan is what is to be done about one pod.
type PodPlan struct {
	Namespace, Name string
	Plan            plan.Plan
}

// Drain decides which pods of a node must leave it now.
func Drain(node *corev1.Node, pods []*corev1.Pod, now time.Time) Drained {
	n, there := noteOf(node)
	if !there || n.Over {
		return Drained{}
	}
	var out Drained
	forced := false
	if n.Deadline != nil {
		at := n.Deadline.Add(-forceBefore)
		if forced = !now.Before(at); !forced {
			out.Later = &plan.Later{At: at, Kind: DeadlineKind, Subject: plan.Ref{Resource: plan.Nodes, Name: node.Name, UID: node.UID}}
		}
	}
	for _, pod := range pods {
		if pod.Spec.NodeName != node.Name || !leaves(pod) {
			continue
		}
		w := plan.Write{
			Verb: plan.Evict, Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
			Reason: "the pod's node is about to go",
		}
		if forced {
			w.Verb, w.GracePeriodSeconds = plan.Delete, grace(pod, n.Deadline.Sub(now))
			w.OnSuccess = &plan.Notice{
				Regarding: corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
				Type:      corev1.EventTypeWarning, Reason: "NodeDeparting", Component: component,
				Message: "Deleted without regard to disruption budgets: the node goes",
			}
		}
		out.Pods = append(out.Pods, PodPlan{Namespace: pod.Namespace, Name: pod.Name, Plan: plan.Plan{Writes: []plan.Write{w}}})
	}
	slices.SortFunc(out.Pods, func(a, b PodPlan) int {
		if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

// leaves reports whether a pod has to leave: DaemonSets would put theirs back, a static pod is its kubelet's, and one that
// ended or goes already needs nothing.
//
// Upstream: the filters of k8s.io/kubectl/pkg/drain/filters.go.
func leaves(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return false
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return false
	}
	owner := metav1.GetControllerOf(pod)
	return owner == nil || owner.Kind != "DaemonSet"
}

// grace is what a pod asks for, or as much of it as is left.
func grace(pod *corev1.Pod, left time.Duration) *int64 {
	seconds := max(int64(left.Seconds()), 1)
	if asked := pod.Spec.TerminationGracePeriodSeconds; asked != nil {
		seconds = min(seconds, *asked)
	}
	return &seconds
}
