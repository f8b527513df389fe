package kubelet

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/zeroplane/zeroplane/core/plan"
)

const (
	component       = "kubelet"
	reasonCompleted = "PodCompleted"
	sandboxNotReady = "pod sandbox is not ready"

	reasonDeadline  = "DeadlineExceeded"
	messageDeadline = "Pod was active on the node longer than the specified deadline"
)

// PodInput is a pod and the node that it is bound to.
type PodInput struct {
	Pod *corev1.Pod
	// Node may be nil: then nothing happens.
	Node *corev1.Node
	Now  time.Time
	// Addresses gives the pod its address. Pods decided in one plan share it.
	Addresses *Addresses
}

// Pods decides for all pods of a node that is looked at as a whole.
func Pods(node *corev1.Node, pods []*corev1.Pod, now time.Time) plan.Plan {
	var p plan.Plan
	addresses := NewAddresses(node, pods)
	for _, pod := range pods {
		p.Merge(Pod(PodInput{Pod: pod, Node: node, Now: now, Addresses: addresses}))
	}
	return p
}

// Pod decides what the simulated kubelet does about one pod: write its status, delete it, or wait.
func Pod(in PodInput) plan.Plan {
	if in.Node == nil || in.Pod.Spec.NodeName != in.Node.Name || !alive(in.Node) {
		return plan.Plan{}
	}
	f := &frame{pod: in.Pod, node: in.Node, now: in.Now}
	if in.Pod.DeletionTimestamp != nil {
		return f.remove()
	}
	if terminal(in.Pod.Status.Phase) {
		return plan.Plan{}
	}
	status, ok := f.status(in.Addresses)
	if !ok {
		return plan.Plan{}
	}
	f.write(status, "the pod's containers changed")
	return f.plan
}

// frame is one look at one pod.
type frame struct {
	pod  *corev1.Pod
	node *corev1.Node
	now  time.Time
	// started is the pod's start time.
	started time.Time
	plan    plan.Plan
}

// status is the pod's status as it should be now; ok is false if the pod can have no address, and so
// no sandbox.
//
// Upstream: generateAPIPodStatus in pkg/kubelet/kubelet_pods.go.
func (f *frame) status(addresses *Addresses) (status *corev1.PodStatus, ok bool) {
	status = f.pod.Status.DeepCopy()
	status.ObservedGeneration = f.pod.Generation

	// 1. The sandbox: a start time and addresses.
	if status.StartTime == nil {
		at := stamp(f.now)
		status.StartTime = &at
	}
	f.started = status.StartTime.Time
	if !f.network(status, addresses) {
		return nil, false
	}

	// 2. The containers, unless the pod's time is over.
	expired := f.pastDeadline()
	if expired {
		f.halt(status, exitKilled)
	} else {
		initialized := f.initContainers(status)
		f.containers(status, initialized)
	}

	// 3. The phase.
	status.Phase = phaseOf(f.pod, status)
	if expired {
		status.Phase, status.Reason, status.Message = corev1.PodFailed, reasonDeadline, messageDeadline
		f.notice(corev1.EventTypeNormal, reasonDeadline, messageDeadline)
	}
	if terminal(status.Phase) {
		// What is left are sidecars.
		f.halt(status, 0)
		f.plan.Later = nil
	}

	// 4. The conditions.
	status.Conditions = f.conditions(status)
	return status, true
}

// network gives the pod its node's addresses and one of its own.
func (f *frame) network(status *corev1.PodStatus, addresses *Addresses) bool {
	status.HostIPs = nil
	for _, a := range f.node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			status.HostIPs = append(status.HostIPs, corev1.HostIP{IP: a.Address})
		}
	}
	status.HostIP = ""
	if len(status.HostIPs) > 0 {
		status.HostIP = status.HostIPs[0].IP
	}
	if status.PodIP != "" {
		return true
	}
	if f.pod.Spec.HostNetwork {
		status.PodIP = status.HostIP
	} else {
		ip, ok := addresses.Take()
		if !ok {
			return false
		}
		status.PodIP = ip
		// Another pod of the node may not be given the same address.
		f.plan.Reads = append(f.plan.Reads, plan.Read{Resource: plan.Pods, Node: f.node.Name, Addresses: true})
	}
	if status.PodIP != "" {
		status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
	}
	return true
}

