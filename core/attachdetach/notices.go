package attachdetach

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

const component = "attachdetach-controller"

// Reasons of events, from pkg/kubelet/events/event.go.
const (
	failedAttach     = "FailedAttachVolume"
	successfulAttach = "SuccessfulAttachVolume"
)

// outcome tells the pods that want a volume what became of attaching it, if that is news.
//
// Upstream: GenerateAttachVolumeFunc in pkg/volume/util/operationexecutor/operation_generator.go, and verifyAttachmentStatus in
// pkg/volume/csi/csi_attacher.go.
func outcome(a *attachment, c Change) []plan.Notice {
	before, changed := c.Before[a.name]
	va := a.object
	switch {
	case va == nil:
		return nil
	case va.DeletionTimestamp != nil:
		return notices(arrived(a, c), corev1.EventTypeWarning, failedAttach, attachFailed(a, "volume attachment is being deleted"))
	case !changed:
		return nil
	case va.Status.Attached:
		if attachedNow(before) {
			return nil
		}
		return notices(a.pods, corev1.EventTypeNormal, successfulAttach, message("AttachVolume.Attach succeeded", a, ""))
	case va.Status.AttachError == nil:
		return nil
	}
	if before != nil && before.Status.AttachError != nil && before.Status.AttachError.Time.Equal(&va.Status.AttachError.Time) &&
		before.Status.AttachError.Message == va.Status.AttachError.Message {
		return nil
	}
	return notices(a.pods, corev1.EventTypeWarning, failedAttach, attachFailed(a, va.Status.AttachError.Message))
}

// taken tells pods that came that others have the volume.
//
// Upstream: reportMultiAttachError in reconciler/reconciler.go.
func taken(a *attachment, others []*attachment, c Change) []plan.Notice {
	var users []*corev1.Pod
	for _, other := range others {
		users = append(users, other.pods...)
	}
	var out []plan.Notice
	for _, pod := range arrived(a, c) {
		text := "Volume is already exclusively attached to one node, waiting on detach before it can be attached to another node"
		if len(users) > 0 {
			text = usedBy(users, pod.Namespace)
		}
		out = append(out, notices([]*corev1.Pod{pod}, corev1.EventTypeWarning, failedAttach, message("Waiting for detach", a, text))...)
	}
	return out
}

// usedBy names the pods that use a volume, as far as they are of a namespace.
func usedBy(pods []*corev1.Pod, namespace string) string {
	var names []string
	for _, pod := range pods {
		if pod.Namespace == namespace {
			names = append(names, pod.Name)
		}
	}
	elsewhere := len(pods) - len(names)
	if len(names) == 0 {
		return fmt.Sprintf("Volume is already used by %d pod(s) in different namespaces", elsewhere)
	}
	text := "Volume is already used by pod(s) " + strings.Join(names, ", ")
	if elsewhere > 0 {
		text = fmt.Sprintf("%s and %d pod(s) in different namespaces", text, elsewhere)
	}
	return text
}

// arrived are the pods that came to the node and want the volume.
func arrived(a *attachment, c Change) []*corev1.Pod {
	var out []*corev1.Pod
	for _, pod := range a.pods {
		if c.Arrived[pod.UID] {
			out = append(out, pod)
		}
	}
	return out
}

func attachFailed(a *attachment, why string) string {
	return message("AttachVolume.Attach failed", a, ": "+why)
}

// message follows generateVolumeMsg in pkg/volume/util/operationexecutor/operation_executor.go.
func message(prefix string, a *attachment, suffix string) string {
	return fmt.Sprintf("%v for volume %q %v", prefix, a.pv, suffix)
}

func notices(pods []*corev1.Pod, kind, reason, text string) []plan.Notice {
	var out []plan.Notice
	for _, pod := range pods {
		out = append(out, plan.Notice{
			Regarding: corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
			Type:      kind, Reason: reason, Message: text, Component: component,
		})
	}
	return out
}
