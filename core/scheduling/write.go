package scheduling

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

// maxNote is the longest message of an Event, in bytes (NoteLengthLimit of
// pkg/apis/events/validation).
const maxNote = 1024

// planOf turns a result into writes, notices and the read set. Nodes lie in another log than pods, so
// what a node offers may still change between the decision and its commit, as it may upstream.
func planOf(result *Result, now time.Time) plan.Plan {
	p := devicesPlan(result)
	nodes := map[string]bool{}
	for _, placed := range result.Placements {
		nodes[placed.Node] = true
		p.Writes = append(p.Writes, prepare(placed)...)
		if !placed.Waits {
			p.Writes = append(p.Writes, bind(placed))
		}
		p.Reads = append(p.Reads, plan.Read{
			Resource: plan.Pods, Namespace: placed.Pod.Namespace, Name: placed.Pod.Name,
		})
	}
	for _, node := range slices.Sorted(maps.Keys(nodes)) {
		p.Reads = append(p.Reads, plan.Read{Resource: plan.Pods, Node: node})
	}
	p.Merge(preemptionsOf(result, now))
	switch {
	case result.Neighbours:
		p.Reads = append(p.Reads, plan.Read{Resource: plan.Pods, Assigned: true})
	case len(nodes) > 0:
		// Also a pod that asks nothing of others may be kept off, by who comes first.
		p.Reads = append(p.Reads, plan.Read{Resource: plan.Pods, Repelling: true})
	}
	for _, failed := range result.Unschedulable {
		nominee := failed.Pod.Status.NominatedNodeName
		if failed.Forget {
			nominee = ""
		}
		p.Merge(report{failed.Pod, reasonOf(&failed), failed.Message, nominee}.plan(now))
	}
	// Volumes and claims are in another log than pods.
	for _, placed := range result.Placements {
		p.Writes = append(p.Writes, bindClaims(placed)...)
	}
	return p
}

// preemptionsOf has the victims of preemptions go, and then leaves their room to those that preempted them.
//
// Upstream: prepareCandidate in framework/preemption/executor.go.
func preemptionsOf(result *Result, now time.Time) plan.Plan {
	var p plan.Plan
	leaving := map[types.UID]bool{}
	for _, made := range result.Preemptions {
		for _, victim := range made.Victims {
			if victim.DeletionTimestamp == nil && !leaving[victim.UID] {
				leaving[victim.UID] = true
				p.Merge(preempt(victim, made.Pod, made.Node, now))
			}
		}
		for _, pod := range made.Yields {
			changed := pod.DeepCopy()
			changed.Status.NominatedNodeName = ""
			p.Writes = append(p.Writes, updateStatus(changed, "a pod of higher priority gets its node"))
		}
		p.Merge(report{made.Pod, corev1.PodReasonUnschedulable, made.Message, made.Node}.plan(now))
		p.Reads = append(p.Reads,
			plan.Read{Resource: plan.Pods, Namespace: made.Pod.Namespace, Name: made.Pod.Name},
			plan.Read{Resource: plan.Pods, Node: made.Node})
	}
	return p
}

// preempt says on a pod why it goes, and deletes it with the grace that it asks for.
//
// Upstream: PreemptPod of NewExecutor in framework/preemption/executor.go.
func preempt(victim, by *corev1.Pod, node string, now time.Time) plan.Plan {
	const reason = "a pod of higher priority needs its place"
	var p plan.Plan
	changed := victim.DeepCopy()
	message := by.Spec.SchedulerName + ": preempting to accommodate a higher priority pod"
	if setCondition(changed, corev1.DisruptionTarget, corev1.ConditionTrue, corev1.PodReasonPreemptionByScheduler, message, now) {
		p.Writes = append(p.Writes, updateStatus(changed, reason))
	}
	p.Writes = append(p.Writes, plan.Write{
		Verb: plan.Delete, Resource: plan.Pods, Namespace: victim.Namespace, Name: victim.Name, UID: victim.UID, Reason: reason,
	})
	// Upstream means to name the other pod as related, and does not (1.37): what it gives its recorder is no API object.
	p.Notices = append(p.Notices, notice(victim, corev1.EventTypeNormal, "Preempted", "Preempting",
		fmt.Sprintf("Preempted by pod %s on node %s", by.UID, node)))
	return p
}

func updateStatus(pod *corev1.Pod, reason string) plan.Write {
	return plan.Write{
		Verb: plan.UpdateStatus, Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name,
		Object: pod, UID: pod.UID, ResourceVersion: pod.ResourceVersion, Reason: reason,
	}
}

// report is what a pod is told about why it has no node, and which it may get.
type report struct {
	pod                      *corev1.Pod
	reason, message, nominee string
}

// reasonOf tells an error from a lack of room.
func reasonOf(failed *Failure) string {
	if failed.Fault {
		return corev1.PodReasonSchedulerError
	}
	return corev1.PodReasonUnschedulable
}

// plan says it on the pod, as far as it is news.
//
// Upstream: handleSchedulingFailure in pkg/scheduler/schedule_one.go.
func (r report) plan(now time.Time) plan.Plan {
	var p plan.Plan
	if r.pod.Status.NominatedNodeName == r.nominee && r.known() {
		return p
	}
	changed := r.pod.DeepCopy()
	news := setCondition(changed, corev1.PodScheduled, corev1.ConditionFalse, r.reason, r.message, now)
	changed.Status.NominatedNodeName = r.nominee
	p.Writes = append(p.Writes, updateStatus(changed, "no node can take the pod"))
	if news {
		p.Notices = append(p.Notices, notice(changed, corev1.EventTypeWarning, "FailedScheduling", "Scheduling", truncate(r.message)))
	}
	return p
}

