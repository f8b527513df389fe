package scheduling_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/scheduling"
)

// placed is where pods go by a profile, or why they do not.
func placed(profile scheduling.Profile, nodes []*corev1.Node, pods []*corev1.Pod) map[string]string {
	c := scheduling.NewCluster(profile)
	for _, n := range nodes {
		c.SetNode(n)
	}
	for _, p := range pods {
		c.SetPod(p)
	}
	return outcome(c.Place(1, now))
}

// TestProfilesChangeWherePodsGo is a scenario for each thing that a profile says.
func TestProfilesChangeWherePodsGo(t *testing.T) {
	busyAndIdle := []*corev1.Node{node("busy"), node("idle")}
	half := pod("half", on("busy"), asking("cpu=2", "memory=4Gi"))
	for _, c := range []struct {
		name   string
		change func(*scheduling.Profile)
		nodes  []*corev1.Node
		pods   []*corev1.Pod
		want   map[string]string
	}{
		{
			name: "by default a pod goes where more is left", change: func(*scheduling.Profile) {},
			nodes: busyAndIdle, pods: []*corev1.Pod{half, pod("p", asking("cpu=1", "memory=2Gi"))}, want: map[string]string{"p": "idle"},
		},
		{
			name:   "MostAllocated packs",
			change: func(p *scheduling.Profile) { p.Fit.Strategy = scheduling.MostAllocated },
			nodes:  busyAndIdle, pods: []*corev1.Pod{half, pod("p", asking("cpu=1", "memory=2Gi"))}, want: map[string]string{"p": "busy"},
		},
		{
			name: "RequestedToCapacityRatio scores by a shape: here three quarters are best",
			change: func(p *scheduling.Profile) {
				p.Fit = scheduling.Scoring{
					Strategy: scheduling.RequestedToCapacityRatio, Resources: []scheduling.WeightedResource{{Name: "cpu", Weight: 1}},
					Shape: scheduling.Shape{{Utilization: 0, Score: 0}, {Utilization: 75, Score: 100}, {Utilization: 100, Score: 0}},
				}
			},
			nodes: busyAndIdle, pods: []*corev1.Pod{half, pod("p", asking("cpu=1", "memory=2Gi"))}, want: map[string]string{"p": "busy"},
		},
		{
			name: "an added affinity is asked of every pod's node",
			change: func(p *scheduling.Profile) {
				p.AddedAffinity = pod("", named("idle")).Spec.Affinity.NodeAffinity
			},
			nodes: []*corev1.Node{node("busy")}, pods: []*corev1.Pod{pod("p")},
			want: map[string]string{"p": "0/1 nodes are available: 1 node(s) didn't match scheduler-enforced node affinity. preemption: " +
				"0/1 nodes are available: 1 Preemption is not helpful for scheduling."},
		},
		{
			name:   "a pod that names its node goes there though NodeAffinity does not filter, since that is asked before",
			change: func(p *scheduling.Profile) { delete(p.Filters, scheduling.NodeAffinity) },
			nodes:  busyAndIdle, pods: []*corev1.Pod{half, pod("p", named("busy"))}, want: map[string]string{"p": "busy"},
		},
		{
			name:   "a filter that is off refuses nothing",
			change: func(p *scheduling.Profile) { delete(p.Filters, scheduling.NodeUnschedulable) },
			nodes:  []*corev1.Node{node("a", cordoned)}, pods: []*corev1.Pod{pod("p")}, want: map[string]string{"p": "a"},
		},
		{
			name:   "a resource that is ignored need not be there",
			change: func(p *scheduling.Profile) { p.IgnoredResources = map[string]bool{"example.com/gpu": true} },
			nodes:  []*corev1.Node{node("a")}, pods: []*corev1.Pod{pod("p", asking("example.com/gpu=1"))}, want: map[string]string{"p": "a"},
		},
		{
			name:   "nobody is preempted where preemption is off",
			change: func(p *scheduling.Profile) { p.Preempts = false },
			nodes:  []*corev1.Node{node("a")}, pods: []*corev1.Pod{pod("low", on("a"), asking("cpu=4")), pod("p", asking("cpu=4"), prioritized(9))},
			want: map[string]string{"p": "0/1 nodes are available: 1 Insufficient cpu."},
		},
		{
			name:   "pods of other schedulers are left alone",
			change: func(p *scheduling.Profile) { p.SchedulerName = "mine" },
			nodes:  []*corev1.Node{node("a")}, pods: []*corev1.Pod{pod("p"), pod("q", func(p *corev1.Pod) { p.Spec.SchedulerName = "mine" })},
			want: map[string]string{"q": "a"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			profile := scheduling.DefaultProfile()
			c.change(&profile)
			if diff := cmp.Diff(c.want, placed(profile, c.nodes, c.pods)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAPodThatNeedsAFeatureGoesToANodeThatDeclaresIt(t *testing.T) {
	const feature = "RestartAllContainersOnContainerExits"
	declaring := node("new", func(n *corev1.Node) { n.Status.DeclaredFeatures = []string{feature} })
	needy := pod("p", func(p *corev1.Pod) {
		p.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestartAllContainers}}
	})
	if got := placed(scheduling.DefaultProfile(), []*corev1.Node{node("old"), declaring}, []*corev1.Pod{needy}); got["p"] != "new" {
		t.Errorf("it is told %q", got["p"])
	}
	want := "0/1 nodes are available: 1 node(s) didn't match Pod's required features. preemption: " +
		"0/1 nodes are available: 1 Preemption is not helpful for scheduling."
	if got := placed(scheduling.DefaultProfile(), []*corev1.Node{node("old")}, []*corev1.Pod{needy}); got["p"] != want {
		t.Errorf("it is told %q, want %q", got["p"], want)
	}
}
