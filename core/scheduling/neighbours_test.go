package scheduling_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/scheduling"
)

func inZone(zone string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = zone }
}

func labelled(app string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = map[string]string{"app": app} }
}

func chosenBy(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

// spread spreads pods of the app "web" over the domains of a label, by one at most.
func spread(topology string, when corev1.UnsatisfiableConstraintAction) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: topology, WhenUnsatisfiable: when, LabelSelector: chosenBy("web"),
		})
	}
}

func near(app, topology string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{LabelSelector: chosenBy(app), TopologyKey: topology}},
		}}
	}
}

// alone keeps a pod off the nodes that have one of the app "web".
func alone() func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{LabelSelector: chosenBy("web"), TopologyKey: corev1.LabelHostname}},
		}}
	}
}

func preferring(app, topology string, weight int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
				Weight: weight, PodAffinityTerm: corev1.PodAffinityTerm{LabelSelector: chosenBy(app), TopologyKey: topology},
			}},
		}}
	}
}

// reporting has a node report an image.
func reporting(image string, mebibytes int64) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{image}, SizeBytes: mebibytes << 20})
	}
}

// TestPodsMindOtherPods is a scenario for each way in which pods elsewhere decide.
func TestPodsMindOtherPods(t *testing.T) {
	const host, zone = corev1.LabelHostname, corev1.LabelTopologyZone
	zones := []*corev1.Node{node("a1", inZone("a")), node("a2", inZone("a")), node("b1", inZone("b"))}
	hard, soft := corev1.DoNotSchedule, corev1.ScheduleAnyway
	for claim, c := range map[string]struct {
		nodes []*corev1.Node
		pods  []*corev1.Pod
		want  map[string]string
	}{
		"a zone that has one more gets no other, though no node elsewhere is open": {
			nodes: []*corev1.Node{node("a1", inZone("a"), cordoned), node("b1", inZone("b"))},
			pods:  []*corev1.Pod{pod("old", on("b1"), labelled("web")), pod("p", labelled("web"), spread(zone, hard))},
			want: map[string]string{"p": "0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) were unschedulable. " +
				"preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."},
		},
		"a zone that the pod cannot be in does not count": {
			nodes: zones,
			pods:  []*corev1.Pod{pod("old", on("b1"), labelled("web")), pod("p", labelled("web"), spread(zone, hard), selecting("b1"))},
			want:  map[string]string{"p": "b1"},
		},
		"pods of one run are spread over zones": {
			nodes: zones,
			pods:  []*corev1.Pod{pod("p", labelled("web"), spread(zone, hard)), pod("q", labelled("web"), spread(zone, hard), asking("cpu=3"), selecting("b1"))},
			want:  map[string]string{"p": "a1", "q": "b1"},
		},
		"a node outside of all zones says so": {
			nodes: []*corev1.Node{node("x")},
			pods:  []*corev1.Pod{pod("p", labelled("web"), spread(zone, hard))},
			want: map[string]string{"p": "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label). " +
				"preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."},
		},
		"spreading that is only wished for outweighs a little room": {
			nodes: []*corev1.Node{node("a"), node("b")},
			pods: []*corev1.Pod{
				pod("old", on("a"), labelled("web")), pod("busy", on("b"), asking("cpu=1", "memory=2Gi")),
				pod("p", labelled("web"), spread(host, soft)),
			},
			want: map[string]string{"p": "b"},
		},
		"a pod goes to the zone of those that it must be near": {
			nodes: zones,
			pods:  []*corev1.Pod{pod("db", on("b1"), labelled("db"), asking("cpu=2", "memory=4Gi")), pod("p", near("db", zone))},
			want:  map[string]string{"p": "b1"},
		},
		"the first of those that want to be near each other goes anywhere, the next with it": {
			nodes: []*corev1.Node{node("a"), node("b")},
			pods:  []*corev1.Pod{pod("p", labelled("db"), near("db", host), selecting("b")), pod("q", labelled("db"), near("db", host))},
			want:  map[string]string{"p": "b", "q": "b"},
		},
		"a pod waits for those that it must be near": {
			nodes: []*corev1.Node{node("a")},
			pods:  []*corev1.Pod{pod("p", near("db", host))},
			want: map[string]string{"p": "0/1 nodes are available: 1 node(s) didn't match pod affinity rules. " +
				"preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."},
		},
		"a pod that waits for another of the same run is placed after it": {
			nodes: []*corev1.Node{node("a")},
			pods:  []*corev1.Pod{pod("p", near("db", host), prioritized(5)), pod("q", labelled("db"))},
			want:  map[string]string{"p": "a", "q": "a"},
		},
		"pods that keep apart are on nodes of their own": {
			nodes: []*corev1.Node{node("a"), node("b")},
			pods: []*corev1.Pod{
				pod("p", labelled("web"), alone(), selecting("a")), pod("q", labelled("web"), alone()),
				pod("r", labelled("web"), alone()),
			},
			want: map[string]string{"p": "a", "q": "b", "r": "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules. " +
				"preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."},
		},
		"a pod that asks for nothing is kept off by one that does": {
			nodes: []*corev1.Node{node("a")},
			pods:  []*corev1.Pod{pod("lonely", on("a"), alone()), pod("p", labelled("web"))},
			want: map[string]string{"p": "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules. " +
				"preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."},
		},
		"a wish to be near outweighs room": {
			nodes: zones,
			pods:  []*corev1.Pod{pod("db", on("b1"), labelled("db"), asking("cpu=1", "memory=2Gi")), pod("p", preferring("db", zone, 50))},
			want:  map[string]string{"p": "b1"},
		},
		"the wish of a pod on a node draws others to it": {
			nodes: zones,
			pods:  []*corev1.Pod{pod("fan", on("b1"), preferring("web", zone, 50), asking("cpu=1", "memory=2Gi")), pod("p", labelled("web"))},
			want:  map[string]string{"p": "b1"},
		},
		"a node that has the image is preferred, where many do": {
			nodes: []*corev1.Node{node("a"), node("b", reporting("nginx:latest", 900))},
			pods:  []*corev1.Pod{pod("busy", on("b"), asking("cpu=1", "memory=2Gi")), pod("p")},
			want:  map[string]string{"p": "b"},
		},
	} {
		t.Run(claim, func(t *testing.T) {
			got := outcome(scheduling.Place(scheduling.Input{Nodes: c.nodes, Pods: c.pods, Seed: 1, Now: now}))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPodsOfAServiceAreSpread though they do not ask for it, also when the Service is known later than they are.
func TestPodsOfAServiceAreSpread(t *testing.T) {
	c := scheduling.NewCluster()
	for _, n := range []*corev1.Node{node("a"), node("b")} {
		c.SetNode(n)
	}
	c.SetPod(pod("old", on("a"), labelled("web")))
	c.SetPod(pod("busy", on("b"), asking("cpu=1", "memory=2Gi")))
	c.SetPod(pod("p", labelled("web")))
	if got := outcome(c.Place(1, now)); got["p"] != "a" {
		t.Fatalf("without a Service the pod goes to the emptier node: %v", got)
	}
	c.SetService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}}})
	if got := outcome(c.Place(1, now)); got["p"] != "b" {
		t.Errorf("with a Service the pod goes away from its like: %v", got)
	}
	c.DeleteService("default", "web")
	if got := outcome(c.Place(1, now)); got["p"] != "a" {
		t.Errorf("when the Service is gone: %v", got)
	}
}

