package rollout

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// The components that upstream's events come from.
const (
	deploymentComponent = "deployment-controller"
	replicaSetComponent = "replicaset-controller"
)

func deploymentNotice(d *appsv1.Deployment, eventType, reason, message string) plan.Notice {
	return plan.Notice{
		Regarding: reference("Deployment", d.ObjectMeta), Type: eventType,
		Reason: reason, Message: message, Component: deploymentComponent,
	}
}

func replicaSetNotice(rs *appsv1.ReplicaSet, eventType, reason, message string) *plan.Notice {
	return &plan.Notice{
		Regarding: reference("ReplicaSet", rs.ObjectMeta), Type: eventType,
		Reason: reason, Message: message, Component: replicaSetComponent,
	}
}

func reference(kind string, meta metav1.ObjectMeta) corev1.ObjectReference {
	return corev1.ObjectReference{
		Kind: kind, APIVersion: appsv1.SchemeGroupVersion.String(),
		Namespace: meta.Namespace, Name: meta.Name, UID: meta.UID, ResourceVersion: meta.ResourceVersion,
	}
}

// scaled notes the ScalingReplicaSet event of deployment/sync.go.
func (r *deploymentDecision) scaled(direction, name string, from, to int32) {
	r.plan.Notices = append(r.plan.Notices, deploymentNotice(r.snapshot.Deployment, corev1.EventTypeNormal, "ScalingReplicaSet",
		fmt.Sprintf("Scaled %s replica set %s from %d to %d", direction, name, from, to)))
}
