package scheduling_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/scheduling"
)

var now = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

func node(name string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}},
		Status:     corev1.NodeStatus{Allocatable: list("cpu=4", "memory=8Gi", "pods=110", "ephemeral-storage=100Gi")},
	}
	for _, f := range change {
		f(n)
	}
	return n
}

func offering(pairs ...string) func(*corev1.Node) {
	return func(n *corev1.Node) {
		maps.Copy(n.Status.Allocatable, list(pairs...))
	}
}

func tainted(effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "k", Effect: effect})
	}
}

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }

func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, pair := range pairs {
		for i := range pair {
			if pair[i] == '=' {
				out[corev1.ResourceName(pair[:i])] = resource.MustParse(pair[i+1:])
			}
		}
	}
	return out
}

func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "7", Generation: 1,
			CreationTimestamp: metav1.NewTime(now.Add(-time.Minute)),
		},
		Spec: corev1.PodSpec{
			SchedulerName: "default-scheduler",
			Containers:    []corev1.Container{{Name: "main", Image: "nginx"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func asking(pairs ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = list(pairs...) }
}

func on(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }

func prioritized(priority int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Priority = new(priority) }
}

// selecting keeps a pod to one node.
func selecting(node string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node} }
}

func listening(ip string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports,
			corev1.ContainerPort{HostPort: 80, ContainerPort: 80, HostIP: ip, Protocol: corev1.ProtocolTCP})
	}
}

func named(names ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		term := corev1.NodeSelectorTerm{}
		for _, name := range names {
			term.MatchFields = append(term.MatchFields, corev1.NodeSelectorRequirement{
				Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{name},
			})
		}
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}},
		}}
	}
}

// outcome is where each pod goes, or why it goes nowhere.
func outcome(result scheduling.Result) map[string]string {
	out := map[string]string{}
	for _, placed := range result.Placements {
		out[placed.Pod.Name] = placed.Node
	}
	for _, failed := range result.Unschedulable {
		out[failed.Pod.Name] = failed.Message
	}
	return out
}

