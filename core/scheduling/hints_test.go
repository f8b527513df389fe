package scheduling_test

import (
	"flag"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/scheduling"
)

func withTaints(taints ...corev1.Taint) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, taints...) }
}

func withLabel(key, value string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[key] = value }
}

func wanting(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{key: value} }
}

// apartFrom keeps a pod off the nodes, or other domains, of pods with a label.
func apartFrom(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}, TopologyKey: corev1.LabelHostname,
			}},
		}}
	}
}

// TestHints is a scenario for each thing that may keep a pod off all nodes. Nodes have 4 CPUs and 8Gi.
func TestHints(t *testing.T) {
	dedicated := corev1.Taint{Key: "dedicated", Value: "db", Effect: corev1.TaintEffectNoSchedule}
	notReady := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}
	spread := func(p *corev1.Pod) {
		p.Labels = map[string]string{"app": "web"}
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		}}
	}
	for _, c := range []struct {
		name    string
		nodes   []*corev1.Node
		pods    []*corev1.Pod
		budgets []*policyv1.PodDisruptionBudget
		pod     *corev1.Pod
		want    string
	}{
		{
			name: "a pod that fits needs none", nodes: []*corev1.Node{node("a")}, pod: pod("p"),
		},
		{
			name: "no node", pod: pod("p"), want: "AddNode: there is no node: add one []",
		},
		{
			name:  "the nearest node is told, not the emptiest in one resource",
			nodes: []*corev1.Node{node("a"), node("b"), node("c", offering("cpu=16"))},
			pods: []*corev1.Pod{
				pod("1", on("a"), asking("cpu=3", "memory=1Gi")), pod("2", on("b"), asking("cpu=2500m", "memory=1Gi")),
				pod("3", on("c"), asking("cpu=15500m", "memory=7Gi")),
			},
			pod: pod("p", asking("cpu=2", "memory=2Gi")),
			want: `
Resources: b lacks 500m of cpu: free 1500m, asked 2000m [b]
AddNode: a new node like a would take it [a]`,
		},
		{
			name:  "several things are lacking",
			nodes: []*corev1.Node{node("a", offering("pods=1", "example.com/gpu=2"))},
			pods:  []*corev1.Pod{pod("1", on("a"), asking("cpu=3", "memory=7Gi", "example.com/gpu=1"))},
			pod:   pod("p", asking("cpu=2", "memory=2Gi", "example.com/gpu=2")),
			want: `
Resources: a lacks room for one more pod: it has 1 of 1; and 1000m of cpu: free 1000m, asked 2000m; and 1Gi of memory: free 1Gi, asked 2Gi; and 1 of example.com/gpu: free 1, asked 2 [a]
AddNode: a new node like a would take it [a]`,
		},
		{
			name: "no node is large enough", nodes: []*corev1.Node{node("a"), node("b", offering("cpu=8"))},
			pod: pod("p", asking("cpu=10", "example.com/gpu=1")),
			want: `
Resources: no node is large enough: asked 10000m of cpu, and b has most with 8000m [b]
Resources: no node has any example.com/gpu: asked 1 []`,
		},
		{
			name: "cordons", nodes: []*corev1.Node{node("a", cordoned), node("b", cordoned, offering("cpu=1")), node("c", cordoned)},
			pod: pod("p", asking("cpu=2")),
			want: `
Uncordon: uncordon a or c [a c]
AddNode: a new node like a would take it [a]`,
		},
		{
			name: "taints, those of most nodes first, and those of a state",
			nodes: []*corev1.Node{
				node("a", withTaints(dedicated)), node("b", withTaints(dedicated)), node("c", withTaints(dedicated)),
				node("d", withTaints(dedicated, corev1.Taint{Key: "k", Effect: corev1.TaintEffectNoExecute})), node("e", withTaints(notReady)),
			},
			pod: pod("p"),
			want: `
Tolerate: a toleration for taint dedicated=db:NoSchedule would open 3 nodes [a b c]
Tolerate: tolerations for taints dedicated=db:NoSchedule and k:NoExecute would open d [d]
Tolerate: e would take it without node.kubernetes.io/not-ready:NoExecute, which comes from the state that it is in [e]
AddNode: a new node like e would take it [e]`,
		},
		{
			name: "a label that no node has", nodes: []*corev1.Node{node("a"), node("b", cordoned)}, pod: pod("p", wanting("zone", "x")),
			want: `
Label: label zone=x is on no node; a would take it with zone=x [a]
Label: without its nodeSelector, a would take it [a]`,
		},
		{
			name: "a label on a full node", nodes: []*corev1.Node{node("a", withLabel("disk", "ssd")), node("b")},
			pods: []*corev1.Pod{pod("1", on("a"), asking("cpu=4"))}, pod: pod("p", asking("cpu=1"), wanting("disk", "ssd")),
			want: `
Label: b would take it with label disk=ssd [b]
Label: without its nodeSelector, b would take it [b]
Resources: a lacks 1000m of cpu: free 0m, asked 1000m [a]
AddNode: a new node like a would take it [a]`,
		},
		{
			name: "a zone is not given to a node", nodes: []*corev1.Node{node("a", withLabel(corev1.LabelTopologyZone, "y"))},
			pod: pod("p", wanting(corev1.LabelTopologyZone, "x")),
			want: `
Label: label topology.kubernetes.io/zone=x is on no node []
Label: without its nodeSelector, a would take it [a]`,
		},
		{
			name: "affinity to a node that is not there", nodes: []*corev1.Node{node("a")}, pod: pod("p", named("z")),
			want: "Label: without its required node affinity, a would take it [a]",
		},
		{
			name: "victims of the lowest priority", nodes: []*corev1.Node{node("a"), node("b")},
			pods: []*corev1.Pod{
				pod("a1", on("a"), asking("cpu=2"), prioritized(3)), pod("a2", on("a"), asking("cpu=2"), prioritized(1)),
				pod("b1", on("b"), asking("cpu=2"), prioritized(2)), pod("b2", on("b"), asking("cpu=2"), prioritized(1)),
			},
			pod: pod("p", asking("cpu=4"), prioritized(9)),
			want: `
Preempt: preempting default/b1 and default/b2 on b (lower priority) would make room [b]
Resources: a lacks 4000m of cpu: free 0m, asked 4000m [a]
AddNode: a new node like a would take it [a]`,
		},
		{
			name: "victims that a pod may not preempt, and that a budget wants to stay", nodes: []*corev1.Node{node("a")},
			pods: []*corev1.Pod{pod("a1", on("a"), asking("cpu=4"), prioritized(3), labelled("db"))},
			budgets: []*policyv1.PodDisruptionBudget{{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db"},
				Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}},
			}},
			pod: pod("p", asking("cpu=4"), prioritized(9), never),
			want: `
Preempt: with preemptionPolicy PreemptLowerPriority, preempting default/a1 on a (lower priority) would make room, against a disruption budget [a]
Resources: a lacks 4000m of cpu: free 0m, asked 4000m [a]
AddNode: a new node like a would take it [a]`,
		},
		{
			name: "a host port", nodes: []*corev1.Node{node("a")}, pods: []*corev1.Pod{pod("holder", on("a"), listening(""))}, pod: pod("p", listening("")),
			want: `
HostPort: host port 80/TCP is taken on a by default/holder; without its host ports, a would take the pod [a]
AddNode: a new node like a would take it [a]`,
		},
		{
			name:  "spreading over domains",
			nodes: []*corev1.Node{node("a", withLabel("zone", "x")), node("b", withLabel("zone", "y"), offering("cpu=1"))},
			pods:  []*corev1.Pod{pod("1", on("a"), labelled("web"))},
			pod:   pod("p", spread, asking("cpu=2")),
			want: `
Spread: without having to be spread over zone (maxSkew 1), a would take it [a]
Resources: b lacks 1000m of cpu: free 1000m, asked 2000m [b]`,
		},
		{
			name: "pods apart from each other", nodes: []*corev1.Node{node("a")}, pods: []*corev1.Pod{pod("1", on("a"), labelled("web"))},
			pod: pod("p", apartFrom("app", "web")),
			want: `
PodAffinity: without its required pod anti-affinity, a would take it [a]
AddNode: a new node like a would take it [a]`,
		},
		{
			name: "a claim that is not there", nodes: []*corev1.Node{node("a")}, pod: pod("p", mounting("data")),
			want: `Volumes: its volumes keep it off a, which would take it otherwise: persistentvolumeclaim "data" not found [a]`,
		},
		{
			name: "a new node has the pods of DaemonSets on it", nodes: []*corev1.Node{node("a")},
			pods: []*corev1.Pod{pod("agent", on("a"), asking("cpu=1"), of("DaemonSet", "agent")), pod("1", on("a"), asking("cpu=2"))},
			pod:  pod("p", asking("cpu=3500m")),
			want: "Resources: a lacks 2500m of cpu: free 1000m, asked 3500m [a]",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := scheduling.NewCluster()
			replay(cluster, scheduling.Input{Nodes: c.nodes, Pods: c.pods})
			for _, b := range c.budgets {
				cluster.SetBudget(b)
			}
			var lines []string
			for _, h := range cluster.Hints(c.pod, cluster.Evaluate(c.pod, now), now) {
				lines = append(lines, h.Kind+": "+h.Text+" ["+strings.Join(h.Nodes, " ")+"]")
			}
			if diff := cmp.Diff(strings.TrimPrefix(c.want, "\n"), strings.Join(lines, "\n")); diff != "" {
				t.Errorf("hints (-want +got):\n%s", diff)
			}
		})
	}
}