// TestWhatPodsMindIsTheSameHoweverTheClusterWasBuilt changes nodes and pods under a cluster that is kept.
func TestWhatPodsMindIsTheSameHoweverTheClusterWasBuilt(t *testing.T) {
	kept := scheduling.NewCluster()
	var nodes []*corev1.Node
	for i := range 6 {
		nodes = append(nodes, node(fmt.Sprintf("n%d", i), inZone(string(rune('a'+i%3)))))
		kept.SetNode(nodes[i])
	}
	place := func(c *scheduling.Cluster) map[string]string { return outcome(c.Place(3, now)) }
	var pods []*corev1.Pod
	for i := range 8 {
		p := pod(fmt.Sprintf("p%d", i), labelled("web"), spread(corev1.LabelTopologyZone, corev1.DoNotSchedule), alone())
		pods = append(pods, p)
		kept.SetPod(p)
		place(kept)
	}
	for name, target := range place(kept) {
		for i, p := range pods {
			if p.Name == name && i%2 == 0 && len(target) == 2 {
				pods[i] = pod(name, labelled("web"), on(target))
				kept.SetPod(pods[i])
			}
		}
	}
	kept.DeleteNode("n0")
	nodes[1] = node("n1", inZone("c"))
	kept.SetNode(nodes[1])
	fresh := scheduling.NewCluster()
	for _, n := range nodes[1:] {
		fresh.SetNode(n)
	}
	for _, p := range pods {
		fresh.SetPod(p)
	}
	if diff := cmp.Diff(place(fresh), place(kept)); diff != "" {
		t.Errorf("(-fresh +kept):\n%s", diff)
	}
}

// benchmarkNeighbours places pods of one app that mind each other.
func benchmarkNeighbours(b *testing.B, nodes, pods int, change ...func(*corev1.Pod)) {
	c := scheduling.NewCluster()
	for i := range nodes {
		c.SetNode(node(fmt.Sprintf("node-%d", i), inZone(fmt.Sprintf("zone-%d", i%10)), offering("cpu=32", "memory=128Gi", "pods=256")))
	}
	for i := range pods {
		c.SetPod(pod(fmt.Sprintf("pod-%d", i), append([]func(*corev1.Pod){labelled("web"), asking("cpu=100m", "memory=100Mi")}, change...)...))
	}
	b.ReportAllocs()
	for b.Loop() {
		if placed := len(c.Place(1, now).Placements); placed != pods {
			b.Fatalf("placed %d of %d", placed, pods)
		}
	}
	b.ReportMetric(float64(pods*b.N)/b.Elapsed().Seconds(), "pods/s")
}

func BenchmarkPlaceNeighbours(b *testing.B) {
	const host, zone = corev1.LabelHostname, corev1.LabelTopologyZone
	for name, change := range map[string]func(*corev1.Pod){
		"spread": spread(zone, corev1.DoNotSchedule), "preferred spread": spread(zone, corev1.ScheduleAnyway),
		"affinity": near("web", zone), "anti-affinity": alone(), "preferred affinity": preferring("web", zone, 10),
	} {
		b.Run(name, func(b *testing.B) { benchmarkNeighbours(b, 5000, 5000, change) })
	}
}
