package scheduling

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// What changes of nodes mean to the plugins that look at nothing else, and to others that look at little of them.

// uncordoned is a node that came without a cordon, or lost it.
//
// Upstream: isSchedulableAfterNodeChange in plugins/nodeunschedulable/node_unschedulable.go.
func uncordoned(_ *Cluster, _ *sleeper, old, now *corev1.Node) bool {
	return now != nil && !now.Spec.Unschedulable && (old == nil || old.Spec.Unschedulable)
}

// untainted is a node whose taints the pod tolerates now, and did not before.
//
// Upstream: isSchedulableAfterNodeChange in plugins/tainttoleration/taint_toleration.go.
func untainted(_ *Cluster, s *sleeper, old, now *corev1.Node) bool {
	return now != nil && toleratesTaints(s.class, now) == "" && (old == nil || toleratesTaints(s.class, old) != "")
}

// nowMatches is a node that the pod's affinity and the profile's match now, and did not before. Upstream takes one for old
// that only the profile's did not match.
//
// Upstream: isSchedulableAfterNodeChange in plugins/nodeaffinity/node_affinity.go.
func nowMatches(_ *Cluster, s *sleeper, old, now *corev1.Node) bool {
	return now != nil && matchesAffinity(s.class, now) == "" && (old == nil || matchesAffinity(s.class, old) != "")
}

// declaresOthers is a node that came, or declares other features.
//
// Upstream: isSchedulableAfterNodeChange in plugins/nodedeclaredfeatures/nodedeclaredfeatures.go.
func declaresOthers(_ *Cluster, _ *sleeper, old, now *corev1.Node) bool {
	return now != nil && (old == nil || !slices.Equal(old.Status.DeclaredFeatures, now.Status.DeclaredFeatures))
}

// cameNode is a node that came: it has no pods yet, whose ports or volumes could be in the way.
//
// Upstream: EventsToRegister in plugins/nodeports/node_ports.go. NodeVolumeLimits waits for the CSINode there; a node without
// one has no limits.
func cameNode(_ *Cluster, _ *sleeper, old, _ *corev1.Node) bool { return old == nil }

// cameOrRelabelled is a node that came, or has other labels.
//
// Upstream: EventsToRegister in plugins/volumebinding/volume_binding.go and plugins/volumezone/volume_zone.go.
func cameOrRelabelled(_ *Cluster, _ *sleeper, old, now *corev1.Node) bool {
	return now != nil && (old == nil || !maps.Equal(old.Labels, now.Labels))
}
