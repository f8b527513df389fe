package scheduling

import (
	"maps"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// storageUse is how much of storage of a class a pod would take, in bytes.
type storageUse struct{ requested, capacity int64 }

// score prefers nodes on which the group's claims take the smaller part of what there is.
//
// Upstream: Score in plugins/volumebinding/volume_binding.go and buildScorerFunction in plugins/volumebinding/scorer.go,
// with the feature gate StorageCapacityScoring, which is on, and its default shape.
func (v *volumes) score(n *nodeState) int64 {
	if !v.scored() || n.node == nil {
		return 0
	}
	b, _ := v.bind(n)
	classes := map[string]storageUse{}
	for _, s := range b.static {
		pv, pvc := s.volume.now(), s.claim.now()
		use, requested, size := classes[pv.Spec.StorageClassName], pvc.Spec.Resources.Requests[corev1.ResourceStorage], pv.Spec.Capacity[corev1.ResourceStorage]
		classes[pv.Spec.StorageClassName] = storageUse{use.requested + requested.Value(), use.capacity + size.Value()}
	}
	for _, d := range b.dynamic {
		// Where some volumes are there already, only those count.
		if len(b.static) > 0 || d.on == nil {
			continue
		}
		pvc := d.claim.now()
		class := classOfClaim(pvc)
		requested := pvc.Spec.Resources.Requests[corev1.ResourceStorage]
		use := storageUse{requested: classes[class].requested + requested.Value()}
		if d.on.Capacity != nil {
			use.capacity = d.on.Capacity.Value()
		}
		classes[class] = use
	}
	if len(classes) == 0 {
		return 0
	}
	var sum int64
	for _, class := range slices.Sorted(maps.Keys(classes)) {
		sum += v.profile.VolumeShape.of(classes[class])
	}
	return int64(math.Round(float64(sum) / float64(len(classes))))
}

// of is the score for the part that is used.
func (s Shape) of(u storageUse) int64 {
	if u.capacity == 0 || u.requested > u.capacity {
		return s.at(100)
	}
	return s.at(u.requested * 100 / u.capacity)
}

// weighted is the score with its weight.
func (v *volumes) weighted(c *class, n *nodeState) int64 {
	if !v.scored() {
		return 0
	}
	return c.profile.weights.volumes * v.score(n)
}