func TestPodsGoWhereTheRulesAllow(t *testing.T) {
	sidecar := func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{{
			Name: "side", RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
			Resources: corev1.ResourceRequirements{Requests: list("cpu=3")},
		}}
	}
	cases := map[string]struct {
		nodes []*corev1.Node
		pods  []*corev1.Pod
		want  map[string]string
	}{
		"one node": {
			nodes: []*corev1.Node{node("a")}, pods: []*corev1.Pod{pod("p")},
			want: map[string]string{"p": "a"},
		},
		"no nodes": {
			pods: []*corev1.Pod{pod("p")},
			want: map[string]string{"p": "no nodes available to schedule pods"},
		},
		"the emptier node scores higher": {
			nodes: []*corev1.Node{node("a"), node("b")},
			pods:  []*corev1.Pod{pod("busy", on("a"), asking("cpu=2", "memory=4Gi")), pod("p", asking("cpu=1", "memory=2Gi"))},
			want:  map[string]string{"p": "b"},
		},
		"a pod placed in this run counts for the next": {
			nodes: []*corev1.Node{node("a"), node("b")},
			pods:  []*corev1.Pod{pod("p", asking("cpu=3")), pod("q", asking("cpu=3"), selecting("a")), pod("r", asking("cpu=3"))},
			want: map[string]string{"p": "b", "q": "a", "r": "0/2 nodes are available: 2 Insufficient cpu. " +
				"preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."},
		},
		"the higher priority goes first": {
			nodes: []*corev1.Node{node("a")},
			pods:  []*corev1.Pod{pod("p", asking("cpu=3")), pod("q", asking("cpu=3"), prioritized(10))},
			want: map[string]string{"q": "a", "p": "0/1 nodes are available: 1 Insufficient cpu. " +
				"preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."},
		},
		"each node has its reason": {
			nodes: []*corev1.Node{node("a", cordoned), node("b"), node("c")},
			pods: []*corev1.Pod{
				pod("b1", on("b"), asking("cpu=4")), pod("c1", on("c"), asking("cpu=4")), pod("p", asking("cpu=1")),
			},
			want: map[string]string{"p": "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. " +
				"preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, " +
				"2 No preemption victims found for incoming pod."},
		},
		"a request larger than the node cannot be helped": {
			nodes: []*corev1.Node{node("a")},
			pods:  []*corev1.Pod{pod("low", on("a"), prioritized(-1)), pod("p", asking("cpu=5", "memory=9Gi", "example.com/gpu=1"))},
			want: map[string]string{"p": "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient example.com/gpu, " +
				"1 Insufficient memory. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."},
		},
		"taints keep pods away": {
			nodes: []*corev1.Node{node("a", tainted(corev1.TaintEffectNoSchedule)), node("b", tainted(corev1.TaintEffectPreferNoSchedule))},
			pods: []*corev1.Pod{pod("p"), pod("q", selecting("a")), pod("r", selecting("a"), func(p *corev1.Pod) {
				p.Spec.Tolerations = []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists}}
			})},
			want: map[string]string{"p": "b", "r": "a", "q": "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, " +
				"1 node(s) had untolerated taint(s). preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."},
		},
		"PreferNoSchedule outweighs free room": {
			nodes: []*corev1.Node{node("a", tainted(corev1.TaintEffectPreferNoSchedule)), node("b")},
			pods:  []*corev1.Pod{pod("busy", on("b"), asking("cpu=3", "memory=6Gi")), pod("p", asking("cpu=1", "memory=2Gi"))},
			want:  map[string]string{"p": "b"},
		},
		"a node that is used evenly with the pod outweighs a little more room": {
			nodes: []*corev1.Node{node("a"), node("b")},
			pods: []*corev1.Pod{
				pod("cpu", on("a"), asking("cpu=2")), pod("memory", on("b"), asking("memory=4Gi")), pod("p", asking("cpu=1")),
			},
			want: map[string]string{"p": "b"},
		},
		"a node that the pod prefers outweighs room": {
			nodes: []*corev1.Node{node("a"), node("b")},
			pods: []*corev1.Pod{pod("busy", on("b"), asking("cpu=2", "memory=4Gi")), pod("p", asking("cpu=1"), func(p *corev1.Pod) {
				p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
					PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 1, Preference: corev1.NodeSelectorTerm{
						MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{"b"}}},
					}}},
				}}
			})},
			want: map[string]string{"p": "b"},
		},
		"what runs a pod counts with it": {
			nodes: []*corev1.Node{node("a")},
			pods:  []*corev1.Pod{pod("p", asking("cpu=3"), func(p *corev1.Pod) { p.Spec.Overhead = list("cpu=2") })},
			want: map[string]string{"p": "0/1 nodes are available: 1 Insufficient cpu. " +
				"preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."},
		},
		"host ports conflict by address": {
			nodes: []*corev1.Node{node("a")},
			pods: []*corev1.Pod{
				pod("held", on("a"), listening("10.0.0.1")),
				pod("p", listening("10.0.0.2")), pod("q", listening("")),
			},
			want: map[string]string{"p": "a", "q": "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. " +
				"preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."},
		},
		"a pod names its node by field": {
			nodes: []*corev1.Node{node("a"), node("b")},
			pods:  []*corev1.Pod{pod("p", named("b")), pod("q", named("c")), pod("r", named("a", "b"))},
			want: map[string]string{
				"p": "b",
				"q": "0/2 nodes are available: 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. " +
					"preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
				"r": "0/2 nodes are available: pod affinity terms conflict. not found",
			},
		},
		"sidecars count with containers": {
			nodes: []*corev1.Node{node("a")},
			pods:  []*corev1.Pod{pod("p", sidecar, asking("cpu=2"))},
			want: map[string]string{"p": "0/1 nodes are available: 1 Insufficient cpu. " +
				"preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."},
		},
		"the number of pods is bounded": {
			nodes: []*corev1.Node{node("a", offering("pods=1"))},
			pods:  []*corev1.Pod{pod("held", on("a")), pod("p")},
			want: map[string]string{"p": "0/1 nodes are available: 1 Too many pods. " +
				"preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."},
		},
		"finished pods take nothing": {
			nodes: []*corev1.Node{node("a", offering("pods=1"))},
			pods:  []*corev1.Pod{pod("done", on("a"), func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), pod("p")},
			want:  map[string]string{"p": "a"},
		},
		"gated, foreign and leaving pods are left alone": {
			nodes: []*corev1.Node{node("a")},
			pods: []*corev1.Pod{
				pod("gated", gated),
				pod("foreign", func(p *corev1.Pod) { p.Spec.SchedulerName = "other" }),
				pod("leaving", leaving),
			},
			want: map[string]string{},
		},
		"a pod that never preempts says so": {
			nodes: []*corev1.Node{node("a", offering("pods=1"))},
			pods: []*corev1.Pod{pod("held", on("a")), pod("p", prioritized(5), func(p *corev1.Pod) {
				p.Spec.PreemptionPolicy = new(corev1.PreemptNever)
			})},
			want: map[string]string{"p": "0/1 nodes are available: 1 Too many pods. preemption: not eligible due to preemptionPolicy=Never."},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			// Seed 1 settles ties; which node it favours is not the claim, that it does is.
			got := outcome(scheduling.Place(scheduling.Input{Nodes: c.nodes, Pods: c.pods, Seed: 1, Now: now}))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlanBindsWithTheVersionDecidedOn(t *testing.T) {
	got := scheduling.Place(scheduling.Input{Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{pod("p")}, Now: now}).Plan
	of := corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: "default", Name: "p", UID: "uid-p", ResourceVersion: "7"}
	want := plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.Bind, Resource: plan.Pods, Namespace: "default", Name: "p", UID: "uid-p",
			ResourceVersion: "7", Node: "a", Reason: got.Writes[0].Reason,
			OnSuccess: &plan.Notice{
				Regarding: of, Type: "Normal", Reason: "Scheduled", Message: "Successfully assigned default/p to a",
				Action: "Binding", Component: "default-scheduler",
			},
			IfFailed: &plan.Notice{
				Regarding: of, Type: "Warning", Reason: "FailedScheduling", Message: `running Bind plugin "DefaultBinder": %v`,
				Action: "Scheduling", Component: "default-scheduler",
			},
		}},
		Reads: []plan.Read{
			{Resource: plan.Pods, Namespace: "default", Name: "p"},
			{Resource: plan.Pods, Node: "a"},
			{Resource: plan.Pods, Repelling: true},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

func TestFailureIsToldOnce(t *testing.T) {
	p := pod("p", asking("cpu=9"))
	first := scheduling.Place(scheduling.Input{Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{p}, Now: now}).Plan
	message := "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
	told := p.DeepCopy()
	told.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: message,
		LastTransitionTime: metav1.NewTime(now), ObservedGeneration: 1,
	}}
	want := plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.UpdateStatus, Resource: plan.Pods, Namespace: "default", Name: "p", Object: told,
			UID: "uid-p", ResourceVersion: "7", Reason: "no node can take the pod",
		}},
		Notices: []plan.Notice{{
			Regarding: corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: "default", Name: "p", UID: "uid-p", ResourceVersion: "7"},
			Type:      "Warning", Reason: "FailedScheduling", Message: message, Action: "Scheduling", Component: "default-scheduler",
		}},
	}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("first plan (-want +got):\n%s", diff)
	}
	second := scheduling.Place(scheduling.Input{Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{told}, Now: now.Add(time.Hour)}).Plan
	if !second.Empty() {
		t.Errorf("a known failure is told again: %+v", second)
	}
	changed := scheduling.Place(scheduling.Input{Nodes: []*corev1.Node{node("a"), node("b")}, Pods: []*corev1.Pod{told}, Now: now.Add(time.Hour)}).Plan
	if at := changed.Writes[0].Object.(*corev1.Pod).Status.Conditions[0].LastTransitionTime; !at.Time.Equal(now) {
		t.Errorf("transition time moved to %v while the status stayed False", at)
	}
}

