package rollout

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podcontrol"
)

// The components that upstream's events come from.
const (
	deploymentComponent = "deployment-controller"
	replicaSetComponent = "replicaset-controller"
	controllerComponent = "replication-controller"
)

func deploymentNotice(d *appsv1.Deployment, eventType, reason, message string) plan.Notice {
	return plan.Notice{
		Regarding: podcontrol.Reference(d, deploymentKind), Type: eventType,
		Reason: reason, Message: message, Component: deploymentComponent,
	}
}

// The kinds that control, as their controller references name them.
var (
	deploymentKind = appsv1.SchemeGroupVersion.WithKind("Deployment")
	replicaSetKind = appsv1.SchemeGroupVersion.WithKind("ReplicaSet")
	controllerKind = corev1.SchemeGroupVersion.WithKind("ReplicationController")
)

// scaled notes the ScalingReplicaSet event of deployment/sync.go.
func (r *deploymentDecision) scaled(direction, name string, from, to int32) {
	r.plan.Notices = append(r.plan.Notices, deploymentNotice(r.snapshot.Deployment, corev1.EventTypeNormal, "ScalingReplicaSet",
		fmt.Sprintf("Scaled %s replica set %s from %d to %d", direction, name, from, to)))
}
