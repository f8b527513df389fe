package nodes

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/toleration"
)

const evictor = "taint-eviction-controller"

// EvictionKind is the kind of the plan.Later at which the next pod of a tainted node must leave. The
// node is its subject.
const EvictionKind = "eviction"

// Evict deletes the pods that do not tolerate a NoExecute taint of their node, or have tolerated it for
// as long as they said, and asks to be called when the next one will have.
//
// Upstream: pkg/controller/tainteviction/taint_eviction.go.
func Evict(in Input) plan.Plan {
	var p plan.Plan
	if in.Node == nil {
		return p
	}
	node, now := in.Node, in.Now
	var taints []corev1.Taint
	for _, taint := range node.Spec.Taints {
		if taint.Effect == corev1.TaintEffectNoExecute {
			taints = append(taints, taint)
		}
	}
	if len(taints) == 0 {
		return p
	}
	var next time.Time
	for _, pod := range in.Pods {
		if pod.Spec.NodeName != node.Name || pod.DeletionTimestamp != nil {
			continue
		}
		end, limited := tolerance(pod, taints, now)
		switch {
		case !limited:
		case !now.Before(end):
			p.Merge(evict(pod, now))
		case next.IsZero() || end.Before(next):
			next = end
		}
	}
	if len(p.Writes) > 0 {
		p.Reads = append(p.Reads, plan.Read{Resource: plan.Pods, Node: node.Name})
	}
	if !next.IsZero() {
		p.Later = append(p.Later, plan.Later{
			At: next, Kind: EvictionKind, Subject: plan.Ref{Resource: plan.Nodes, Name: node.Name, UID: node.UID},
		})
	}
	return p
}

// tolerance is when the pod stops tolerating the taints: the earliest end over all of them. limited is
// false if it never does; the end is now if it never did. A taint counts from when it was added, or
// from when the pod came to the node if that was later.
//
// Upstream: processPodOnNode and getMinTolerationTime, which count from when they saw the taint.
func tolerance(pod *corev1.Pod, taints []corev1.Taint, now time.Time) (end time.Time, limited bool) {
	for i := range taints {
		t := toleration.Matching(pod.Spec.Tolerations, &taints[i])
		if t == nil {
			return now, true
		}
		if t.TolerationSeconds == nil {
			continue
		}
		begin := cameAt(pod)
		if added := taints[i].TimeAdded; added == nil {
			begin = now
		} else if added.After(begin) {
			begin = added.Time
		}
		until := begin.Add(time.Duration(max(*t.TolerationSeconds, 0)) * time.Second)
		if !limited || until.Before(end) {
			end, limited = until, true
		}
	}
	return end, limited
}

// cameAt is when the pod was bound to its node, as its condition tells.
func cameAt(pod *corev1.Pod) time.Time {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time
		}
	}
	return pod.CreationTimestamp.Time
}

// evict says on the pod why it goes, and deletes it with the grace that it asks for.
//
// Upstream: addConditionAndDeletePod.
func evict(pod *corev1.Pod, now time.Time) plan.Plan {
	var p plan.Plan
	if changed, news := withDisruption(pod, now); news {
		p.Writes = append(p.Writes, statusWrite(changed, "the pod does not tolerate its node's taint"))
	}
	p.Writes = append(p.Writes, plan.Write{
		Verb: plan.Delete, Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		Reason: "the pod does not tolerate its node's taint",
	})
	p.Notices = append(p.Notices, podNotice(pod, corev1.EventTypeNormal, "TaintManagerEviction",
		fmt.Sprintf("Marking for deletion Pod %s/%s", pod.Namespace, pod.Name), evictor))
	return p
}

func withDisruption(pod *corev1.Pod, now time.Time) (*corev1.Pod, bool) {
	condition := disruption(pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint", now)
	changed := pod.DeepCopy()
	for i, old := range changed.Status.Conditions {
		if old.Type != condition.Type {
			continue
		}
		if old.Status == condition.Status && old.Reason == condition.Reason && old.Message == condition.Message {
			return nil, false
		}
		changed.Status.Conditions[i] = condition
		return changed, true
	}
	changed.Status.Conditions = append(changed.Status.Conditions, condition)
	return changed, true
}

// disruption is the condition with which a pod says why it goes. Its time moves only with its status.
//
// Upstream: UpdatePodCondition in pkg/api/v1/pod/util.go.
func disruption(pod *corev1.Pod, reason, message string, now time.Time) corev1.PodCondition {
	condition := corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, ObservedGeneration: pod.Generation,
		Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(now.UTC().Truncate(time.Second)),
	}
	for _, old := range pod.Status.Conditions {
		if old.Type == condition.Type && old.Status == condition.Status {
			condition.LastTransitionTime = old.LastTransitionTime
		}
	}
	return condition
}
