package scheduling_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/scheduling"
)

// of has a controller make a pod.
func of(kind, name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: name, Controller: new(true)}}
	}
}

// told writes an outcome down as people would.
func told(out scheduling.Outcome) string {
	var b strings.Builder
	for _, m := range out.Moves {
		fmt.Fprintf(&b, "%s %s: %s -> %s\n", m.Origin, m.Pod.Name, m.From, m.Node)
	}
	for _, p := range out.Preemptions {
		for _, v := range p.Victims {
			fmt.Fprintf(&b, "%s preempts %s on %s\n", p.Pod.Name, v.Name, p.Node)
		}
	}
	for _, u := range out.Unfit {
		fmt.Fprintf(&b, "%s %s: %s fits nowhere: %s\n", u.Origin, u.Pod.Name, u.From, u.Message)
		for _, h := range u.Hints {
			fmt.Fprintf(&b, "  %s: %s\n", h.Kind, h.Text)
		}
	}
	for _, p := range out.Lost {
		fmt.Fprintf(&b, "lost %s\n", p.Name)
	}
	for _, p := range out.Unasked {
		fmt.Fprintf(&b, "unasked %s\n", p.Name)
	}
	for _, h := range out.Held {
		fmt.Fprintf(&b, "held %s: %s\n", h.Pod.Name, h.Reason)
	}
	for _, name := range out.Unknown {
		fmt.Fprintf(&b, "unknown %s\n", name)
	}
	for _, n := range out.Nodes {
		state := ""
		if n.Added {
			state = " added"
		}
		if n.Removed {
			state = " removed"
		}
		fmt.Fprintf(&b, "%s%s: cpu %d>%d/%d memory %d>%d/%d pods %d>%d/%d\n", n.Node, state, n.CPU.Before, n.CPU.After, n.CPU.Allocatable,
			n.Memory.Before>>20, n.Memory.After>>20, n.Memory.Allocatable>>20, n.Pods.Before, n.Pods.After, n.Pods.Allocatable)
	}
	return b.String()
}

