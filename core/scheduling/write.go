package scheduling

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// maxNote is the longest message of an Event, in bytes (NoteLengthLimit of
// pkg/apis/events/validation).
const maxNote = 1024

// planOf turns a result into writes, notices and the read set. Nodes lie in another log than pods, so
// what a node offers may still change between the decision and its commit, as it may upstream.
func planOf(result *Result, now time.Time) plan.Plan {
	var p plan.Plan
	nodes := map[string]bool{}
	for _, placed := range result.Placements {
		nodes[placed.Node] = true
		p.Writes = append(p.Writes, bind(placed))
		p.Notices = append(p.Notices, notice(placed.Pod, corev1.EventTypeNormal, "Scheduled", "Binding",
			fmt.Sprintf("Successfully assigned %s/%s to %s", placed.Pod.Namespace, placed.Pod.Name, placed.Node)))
		p.Reads = append(p.Reads, plan.Read{
			Resource: plan.Pods, Namespace: placed.Pod.Namespace, Name: placed.Pod.Name,
		})
	}
	for _, node := range slices.Sorted(maps.Keys(nodes)) {
		p.Reads = append(p.Reads, plan.Read{Resource: plan.Pods, Node: node})
	}
	switch {
	case result.Neighbours:
		p.Reads = append(p.Reads, plan.Read{Resource: plan.Pods, Assigned: true})
	case len(nodes) > 0:
		// Also a pod that asks nothing of others may be kept off, by who comes first.
		p.Reads = append(p.Reads, plan.Read{Resource: plan.Pods, Repelling: true})
	}
	for _, failed := range result.Unschedulable {
		pod, changed := withCondition(failed, now)
		if !changed {
			continue
		}
		p.Writes = append(p.Writes, plan.Write{
			Verb: plan.UpdateStatus, Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name,
			Object: pod, UID: pod.UID, ResourceVersion: pod.ResourceVersion, Reason: "no node can take the pod",
		})
		p.Notices = append(p.Notices, notice(pod, corev1.EventTypeWarning, "FailedScheduling", "Scheduling",
			truncate(failed.Message)))
	}
	return p
}

func bind(placed Placement) plan.Write {
	return plan.Write{
		Verb: plan.Bind, Resource: plan.Pods, Namespace: placed.Pod.Namespace, Name: placed.Pod.Name,
		UID: placed.Pod.UID, ResourceVersion: placed.Pod.ResourceVersion, Node: placed.Node,
		Reason: fmt.Sprintf("best score, %d", placed.Score),
	}
}

// withCondition is the pod with its condition PodScheduled saying why it has no node, and whether
// that is news. The time of the transition is kept while the status stays False.
//
// Upstream: handleSchedulingFailure in pkg/scheduler/schedule_one.go and UpdatePodCondition in
// pkg/api/v1/pod/util.go.
func withCondition(failed Failure, now time.Time) (*corev1.Pod, bool) {
	condition := corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, ObservedGeneration: failed.Pod.Generation,
		Reason: corev1.PodReasonUnschedulable, Message: failed.Message, LastTransitionTime: metav1.NewTime(now),
	}
	conditions := failed.Pod.Status.Conditions
	at := slices.IndexFunc(conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled })
	if at >= 0 {
		old := conditions[at]
		if old.Status == condition.Status {
			if old.Reason == condition.Reason && old.Message == condition.Message {
				return nil, false
			}
			condition.LastTransitionTime = old.LastTransitionTime
		}
	}
	pod := failed.Pod.DeepCopy()
	if at >= 0 {
		pod.Status.Conditions[at] = condition
	} else {
		pod.Status.Conditions = append(pod.Status.Conditions, condition)
	}
	return pod, true
}

func notice(pod *corev1.Pod, kind, reason, action, message string) plan.Notice {
	return plan.Notice{
		Regarding: corev1.ObjectReference{
			Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name,
			UID: pod.UID, ResourceVersion: pod.ResourceVersion,
		},
		Type: kind, Reason: reason, Message: message, Action: action, Component: SchedulerName,
	}
}

func truncate(message string) string {
	const suffix = " ..."
	if len(message) <= maxNote {
		return message
	}
	return message[:maxNote-len(suffix)] + suffix
}