// known reports whether a pod tells of itself that it has no node, and why.
func known(pod *corev1.Pod, message string) bool {
	return report{pod: pod, reason: corev1.PodReasonUnschedulable, message: message}.known()
}

// prepare tells that a pod is about to be bound to a node, once its claims are, and what claim its extended resources are
// had by.
//
// Upstream: runBindingCycle in pkg/scheduler/schedule_one.go, with the feature gate NominatedNodeNameForExpectation, which
// is on, and patchPodExtendedResourceClaimStatus in plugins/dynamicresources/extendeddynamicresources.go.
func prepare(placed Placement) []plan.Write {
	told := !placed.Waits || placed.Pod.Status.NominatedNodeName == placed.Node
	if told && placed.ExtendedClaim == nil {
		return nil
	}
	pod := placed.Pod.DeepCopy()
	if placed.ExtendedClaim != nil {
		pod.Status.ExtendedResourceClaimStatus = placed.ExtendedClaim
	}
	if !placed.Waits {
		return []plan.Write{updateStatus(pod, "its extended resources are had by a claim")}
	}
	pod.Status.NominatedNodeName = placed.Node
	return []plan.Write{updateStatus(pod, "its claims are bound first")}
}

// bindClaims asks the controllers of volumes to bind a pod's claims for its node.
//
// Upstream: bindAPIUpdate in plugins/volumebinding/binder.go.
func bindClaims(placed Placement) []plan.Write {
	var writes []plan.Write
	for _, pv := range placed.Volumes {
		writes = append(writes, plan.Write{
			Verb: plan.Update, Resource: plan.Volumes, Name: pv.Name, Object: pv, UID: pv.UID, ResourceVersion: pv.ResourceVersion,
			Reason: fmt.Sprintf("fits claim %s/%s of pod %s", pv.Spec.ClaimRef.Namespace, pv.Spec.ClaimRef.Name, placed.Pod.Name),
		})
	}
	for _, pvc := range placed.Claims {
		writes = append(writes, plan.Write{
			Verb: plan.Update, Resource: plan.Claims, Namespace: pvc.Namespace, Name: pvc.Name, Object: pvc, UID: pvc.UID,
			ResourceVersion: pvc.ResourceVersion, Reason: fmt.Sprintf("pod %s goes to node %s", placed.Pod.Name, placed.Node),
		})
	}
	return writes
}

// bind gives a pod its node, and tells so or why it was refused.
//
// Upstream: handleBindingCycleError in pkg/scheduler/schedule_one.go, of RunBindPlugins in framework/runtime/framework.go.
func bind(placed Placement) plan.Write {
	done := notice(placed.Pod, corev1.EventTypeNormal, "Scheduled", "Binding",
		fmt.Sprintf("Successfully assigned %s/%s to %s", placed.Pod.Namespace, placed.Pod.Name, placed.Node))
	refused := notice(placed.Pod, corev1.EventTypeWarning, "FailedScheduling", "Scheduling", `running Bind plugin "DefaultBinder": %v`)
	return plan.Write{
		Verb: plan.Bind, Resource: plan.Pods, Namespace: placed.Pod.Namespace, Name: placed.Pod.Name,
		UID: placed.Pod.UID, ResourceVersion: placed.Pod.ResourceVersion, Node: placed.Node,
		Reason: because(placed), IfFailed: &refused, OnSuccess: &done,
	}
}

func because(placed Placement) string {
	if placed.Nominated {
		return "room was made for it there"
	}
	return fmt.Sprintf("best score, %d", placed.Score)
}

// known reports whether the pod says already why it has no node.
func (r report) known() bool {
	return slices.ContainsFunc(r.pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == r.reason && c.Message == r.message
	})
}

// setCondition sets a condition of a pod, and reports whether that is news. The time of the transition is kept while the
// status stays as it is.
//
// Upstream: UpdatePodCondition in pkg/api/v1/pod/util.go.
func setCondition(
	pod *corev1.Pod, kind corev1.PodConditionType, status corev1.ConditionStatus, reason, message string, now time.Time,
) bool {
	condition := corev1.PodCondition{
		Type: kind, Status: status, ObservedGeneration: pod.Generation, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(now),
	}
	conditions := pod.Status.Conditions
	at := slices.IndexFunc(conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
	if at < 0 {
		pod.Status.Conditions = append(conditions, condition)
		return true
	}
	old := conditions[at]
	if old.Status == status {
		if old.Reason == reason && old.Message == message {
			return false
		}
		condition.LastTransitionTime = old.LastTransitionTime
	}
	conditions[at] = condition
	return true
}

func notice(pod *corev1.Pod, kind, reason, action, message string) plan.Notice {
	return plan.Notice{
		Regarding: corev1.ObjectReference{
			Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name,
			UID: pod.UID, ResourceVersion: pod.ResourceVersion,
		},
		Type: kind, Reason: reason, Message: message, Action: action, Component: schedulerOf(pod),
	}
}

// schedulerOf names who places a pod.
func schedulerOf(pod *corev1.Pod) string {
	if pod.Spec.SchedulerName == "" {
		return SchedulerName
	}
	return pod.Spec.SchedulerName
}

func truncate(message string) string {
	const suffix = " ..."
	if len(message) <= maxNote {
		return message
	}
	return message[:maxNote-len(suffix)] + suffix
}
