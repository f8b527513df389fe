package podcontrol

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/core/plan"
)

// The reasons of events about pods that could not be made or removed.
const (
	FailedCreate = "FailedCreate"
	FailedDelete = "FailedDelete"
)

// Notices makes the notices of a controller, about what it controls.
type Notices struct {
	Regarding corev1.ObjectReference
	// Component is the controller, such as "replicaset-controller".
	Component string
}

// Reference names an object of a kind, as events do.
func Reference(obj metav1.Object, kind schema.GroupVersionKind) corev1.ObjectReference {
	return corev1.ObjectReference{
		Kind: kind.Kind, APIVersion: kind.GroupVersion().String(),
		Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion(),
	}
}

// NoticesOf makes the notices of a controller about an object of a kind.
func NoticesOf(obj metav1.Object, kind schema.GroupVersionKind, component string) Notices {
	return Notices{Regarding: Reference(obj, kind), Component: component}
}

// Normal is an event that all went well.
func (n Notices) Normal(reason, message string) *plan.Notice {
	return n.notice(corev1.EventTypeNormal, reason, message)
}

// Warning is an event that something did not.
func (n Notices) Warning(reason, message string) *plan.Notice {
	return n.notice(corev1.EventTypeWarning, reason, message)
}

func (n Notices) notice(eventType, reason, message string) *plan.Notice {
	return &plan.Notice{Regarding: n.Regarding, Type: eventType, Reason: reason, Message: message, Component: n.Component}
}

// Create makes a pod, with the events of createPods. reason is for logs.
func (n Notices) Create(pod *corev1.Pod, reason string) plan.Write {
	return plan.Write{
		Verb: plan.Create, Resource: plan.Pods, Namespace: pod.Namespace, Object: pod, Reason: reason,
		OnSuccess: n.Normal("SuccessfulCreate", "Created pod: {{name}}"),
		IfFailed:  n.Warning(FailedCreate, "Error creating: %v"),
	}
}

// Delete removes a pod, with the events of DeletePod. reason is for logs.
func (n Notices) Delete(pod *corev1.Pod, reason string) plan.Write {
	return plan.Write{
		Verb: plan.Delete, Resource: plan.Pods, Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Reason: reason,
		OnSuccess: n.Normal("SuccessfulDelete", "Deleted pod: "+pod.Name),
		IfFailed:  n.Warning(FailedDelete, "Error deleting: %v"),
	}
}
