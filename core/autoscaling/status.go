package autoscaling

import (
	"fmt"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// rescale asks for another number of replicas. The write is made on the target as it was decided on.
func (d *decision) rescale(desired int32) {
	current := d.in.Scale.SpecReplicas
	d.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededRescale",
		fmt.Sprintf("the HPA controller was able to update the target scale to %d", desired))
	d.state.scaled(d.in.Autoscaler.Spec.Behavior, current, desired, d.in.Now)
	if current > 0 && desired == 0 && d.in.minReplicas() == 0 && wakes(d.in.Autoscaler) {
		d.condition(autoscalingv2.ScaledToZero, corev1.ConditionTrue, "ScaledToZero", "the HPA controller scaled the workload to zero")
	} else {
		d.condition(autoscalingv2.ScaledToZero, corev1.ConditionFalse, "NotScaledToZero", "the HPA controller did not scale the workload to zero")
	}
	success := d.about(corev1.EventTypeNormal, "SuccessfulRescale", fmt.Sprintf("New size: %d; reason: %s", desired, d.reason))
	d.plan.Writes = append(d.plan.Writes, plan.Write{
		Verb: plan.Update, Resource: d.in.Scale.Resource, Namespace: d.in.Autoscaler.Namespace, Name: d.in.target(), Subresource: plan.Scale,
		Object: &autoscalingv1.Scale{
			ObjectMeta: metav1.ObjectMeta{Namespace: d.in.Autoscaler.Namespace, Name: d.in.target(), ResourceVersion: d.in.Scale.ResourceVersion},
			Spec:       autoscalingv1.ScaleSpec{Replicas: desired},
		},
		ResourceVersion: d.in.Scale.ResourceVersion, Reason: d.reason, OnSuccess: &success,
	})
}

// refused says that the scale could not be written.
func (d *decision) refused(desired int32) {
	d.warn("FailedRescale", fmt.Sprintf("New size: %d; reason: %s; error: %v", desired, d.reason, d.in.Refused))
	d.condition(autoscalingv2.AbleToScale, corev1.ConditionFalse, "FailedUpdateScale",
		fmt.Sprintf("the HPA controller was unable to update the target scale: %v", d.in.Refused))
	d.status(d.in.Autoscaler.Status.DesiredReplicas, false)
}

// status renews what is not a condition.
//
// Upstream: setStatus (horizontal.go).
func (d *decision) status(desired int32, rescaled bool) {
	generation := d.in.Autoscaler.Generation
	d.changed.Status = autoscalingv2.HorizontalPodAutoscalerStatus{
		ObservedGeneration: &generation,
		CurrentReplicas:    d.in.Scale.SpecReplicas,
		DesiredReplicas:    desired,
		LastScaleTime:      d.changed.Status.LastScaleTime,
		CurrentMetrics:     d.metrics,
		Conditions:         d.changed.Status.Conditions,
	}
	if rescaled {
		d.changed.Status.LastScaleTime = new(d.in.stamp())
	}
}

// stamp is now, as precise as the API writes it.
func (in Input) stamp() metav1.Time { return metav1.NewTime(in.Now.UTC().Truncate(time.Second)) }

// condition sets a condition of the autoscaler. Its transition time moves with its status alone.
//
// Upstream: setConditionInList (horizontal.go).
func (d *decision) condition(kind autoscalingv2.HorizontalPodAutoscalerConditionType, status corev1.ConditionStatus, reason, message string) {
	c := findCondition(d.changed.Status.Conditions, kind)
	if c == nil {
		d.changed.Status.Conditions = append(d.changed.Status.Conditions, autoscalingv2.HorizontalPodAutoscalerCondition{Type: kind})
		c = &d.changed.Status.Conditions[len(d.changed.Status.Conditions)-1]
	}
	if c.Status != status {
		c.LastTransitionTime = d.in.stamp()
	}
	c.Status, c.Reason, c.Message = status, reason, message
}

func findCondition(list []autoscalingv2.HorizontalPodAutoscalerCondition, kind autoscalingv2.HorizontalPodAutoscalerConditionType) *autoscalingv2.HorizontalPodAutoscalerCondition {
	for i := range list {
		if list[i].Type == kind {
			return &list[i]
		}
	}
	return nil
}

// done ends a decision: the status is written if it has changed, and the moment to look again is kept
// or taken back.
func (d *decision) done(replicas int32) Decision {
	if !apiequality.Semantic.DeepEqual(d.in.Autoscaler.Status, d.changed.Status) {
		failed := d.about(corev1.EventTypeWarning, "FailedUpdateStatus", "%v")
		d.plan.Writes = append(d.plan.Writes, plan.Write{
			Verb: plan.UpdateStatus, Resource: plan.Autoscalers, Namespace: d.changed.Namespace, Name: d.changed.Name, Object: d.changed,
			UID: d.changed.UID, ResourceVersion: d.changed.ResourceVersion, Reason: "what the autoscaler has seen or decided has changed", IfFailed: &failed,
		})
	}
	d.later()
	return Decision{Plan: d.plan, State: d.state, Replicas: replicas}
}

func (d *decision) warn(reason, message string) {
	d.plan.Notices = append(d.plan.Notices, d.about(corev1.EventTypeWarning, reason, message))
}

func (d *decision) about(kind, reason, message string) plan.Notice {
	a := d.in.Autoscaler
	return plan.Notice{
		Regarding: corev1.ObjectReference{
			Kind: "HorizontalPodAutoscaler", APIVersion: autoscalingv2.SchemeGroupVersion.String(),
			Namespace: a.Namespace, Name: a.Name, UID: a.UID, ResourceVersion: a.ResourceVersion,
		},
		Type: kind, Reason: reason, Message: message, Component: component,
	}
}
