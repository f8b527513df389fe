package volumes

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	v1helper "k8s.io/kubernetes/pkg/apis/core/v1/helper"
)

// bestMatch is the volume that a claim gets, nil for none: of the volumes with the fewest access modes that will do one that
// is for the claim, else the smallest. A claim that waits for its first consumer gets one that is for it only.
//
// Upstream: findByClaim of pkg/controller/volume/persistentvolume/index.go, and FindMatchingVolume.
func bestMatch(claim *corev1.PersistentVolumeClaim, volumes []*corev1.PersistentVolume, waits bool) *corev1.PersistentVolume {
	withModes := map[string][]*corev1.PersistentVolume{}
	for _, volume := range volumes {
		if storagehelpers.CheckAccessModes(claim, volume) {
			modes := v1helper.GetAccessModesAsString(volume.Spec.AccessModes)
			withModes[modes] = append(withModes[modes], volume)
		}
	}
	fewestFirst := slices.SortedFunc(maps.Keys(withModes), func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.Count(a, ","), strings.Count(b, ",")), cmp.Compare(a, b))
	})
	for _, modes := range fewestFirst {
		// A selector that is not valid, which the API server does not let in, matches nothing.
		if best, err := storagehelpers.FindMatchingVolume(claim, withModes[modes], nil, nil, waits, true); err == nil && best != nil {
			return best
		}
	}
	return nil
}

// mismatch is why a volume will not do for a claim that asks for it by name, empty if it will.
//
// Upstream: checkVolumeSatisfyClaim of pkg/controller/volume/persistentvolume/pv_controller.go.
func mismatch(volume *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) string {
	requested, size := claim.Spec.Resources.Requests[corev1.ResourceStorage], volume.Spec.Capacity[corev1.ResourceStorage]
	switch {
	case volume.DeletionTimestamp != nil:
		return `the volume is marked for deletion "` + volume.Name + `"`
	case size.Value() < requested.Value():
		return "requested PV is too small"
	case storagehelpers.GetPersistentVolumeClass(volume) != storagehelpers.GetPersistentVolumeClaimClass(claim):
		return "storageClassName does not match"
	case attributesClass(claim.Spec.VolumeAttributesClassName) != attributesClass(volume.Spec.VolumeAttributesClassName):
		return "volumeAttributesClassName does not match"
	case storagehelpers.CheckVolumeModeMismatches(&claim.Spec, &volume.Spec):
		return "incompatible volumeMode"
	case !storagehelpers.CheckAccessModes(claim, volume):
		return "incompatible accessMode"
	}
	return ""
}

func attributesClass(name *string) string {
	if name == nil {
		return ""
	}
	return *name
}