// TestWhatIf is a scenario for each thing that may come or go. Nodes have 4 CPUs and 8Gi.
func TestWhatIf(t *testing.T) {
	for _, c := range []struct {
		name   string
		nodes  []*corev1.Node
		pods   []*corev1.Pod
		change scheduling.Change
		want   string
	}{
		{
			name:   "pods come",
			nodes:  []*corev1.Node{node("a"), node("b")},
			pods:   []*corev1.Pod{pod("busy", on("a"), asking("cpu=3", "memory=2Gi"))},
			change: scheduling.Change{Pods: []*corev1.Pod{pod("p", asking("cpu=2", "memory=1Gi")), pod("q", asking("cpu=1"))}},
			want: `
New p:  -> b
New q:  -> b
a: cpu 3000>3000/4000 memory 2048>2048/8192 pods 1>1/110
b: cpu 0>3000/4000 memory 0>1024/8192 pods 0>2/110
`,
		},
		{
			name:  "a node goes: its controller's pod moves, the DaemonSet's stays with it, and the one without a controller is lost",
			nodes: []*corev1.Node{node("a"), node("b")},
			pods: []*corev1.Pod{
				pod("web", on("a"), asking("cpu=1"), of("ReplicaSet", "web")), pod("agent", on("a"), asking("cpu=1"), of("DaemonSet", "agent")),
				pod("mirror", on("a"), of("Node", "a"), func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }),
				pod("bare", on("a")), pod("kept", on("b"), asking("cpu=2"), of("ReplicaSet", "kept")),
			},
			change: scheduling.Change{Remove: []string{"a", "z"}},
			want: `
Moved web: a -> b
lost bare
unknown z
a removed: cpu 2000>0/4000 memory 0>0/8192 pods 4>0/110
b: cpu 2000>3000/4000 memory 0>0/8192 pods 1>2/110
`,
		},
		{
			name:  "pods whose claims are not there are not looked at, and told: one that comes, and one whose controller makes it again",
			nodes: []*corev1.Node{node("a"), node("b")},
			pods:  []*corev1.Pod{pod("web", on("a"), using("none"), of("ReplicaSet", "web"))},
			change: scheduling.Change{Remove: []string{"a"}, Pods: []*corev1.Pod{pod("p", func(p *corev1.Pod) {
				p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "r", ResourceClaimTemplateName: new("gpus")}}
			})}},
			want: `
held p: pod "default/p": ResourceClaim not created yet
held web: could not find ResourceClaim "default/none"
a removed: cpu 0>0/4000 memory 0>0/8192 pods 1>0/110
b: cpu 0>0/4000 memory 0>0/8192 pods 0>0/110
`,
		},
		{
			name:   "a node goes, and what was on it finds no room",
			nodes:  []*corev1.Node{node("a"), node("b")},
			pods:   []*corev1.Pod{pod("web", on("a"), asking("cpu=3"), of("ReplicaSet", "web")), pod("kept", on("b"), asking("cpu=2500m"))},
			change: scheduling.Change{Remove: []string{"a"}},
			want: `
Moved web: a fits nowhere: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.
  Resources: b lacks 1500m of cpu: free 1500m, asked 3000m
  AddNode: a new node like b would take it
a removed: cpu 3000>0/4000 memory 0>0/8192 pods 1>0/110
b: cpu 2500>2500/4000 memory 0>0/8192 pods 1>1/110
`,
		},
		{
			name:  "nodes come, each with a pod of the DaemonSet, and take who waited before",
			nodes: []*corev1.Node{node("a", cordoned)},
			pods: []*corev1.Pod{
				pod("agent-x", on("a"), asking("cpu=1"), of("DaemonSet", "agent"), named("a")), pod("waits", asking("cpu=3")),
			},
			change: scheduling.Change{
				Pods: []*corev1.Pod{pod("p", asking("cpu=3")), pod("q", asking("cpu=3"))},
				Add: []scheduling.Growth{{Count: 2, Template: node("a", cordoned, func(n *corev1.Node) {
					n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}}
				})}},
			},
			want: `
New p:  -> a-0
New q:  -> a-1
Waiting waits:  fits nowhere: 0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod.
  Uncordon: uncordon a
  Resources: a-0 lacks 3000m of cpu: free 0m, asked 3000m
  AddNode: a new node like a would take it
a: cpu 1000>1000/4000 memory 0>0/8192 pods 1>1/110
a-0 added: cpu 0>4000/4000 memory 0>0/8192 pods 0>2/110
a-1 added: cpu 0>4000/4000 memory 0>0/8192 pods 0>2/110
`,
		},
		{
			name:  "victims are made again, and look for a node",
			nodes: []*corev1.Node{node("a"), node("b", offering("cpu=2"))},
			pods: []*corev1.Pod{
				pod("low", on("a"), asking("cpu=2"), of("ReplicaSet", "low")), pod("bare", on("a"), asking("cpu=2"), prioritized(-1)),
			},
			change: scheduling.Change{Pods: []*corev1.Pod{pod("p", asking("cpu=4"), prioritized(5))}},
			want: `
New p:  -> a
Moved low: a -> b
p preempts low on a
p preempts bare on a
lost bare
a: cpu 4000>4000/4000 memory 0>0/8192 pods 2>1/110
b: cpu 0>2000/2000 memory 0>0/8192 pods 0>1/110
`,
		},
		{
			name:  "gated pods and those that name their node are not asked about",
			nodes: []*corev1.Node{node("a")},
			change: scheduling.Change{Pods: []*corev1.Pod{
				pod("there", on("a"), asking("cpu=1")),
				pod("gated", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "g"}} }),
			}},
			want: `
unasked there
unasked gated
a: cpu 0>1000/4000 memory 0>0/8192 pods 0>1/110
`,
		},
		{
			name:   "from nothing, names follow the template",
			change: scheduling.Change{Pods: []*corev1.Pod{pod("p")}, Add: []scheduling.Growth{{Count: 1, Template: node("m")}}},
			want: `
New p:  -> m-0
m-0 added: cpu 0>0/4000 memory 0>0/8192 pods 0>1/110
`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			cluster := scheduling.NewCluster()
			for _, n := range c.nodes {
				cluster.SetNode(n)
			}
			for _, p := range c.pods {
				cluster.SetPod(p)
			}
			got := told(cluster.WhatIf(c.change, 1, now))
			if diff := cmp.Diff(strings.TrimPrefix(c.want, "\n"), got); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(got, told(cluster.WhatIf(c.change, 1, now))); diff != "" {
				t.Errorf("asked again (-first +second):\n%s", diff)
			}
		})
	}
}

