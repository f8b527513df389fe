package rollout

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation"
	hashutil "k8s.io/kubernetes/pkg/util/hash"
)

// ComputeHash is the pod-template-hash of a template: controller_utils.go ComputeHash.
func ComputeHash(template *corev1.PodTemplateSpec, collisionCount *int32) string {
	hasher := fnv.New32a()
	hashutil.DeepHashObject(hasher, *template)
	if collisionCount != nil {
		// Eight bytes for a 32-bit count, as upstream: the four spare zeros are part of the hash.
		count := make([]byte, 8)
		binary.LittleEndian.PutUint32(count, uint32(*collisionCount)) //nolint:gosec // its bits are hashed
		_, _ = hasher.Write(count)                                    // a hash.Hash never fails
	}
	return rand.SafeEncodeString(fmt.Sprint(hasher.Sum32()))
}

// NewReplicaSetName is the name that the Deployment's new ReplicaSet gets if it has to be created.
// It depends on the template and on status.collisionCount.
func NewReplicaSetName(d *appsv1.Deployment) string {
	return replicaSetName(d.Name, ComputeHash(&d.Spec.Template, d.Status.CollisionCount))
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