func TestResizedPodsCountWithTheLargestOfTheirResources(t *testing.T) {
	resizing := pod("big", on("a"), asking("cpu=1"), func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodRunning
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "main", Resources: &corev1.ResourceRequirements{Requests: list("cpu=3")},
		}}
	})
	got := scheduling.Place(scheduling.Input{Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{resizing, pod("p", asking("cpu=2"))}, Now: now})
	if len(got.Placements) != 0 {
		t.Errorf("placed beside a pod that still holds 3 CPUs: %v", got.Placements)
	}
}

func benchmark(b *testing.B, nodes, pods, shapes int, fresh bool) {
	in := scheduling.Input{Seed: 1, Now: now}
	for i := range nodes {
		in.Nodes = append(in.Nodes, node(fmt.Sprintf("node-%d", i), offering("cpu=32", "memory=128Gi", "pods=256")))
	}
	for i := range pods {
		in.Pods = append(in.Pods, pod(fmt.Sprintf("pod-%d", i), asking(fmt.Sprintf("cpu=%dm", 100+i%shapes), "memory=100Mi")))
	}
	c := scheduling.NewCluster()
	for _, n := range in.Nodes {
		c.SetNode(n)
	}
	for _, p := range in.Pods {
		c.SetPod(p)
	}
	b.ReportAllocs()
	for b.Loop() {
		placed := 0
		if fresh {
			placed = len(scheduling.Place(in).Placements)
		} else {
			placed = len(c.Place(1, now).Placements)
		}
		if placed != pods {
			b.Fatalf("placed %d of %d", placed, pods)
		}
	}
}

func BenchmarkPlace(b *testing.B) {
	b.Run("1000x100", func(b *testing.B) { benchmark(b, 100, 1000, 1, false) })
	b.Run("1000x100/fresh", func(b *testing.B) { benchmark(b, 100, 1000, 1, true) })
	b.Run("10000x5000", func(b *testing.B) { benchmark(b, 5000, 10000, 1, false) })
	b.Run("10000x5000/100shapes", func(b *testing.B) { benchmark(b, 5000, 10000, 100, false) })
	b.Run("1x5000", func(b *testing.B) { benchmark(b, 5000, 1, 1, false) })
}
