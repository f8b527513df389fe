package nodes

import (
	"encoding/json"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/zeroplane/zeroplane/core/plan"
)

// QuarantineKind is the kind of the plan.Later at which the pods of a missing node go, unless it came
// back. The node is its subject.
const QuarantineKind = "quarantine"

// Quarantine is how long a node must be missing before its pods are deleted. Upstream: quarantineTime in
// pkg/controller/podgc/gc_controller.go.
const Quarantine = 40 * time.Second

// Collect deletes the pods for which no kubelet will do it: all pods of a node that does not exist, after
// a quarantine in which it may come (back), and those that go away on a node that is not ready and was
// declared out of service.
//
// Upstream: gcOrphaned and gcTerminating in pkg/controller/podgc/gc_controller.go.
func Collect(in Input) plan.Plan {
	if in.Node == nil {
		return collectOrphans(in)
	}
	var p plan.Plan
	if isReady(in.Node) || !slices.ContainsFunc(in.Node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService }) {
		return p
	}
	for _, pod := range in.Pods {
		if pod.Spec.NodeName == in.Name && pod.DeletionTimestamp != nil {
			p.Writes = append(p.Writes, failOrDelete(pod, nil, "the pod's node is out of service")...)
		}
	}
	return p
}

// collectOrphans also asks to be called again at once when it has made pods fail, since what was due is
// handled with this plan.
func collectOrphans(in Input) plan.Plan {
	var p plan.Plan
	subject := plan.Ref{Resource: plan.Nodes, Name: in.Name}
	for _, pod := range in.Pods {
		if pod.Spec.NodeName != in.Name {
			continue
		}
		condition := disruption(pod, "DeletionByPodGC", "PodGC: node no longer exists", in.Now)
		p.Writes = append(p.Writes, failOrDelete(pod, &condition, "the pod's node no longer exists")...)
	}
	switch {
	case len(p.Writes) == 0:
	case !in.QuarantineOver:
		return plan.Plan{Later: []plan.Later{{At: in.Now.Add(Quarantine), Kind: QuarantineKind, Subject: subject, Keep: true}}}
	case slices.ContainsFunc(p.Writes, func(w plan.Write) bool { return w.Verb == plan.Patch }):
		p.Later = []plan.Later{{At: in.Now, Kind: QuarantineKind, Subject: subject}}
	}
	return p
}

// CollectUnscheduled deletes a pod that goes away and has no node. Only a finalizer can have kept it.
//
// Upstream: gcUnscheduledTerminating in pkg/controller/podgc/gc_controller.go.
func CollectUnscheduled(pod *corev1.Pod) plan.Plan {
	if pod.DeletionTimestamp == nil || pod.Spec.NodeName != "" {
		return plan.Plan{}
	}
	return plan.Plan{Writes: failOrDelete(pod, nil, "the pod goes away and has no node")}
}

// failOrDelete makes a pod fail that has not ended, saying why if there is a condition, and deletes one
// that has, without grace: whoever counts pods that failed must see it do so before it is gone, and the
// writes of one plan are seen as one. Nothing is left to do for a pod that its finalizers keep.
//
// Upstream: markFailedAndDeletePodWithCondition in pkg/controller/podgc/gc_controller.go.
func failOrDelete(pod *corev1.Pod, condition *corev1.PodCondition, reason string) []plan.Write {
	w := plan.Write{Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Reason: reason}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		if pod.DeletionTimestamp != nil && ptr.Deref(pod.DeletionGracePeriodSeconds, 0) == 0 {
			return nil
		}
		w.Verb, w.ResourceVersion, w.GracePeriodSeconds = plan.Delete, pod.ResourceVersion, new(int64(0))
		return []plan.Write{w}
	}
	status := map[string]any{"phase": corev1.PodFailed, "observedGeneration": pod.Generation}
	if condition != nil {
		status["conditions"] = []*corev1.PodCondition{condition}
	}
	// Of plain strings, numbers and times, which always encode.
	w.PatchBody, _ = json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion},
		"status":   status,
	})
	w.Verb, w.Subresource, w.PatchType = plan.Patch, "status", types.StrategicMergePatchType
	return []plan.Write{w}
}
