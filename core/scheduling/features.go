package scheduling

import (
	corev1 "k8s.io/api/core/v1"
	versionutil "k8s.io/apimachinery/pkg/util/version"
	"k8s.io/component-base/version"
	features "k8s.io/component-helpers/nodedeclaredfeatures"
)

const reasonFeatures = "node(s) didn't match Pod's required features"

// targetVersion is that of the control plane: what all nodes have had for long enough is not asked of them.
var targetVersion = versionutil.MustParse(version.Get().String())

// featuresOf are the features that a node must declare for a pod; none for nearly all pods.
//
// Upstream: PreFilter in plugins/nodedeclaredfeatures/nodedeclaredfeatures.go.
func featuresOf(pod *corev1.Pod) features.FeatureSet {
	// It fails only without a version.
	set, _ := features.DefaultFramework.InferForPodScheduling(&features.PodInfo{Spec: &pod.Spec}, targetVersion)
	return set
}

// declares reports whether a node declares all that the class needs.
//
// Upstream: Filter in plugins/nodedeclaredfeatures/nodedeclaredfeatures.go, KEP 5328.
func (n *nodeState) declares(c *class) bool {
	if c.features.IsEmpty() || !c.profile.Filters[NodeDeclaredFeatures] {
		return true
	}
	has, err := c.features.IsSubset(n.features)
	return err == nil && has
}
