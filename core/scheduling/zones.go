package scheduling

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const (
	reasonZone = "node(s) had no available volume zone"
	// zoneDelimiter stands between the zones of one label (pkg/volume/util.go of cloud-provider).
	zoneDelimiter = "__"
)

// zone is a label that a volume asks of a node, and the values that will do.
type zone struct {
	label  string
	values []string
}

// zoneLabels are those that VolumeZone looks at, with the one that took the place of each.
var zoneLabels = []struct{ label, successor string }{
	{corev1.LabelFailureDomainBetaZone, corev1.LabelTopologyZone}, {corev1.LabelFailureDomainBetaRegion, corev1.LabelTopologyRegion},
	{corev1.LabelTopologyZone, corev1.LabelTopologyZone}, {corev1.LabelTopologyRegion, corev1.LabelTopologyRegion},
}

// zonesOf are the zones that a volume's labels tell. A label that names an empty zone tells nothing.
//
// Upstream: getPVTopologies in plugins/volumezone/volume_zone.go and LabelZonesToSet in
// k8s.io/cloud-provider/volume/helpers/zones.go.
func zonesOf(pv *corev1.PersistentVolume) []zone {
	var zones []zone
	for _, of := range zoneLabels {
		value, has := pv.Labels[of.label]
		if !has {
			continue
		}
		values := strings.Split(value, zoneDelimiter)
		for i := range values {
			values[i] = strings.TrimSpace(values[i])
		}
		if !slices.Contains(values, "") {
			zones = append(zones, zone{of.label, values})
		}
	}
	return zones
}

// outOfZone refuses nodes in another zone than a volume of the pod. A node that is in none will do.
//
// Upstream: Filter in plugins/volumezone/volume_zone.go.
func (v *volumes) outOfZone(node *corev1.Node) string {
	if len(v.zones) == 0 {
		return ""
	}
	located := false
	for _, of := range zoneLabels {
		_, has := node.Labels[of.label]
		located = located || has
	}
	if !located {
		return ""
	}
	for _, z := range v.zones {
		value, has := node.Labels[z.label]
		for _, of := range zoneLabels {
			if of.label == z.label && !has {
				value, has = node.Labels[of.successor]
			}
		}
		if !has || !slices.Contains(z.values, value) {
			return reasonZone
		}
	}
	return ""
}