// TestHintsOfANewNodeHold by adding it.
func TestHintsOfANewNodeHold(t *testing.T) {
	checks := flag.Lookup("rapid.checks").Value // one draw in fifty has such a hint
	defer func(before string) { _ = checks.Set(before) }(checks.String())
	if err := checks.Set("1000"); err != nil {
		t.Fatal(err)
	}
	held := 0
	rapid.Check(t, func(t *rapid.T) {
		c, _ := history(t)
		p := anyPod(t, "probe", []string{"a"})
		p.Spec.NodeName, p.Status = "", corev1.PodStatus{Phase: corev1.PodPending}
		hints := c.Hints(p, c.Evaluate(p, now), now)
		if len(hints) > 5 {
			t.Errorf("%d hints", len(hints))
		}
		for _, h := range hints {
			if h.Kind != scheduling.HintAdd || len(h.Nodes) == 0 {
				continue
			}
			like := c.NodeNamed(h.Nodes[0])
			p.Spec.Priority = new(int32(1000)) // before all that waits
			out := c.WhatIf(scheduling.Change{Pods: []*corev1.Pod{p}, Add: []scheduling.Growth{{Template: like, Count: 1}}}, 1, now)
			for _, u := range out.Unfit {
				if u.Pod.Name == "probe" {
					t.Errorf("%s, and still: %s", h.Text, u.Message)
				}
			}
			held++
		}
	})
	if held == 0 {
		t.Error("none was told")
	}
}