// pastDeadline reports whether activeDeadlineSeconds are over, and if not, asks to be called then.
//
// Upstream: pkg/kubelet/active_deadline.go.
func (f *frame) pastDeadline() bool {
	if f.pod.Spec.ActiveDeadlineSeconds == nil {
		return false
	}
	end := f.started.Add(time.Duration(*f.pod.Spec.ActiveDeadlineSeconds) * time.Second)
	if f.now.Before(end) {
		f.wait("deadline", end)
		return false
	}
	return true
}

// initContainers runs the init containers in order and reports whether all are through.
func (f *frame) initContainers(status *corev1.PodStatus) bool {
	through := true
	statuses := make([]corev1.ContainerStatus, 0, len(f.pod.Spec.InitContainers))
	for i := range f.pod.Spec.InitContainers {
		c := &f.pod.Spec.InitContainers[i]
		old := find(f.pod.Status.InitContainerStatuses, c.Name)
		var s corev1.ContainerStatus
		switch {
		case !through:
			s = f.waiting(c, old, "PodInitializing", "")
		case isSidecar(c):
			s = f.sidecar(c, old)
			through = s.State.Running != nil
		default:
			s = f.initializer(c, old)
			through = s.Ready
		}
		statuses = append(statuses, s)
	}
	status.InitContainerStatuses = statuses
	if len(statuses) == 0 {
		status.InitContainerStatuses = nil
	}
	return through
}

func (f *frame) containers(status *corev1.PodStatus, initialized bool) {
	statuses := make([]corev1.ContainerStatus, 0, len(f.pod.Spec.Containers))
	for i := range f.pod.Spec.Containers {
		c := &f.pod.Spec.Containers[i]
		old := find(f.pod.Status.ContainerStatuses, c.Name)
		if !initialized && (old == nil || old.State.Running == nil && ended(old) == nil) {
			statuses = append(statuses, f.waiting(c, old, "PodInitializing", ""))
			continue
		}
		statuses = append(statuses, f.container(c, old))
	}
	status.ContainerStatuses = byName(statuses)
}

// halt stops what still runs.
func (f *frame) halt(status *corev1.PodStatus, code int32) {
	for _, statuses := range [][]corev1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses} {
		for i := range statuses {
			if statuses[i].State.Running != nil {
				f.stop(&statuses[i], code, f.now)
			}
		}
	}
}

// write asks for the status if it says anything new.
func (f *frame) write(status *corev1.PodStatus, reason string) {
	if equality.Semantic.DeepEqual(status, &f.pod.Status) {
		f.plan.Reads = nil
		return
	}
	pod := f.pod.DeepCopy()
	pod.Status = *status
	f.plan.Writes = append(f.plan.Writes, plan.Write{
		Verb: plan.UpdateStatus, Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name, Object: pod,
		UID: pod.UID, ResourceVersion: pod.ResourceVersion, Reason: reason,
	})
}

// wait asks to be called again at a time, once per kind: the earliest.
func (f *frame) wait(kind string, at time.Time) {
	for i := range f.plan.Later {
		if f.plan.Later[i].Kind == kind {
			if at.Before(f.plan.Later[i].At) {
				f.plan.Later[i].At = at
			}
			return
		}
	}
	f.plan.Later = append(f.plan.Later, plan.Later{At: at, Kind: kind, Subject: plan.Ref{
		Resource: plan.Pods, Namespace: f.pod.Namespace, Name: f.pod.Name, UID: f.pod.UID,
	}})
}

func (f *frame) notice(kind, reason, message string) {
	f.plan.Notices = append(f.plan.Notices, plan.Notice{
		Regarding: corev1.ObjectReference{
			Kind: "Pod", APIVersion: "v1", Namespace: f.pod.Namespace, Name: f.pod.Name,
			UID: f.pod.UID, ResourceVersion: f.pod.ResourceVersion,
		},
		Type: kind, Reason: reason, Message: message, Component: component,
	})
}
