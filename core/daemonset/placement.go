package daemonset

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper"

	"github.com/zeroplane/zeroplane/core/toleration"
)

// placement tells on which nodes the pods of a DaemonSet run.
type placement struct {
	// node is the only one, empty for any.
	node        string
	tolerations []corev1.Toleration
	affinity    nodeaffinity.RequiredNodeAffinity
}

func placementOf(set *appsv1.DaemonSet) placement {
	spec := set.Spec.Template.Spec
	addTolerations(&spec)
	return placement{
		node: spec.NodeName, tolerations: spec.Tolerations,
		affinity: nodeaffinity.NewRequiredNodeAffinity(spec.NodeSelector, spec.Affinity),
	}
}

// on tells whether a pod is to run on a node, and whether one that does may stay:
// daemon_controller.go NodeShouldRunDaemonPod. On no node neither is so.
func (p placement) on(node *corev1.Node) (run, stay bool) {
	if node == nil || p.node != "" && p.node != node.Name {
		return false, false
	}
	// An affinity that cannot be read counts as one that does not match, as upstream.
	if fits, _ := p.affinity.Match(node); !fits {
		return false, false
	}
	run, stay = true, true
	for i := range node.Spec.Taints {
		taint := &node.Spec.Taints[i]
		if taint.Effect == corev1.TaintEffectPreferNoSchedule || toleration.Matching(p.tolerations, taint) != nil {
			continue
		}
		run = false
		stay = stay && taint.Effect != corev1.TaintEffectNoExecute
	}
	return run, stay
}

// Concerns reports whether a change of a node, which is nil before it came and after it went, makes a
// decision about the set due: daemon_controller.go syncNodeUpdate. (Upstream also looks for the pods
// on the node; those come with changes of their own here.)
func Concerns(set *appsv1.DaemonSet, before, after *corev1.Node) bool {
	p := placementOf(set)
	ran, stayed := p.on(before)
	run, stay := p.on(after)
	return ran != run || stayed != stay
}

// addTolerations adds what every daemon pod tolerates: util/daemonset_util.go
// AddOrUpdateDaemonPodTolerations. The tolerations are replaced, not edited.
func addTolerations(spec *corev1.PodSpec) {
	add := func(key string, effect corev1.TaintEffect) {
		helper.AddOrUpdateTolerationInPodSpec(spec, &corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect})
	}
	add(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule)
	add(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)
	if spec.HostNetwork {
		add(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule)
	}
}
