package podcontrol

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	hashutil "k8s.io/kubernetes/pkg/util/hash"
)

// ComputeHash is the hash of a template that Deployments and DaemonSets name by: ComputeHash.
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
