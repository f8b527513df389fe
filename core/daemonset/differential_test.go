package daemonset

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/daemon"
	"k8s.io/kubernetes/pkg/controller/daemon/util"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/history"
	"github.com/zeroplane/zeroplane/tests/planworld"
)

// The tests of this file put the same inputs to this package and to the functions of Kubernetes that
// it re-implements.

func differs[T any](t *rapid.T, what string, ours, upstream T) {
	t.Helper()
	if diff := cmp.Diff(upstream, ours); diff != "" {
		t.Fatalf("%s differs from upstream (-upstream +ours):\n%s", what, diff)
	}
}

func drawNode(t *rapid.T, name string) *corev1.Node {
	node := newNode(name)
	node.Labels["zone"] = rapid.SampledFrom([]string{"a", "a", "b"}).Draw(t, "zone")
	keys := rapid.SampledFrom([]string{"own", corev1.TaintNodeNotReady, corev1.TaintNodeUnschedulable, corev1.TaintNodeNetworkUnavailable})
	effects := rapid.SampledFrom([]corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule})
	for range rapid.IntRange(-3, 2).Draw(t, "taints") {
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: keys.Draw(t, "key"), Effect: effects.Draw(t, "effect")})
	}
	return node
}

func drawIntOrString(t *rapid.T, name string) *intstr.IntOrString {
	n := intstr.FromInt(rapid.IntRange(0, 4).Draw(t, name))
	if rapid.Bool().Draw(t, name+" in percent") {
		n = intstr.FromString(fmt.Sprintf("%d%%", rapid.IntRange(0, 100).Draw(t, name)))
	}
	return &n
}

func drawSet(t *rapid.T) *appsv1.DaemonSet {
	set := newSet()
	spec := &set.Spec.Template.Spec
	spec.Containers[0].Image = rapid.SampledFrom([]string{"v1", "v2", "v3"}).Draw(t, "image")
	spec.HostNetwork = rapid.IntRange(0, 3).Draw(t, "host network") == 0
	if rapid.IntRange(0, 3).Draw(t, "tolerates") == 0 {
		spec.Tolerations = []corev1.Toleration{{Key: "own", Operator: corev1.TolerationOpExists}}
	}
	switch rapid.IntRange(0, 5).Draw(t, "selects") {
	case 0:
		spec.NodeSelector = map[string]string{"zone": "a"}
	case 1:
		spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{"b"}}}}},
		}}}
	case 2:
		spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{}}
	}
	set.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{
		MaxUnavailable: drawIntOrString(t, "unavailable"), MaxSurge: drawIntOrString(t, "surge"),
	}
	if rapid.IntRange(0, 4).Draw(t, "on delete") == 0 {
		set.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
	}
	if rapid.Bool().Draw(t, "odd generation") {
		set.Annotations = rapid.SampledFrom([]map[string]string{nil, {appsv1.DeprecatedTemplateGeneration: "x"}, {appsv1.DeprecatedTemplateGeneration: "3"}}).Draw(t, "annotations")
	}
	return set
}

func TestPlacementIsUpstreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set, node := drawSet(t), drawNode(t, "n1")
		set.Spec.Template.Spec.NodeName = rapid.SampledFrom([]string{"", "", "n1", "n2"}).Draw(t, "node name")
		before := planworld.Text(set)
		run, stay := placementOf(set).on(node)
		if planworld.Text(set) != before {
			t.Fatal("the set was altered")
		}
		theirRun, theirStay := daemon.NodeShouldRunDaemonPod(klog.Logger{}, node, set)
		differs(t, "shouldRun", run, theirRun)
		differs(t, "shouldContinueRunning", stay, theirStay)
	})
}

func TestLimitsAreUpstreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set, nodes := drawSet(t), rapid.IntRange(0, 12).Draw(t, "nodes")
		surge, _ := maxSurge(set, nodes)
		unavailable, _ := maxUnavailable(set, nodes)
		theirSurge, _ := util.SurgeCount(set, nodes)
		theirUnavailable, _ := util.UnavailableCount(set, nodes)
		differs(t, "SurgeCount", surge, theirSurge)
		differs(t, "UnavailableCount", unavailable, theirUnavailable)
		differs(t, "AllowsSurge", (&decision{set: set}).surges(), util.AllowsSurge(set))
	})
}

func TestPodsAreUpstreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := drawSet(t)
		ours := newPod(set, "n1", hashOf(set))
		generation, err := util.GetTemplateGeneration(set)
		if err != nil {
			generation = nil
		}
		template := util.CreatePodTemplate(set.Spec.Template, generation, hashOf(set))
		template.Spec.Affinity = util.ReplaceDaemonSetPodNodeNameNodeAffinity(template.Spec.Affinity, "n1")
		differs(t, "labels", ours.Labels, template.Labels)
		differs(t, "spec", ours.Spec, template.Spec)

		pod := newPodOf(set, "n1", "-x")
		pod.Spec.NodeName = rapid.SampledFrom([]string{"", "n2"}).Draw(t, "bound to")
		for _, key := range []string{generationLabel, appsv1.DefaultDaemonSetUniqueLabelKey} {
			switch rapid.IntRange(0, 2).Draw(t, key) {
			case 0:
				delete(pod.Labels, key)
			case 1:
				pod.Labels[key] = "3"
			}
		}
		r := &decision{set: set, current: newRevision(set, 1)}
		differs(t, "IsPodUpdated", r.isUpdated(pod), util.IsPodUpdated(pod, r.hash(), generation))
		if rapid.IntRange(0, 3).Draw(t, "odd affinity") == 0 {
			pod.Spec.Affinity = rapid.SampledFrom([]*corev1.Affinity{nil, {}, {NodeAffinity: &corev1.NodeAffinity{}}, {NodeAffinity: &corev1.NodeAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
					MatchFields: []corev1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{"a", "b"}}},
				}}},
			}}}).Draw(t, "affinity")
		}
		node, ok := targetNode(pod)
		theirs, err := util.GetTargetNodeName(pod)
		differs(t, "GetTargetNodeName", node, theirs)
		differs(t, "GetTargetNodeName", ok, err == nil)
	})
}

func TestRevisionsMatchAsUpstream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set, other := drawSet(t), drawSet(t)
		matches, err := daemon.Match(set, newRevision(other, 1))
		if err != nil {
			t.Fatal(err)
		}
		differs(t, "Match", string(history.Data(&set.Spec.Template)) == string(newRevision(other, 1).Data.Raw), matches)
	})
}
