package rollout

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/zeroplane/zeroplane/core/podcontrol"
)

// NewReplicaSetName is the name that the Deployment's new ReplicaSet gets if it has to be created.
// It depends on the template and on status.collisionCount.
func NewReplicaSetName(d *appsv1.Deployment) string {
	return replicaSetName(d.Name, podcontrol.ComputeHash(&d.Spec.Template, d.Status.CollisionCount))
}

// replicaSetName is deployment/sync.go generateReplicaSetName: a long name is cut to make room for
// the hash.
func replicaSetName(deployment, hash string) string {
	const separator = "-"
	room := validation.DNS1123SubdomainMaxLength - len(separator) - len(hash)
	if len(deployment) > room && room > 0 {
		deployment = deployment[:room]
	}
	return deployment + separator + hash
}