// anyChange is of the same names as a history, so that it hits what is there.
func anyChange(t *rapid.T) scheduling.Change {
	names := []string{"a", "b", "c", "d"}
	var change scheduling.Change
	for i := range rapid.IntRange(0, 5).Draw(t, "come") {
		name := fmt.Sprintf("p%d", rapid.IntRange(0, 9).Draw(t, "name"))
		p := anyPod(t, name, names)
		if i%2 == 0 {
			of("ReplicaSet", "web")(p)
		}
		change.Pods = append(change.Pods, p)
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "first") {
		p := pod(fmt.Sprintf("first%d", i), asking(fmt.Sprintf("cpu=%d", rapid.IntRange(0, 4).Draw(t, "cpu"))), prioritized(9))
		if rapid.Bool().Draw(t, "listens") {
			listening("")(p)
		}
		change.Pods = append(change.Pods, p)
	}
	for range rapid.IntRange(0, 2).Draw(t, "claims") {
		change.Claims = append(change.Claims, claim(fmt.Sprintf("c%d", rapid.IntRange(0, 3).Draw(t, "claim")), "fast"))
	}
	for range rapid.IntRange(0, 2).Draw(t, "growths") {
		change.Add = append(change.Add, scheduling.Growth{
			Template: anyNode(t, rapid.SampledFrom(names).Draw(t, "like")), Count: rapid.IntRange(0, 3).Draw(t, "count"),
		})
	}
	change.Controllers = []scheduling.Controller{{
		Kind: "ReplicaSet", Namespace: "default", Name: "web", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
	}}
	change.Remove = rapid.SliceOfN(rapid.SampledFrom(names), 0, 3).Draw(t, "remove")
	return change
}

func TestAClusterAnswersAlikeAfterAWhatIf(t *testing.T) {
	asked, unfit, preempted := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		c, in := history(t)
		c.SetBudget(&policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "b"}, Spec: policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{}},
		})
		change, probe := anyChange(t), anyPod(t, "probe", []string{"a", "b"})
		want, seen := c.Place(in.Seed, now), c.Evaluate(probe, now)
		out := c.WhatIf(change, in.Seed, now)
		asked, unfit, preempted = asked+1, unfit+len(out.Unfit), preempted+len(out.Preemptions)
		if diff := cmp.Diff(seen, c.Evaluate(probe, now)); diff != "" {
			t.Errorf("a pod is seen otherwise (-before +after):\n%s", diff)
		}
		if diff := cmp.Diff(want, c.Place(in.Seed, now)); diff != "" {
			t.Errorf("placed otherwise (-before +after):\n%s", diff)
		}
		rebuilt := scheduling.NewCluster()
		replay(rebuilt, in)
		if diff := cmp.Diff(told(out), told(rebuilt.WhatIf(change, in.Seed, now))); diff != "" {
			t.Errorf("a cluster that was built anew answers otherwise (-kept +rebuilt):\n%s", diff)
		}
		for _, n := range out.Nodes {
			if n.Removed && n.Pods.After != 0 || n.Added && n.Pods.Before != 0 {
				t.Errorf("%+v", n)
			}
		}
	})
	t.Logf("%d questions, %d pods that fit nowhere, %d that preempted others", asked, unfit, preempted)
	if unfit == 0 {
		t.Error("no pod had hints")
	}
}

// replay gives a cluster the objects of an input.
func replay(c *scheduling.Cluster, in scheduling.Input) {
	for _, n := range in.Nodes {
		c.SetNode(n)
	}
	for _, p := range in.Pods {
		c.SetPod(p)
	}
	for _, o := range in.Claims {
		c.SetClaim(o)
	}
	for _, o := range in.Volumes {
		c.SetVolume(o)
	}
	for _, o := range in.StorageClasses {
		c.SetStorageClass(o)
	}
	for _, o := range in.CSINodes {
		c.SetCSINode(o)
	}
	for _, o := range in.CSIDrivers {
		c.SetCSIDriver(o)
	}
	for _, o := range in.Capacities {
		c.SetStorageCapacity(o)
	}
	for _, o := range in.Attachments {
		c.SetAttachment(o)
	}
	for _, o := range in.ResourceClaims {
		c.SetResourceClaim(o)
	}
	for _, o := range in.ResourceSlices {
		c.SetResourceSlice(o)
	}
	for _, o := range in.DeviceClasses {
		c.SetDeviceClass(o)
	}
	for _, o := range in.DeviceTaintRules {
		c.SetDeviceTaintRule(o)
	}
}
