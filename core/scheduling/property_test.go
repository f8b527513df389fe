package scheduling_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/scheduling"
)

func anyNode(t *rapid.T, name string) *corev1.Node {
	n := node(name, offering(
		fmt.Sprintf("cpu=%d", rapid.IntRange(0, 8).Draw(t, "cpu")),
		fmt.Sprintf("memory=%dGi", rapid.IntRange(0, 8).Draw(t, "memory")),
		fmt.Sprintf("pods=%d", rapid.IntRange(0, 6).Draw(t, "pods")),
		fmt.Sprintf("example.com/gpu=%d", rapid.IntRange(0, 2).Draw(t, "gpu")),
	))
	n.Labels["zone"] = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "zone")
	n.Spec.Unschedulable = rapid.IntRange(0, 9).Draw(t, "cordon") == 0
	for _, effect := range rapid.SliceOfN(rapid.SampledFrom([]corev1.TaintEffect{
		corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectPreferNoSchedule,
	}), 0, 2).Draw(t, "taints") {
		tainted(effect)(n)
	}
	return n
}

func anyPod(t *rapid.T, name string, nodes []string) *corev1.Pod {
	p := pod(name, asking(
		fmt.Sprintf("cpu=%dm", 500*rapid.IntRange(0, 4).Draw(t, "cpu")),
		fmt.Sprintf("memory=%dMi", 512*rapid.IntRange(0, 4).Draw(t, "memory")),
		fmt.Sprintf("example.com/gpu=%d", rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "gpu")),
	))
	p.CreationTimestamp = metav1.NewTime(now.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "age")) * time.Second))
	p.Spec.Priority = new(int32(rapid.IntRange(0, 2).Draw(t, "priority")))
	if rapid.Bool().Draw(t, "assigned") {
		p.Spec.NodeName = rapid.SampledFrom(nodes).Draw(t, "node")
	} else if rapid.IntRange(0, 3).Draw(t, "nominated") == 0 {
		p.Status.NominatedNodeName = rapid.SampledFrom(nodes).Draw(t, "nominee")
		switch rapid.IntRange(0, 3).Draw(t, "only hopes") {
		case 0:
			p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "later"}}
		case 1:
			p.DeletionTimestamp = new(metav1.NewTime(now))
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "selects") == 0 {
		p.Spec.NodeSelector = map[string]string{"zone": "x"}
	}
	if rapid.IntRange(0, 3).Draw(t, "tolerates") == 0 {
		p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	}
	if rapid.IntRange(0, 3).Draw(t, "listens") == 0 {
		listening(rapid.SampledFrom([]string{"", "10.0.0.1", "10.0.0.2"}).Draw(t, "ip"))(p)
	}
	for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "mounts") {
		mounting(fmt.Sprintf("c%d", rapid.IntRange(0, 3).Draw(t, "claim")))(p)
	}
	if rapid.IntRange(0, 2).Draw(t, "uses devices") == 0 {
		using(fmt.Sprintf("c%d", rapid.IntRange(0, 4).Draw(t, "device claim")))(p)
	}
	if rapid.IntRange(0, 9).Draw(t, "done") == 0 {
		p.Status.Phase = corev1.PodSucceeded
	}
	return p
}

// history is a cluster that went through random changes, and the objects that are left.
func history(t *rapid.T) (*scheduling.Cluster, scheduling.Input) {
	names := []string{"a", "b", "c", "d"}
	c := scheduling.NewCluster()
	nodes, pods, stored, racked := map[string]*corev1.Node{}, map[string]*corev1.Pod{}, newStorage(), newRack()
	if rapid.Bool().Draw(t, "has devices") {
		racked.start(c, names)
	}
	for i := range rapid.IntRange(0, 40).Draw(t, "changes") {
		name := rapid.SampledFrom(names).Draw(t, "node name")
		podName := fmt.Sprintf("p%d", rapid.IntRange(0, 9).Draw(t, "pod name"))
		switch rapid.IntRange(0, 17).Draw(t, "kind") {
		case 0, 1:
			nodes[name] = anyNode(t, name)
			c.SetNode(nodes[name])
		case 2:
			delete(nodes, name)
			c.DeleteNode(name)
		case 3:
			delete(pods, podName)
			c.DeletePod("default", podName)
		case 12, 13:
			c.Place(uint64(i), now) // what it keeps for the next run must be right then
		case 8, 9, 10, 11:
			stored.change(t, c, names)
		case 14, 15, 16, 17:
			racked.change(t, c, names)
		default:
			pods[podName] = anyPod(t, podName, names)
			pods[podName].Generation = int64(i + 1)
			c.SetPod(pods[podName])
		}
	}
	in := scheduling.Input{Seed: rapid.Uint64().Draw(t, "seed"), Now: now}
	stored.fill(&in)
	racked.fill(&in)
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		in.Nodes = append(in.Nodes, nodes[name])
	}
	for _, name := range slices.Sorted(maps.Keys(pods)) {
		in.Pods = append(in.Pods, pods[name])
	}
	return c, in
}

func TestKeptClusterAndRebuiltOneAnswerAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kept, in := history(t)
		want := scheduling.Place(in)
		if diff := cmp.Diff(want, kept.Place(in.Seed, in.Now)); diff != "" {
			t.Errorf("kept cluster (-rebuilt +kept):\n%s", diff)
		}
		if diff := cmp.Diff(want, kept.Place(in.Seed, in.Now)); diff != "" {
			t.Errorf("a run changed the cluster (-first +second):\n%s", diff)
		}
	})
}

func TestNoNodeIsOvercommitted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, in := history(t)
		result := scheduling.Place(in)
		on := map[string][]*corev1.Pod{}
		for _, p := range in.Pods {
			if p.Spec.NodeName != "" && p.Status.Phase != corev1.PodSucceeded {
				on[p.Spec.NodeName] = append(on[p.Spec.NodeName], p)
			}
		}
		got := map[string]bool{}
		for _, placed := range result.Placements {
			on[placed.Node] = append(on[placed.Node], placed.Pod)
			got[placed.Node] = true
		}
		for _, n := range in.Nodes {
			// What others put on the node before is not ours to answer for.
			if !got[n.Name] {
				continue
			}
			for _, name := range []corev1.ResourceName{"cpu", "memory", "example.com/gpu"} {
				var sum int64
				asked := false
				for _, p := range on[n.Name] {
					q := p.Spec.Containers[0].Resources.Requests[name]
					sum += q.MilliValue()
				}
				for _, placed := range result.Placements {
					q := placed.Pod.Spec.Containers[0].Resources.Requests[name]
					asked = asked || placed.Node == n.Name && !q.IsZero()
				}
				offer := n.Status.Allocatable[name]
				if offer.IsZero() && name == "example.com/gpu" && slices.ContainsFunc(in.DeviceClasses, func(c *resourceapi.DeviceClass) bool { return c.Spec.ExtendedResourceName != nil }) {
					continue // devices are given for it
				}
				if asked && sum > offer.MilliValue() {
					t.Errorf("node %s: %s asked %d, offered %d (thousandths)", n.Name, name, sum, offer.MilliValue())
				}
			}
			if limit := n.Status.Allocatable.Pods().Value(); int64(len(on[n.Name])) > limit {
				t.Errorf("node %s: %d pods, limit %d", n.Name, len(on[n.Name]), limit)
			}
		}
	})
}

func TestRunsOverWhatTheyLeftSoonAskForNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, in := history(t)
		for range 4 { // room is made, then it is said that victims are going, and who was let down by that says so
			result := scheduling.Place(in)
			if result.Plan.Empty() {
				return
			}
			in.Pods = carriedOut(in.Pods, result)
			in.Claims = written(in.Claims, result.Plan.Writes, func(o *corev1.PersistentVolumeClaim) string { return o.Name })
			in.ResourceClaims = written(in.ResourceClaims, result.Plan.Writes, func(o *resourceapi.ResourceClaim) string { return o.Name })
			in.Volumes = written(in.Volumes, result.Plan.Writes, func(o *corev1.PersistentVolume) string { return o.Name })
		}
		again := scheduling.Place(in).Plan
		again.Later = nil // when drivers are given up is told as long as a pod waits for them
		if !again.Empty() {
			t.Errorf("still there is something to do: %+v", again)
		}
	})
}

// carriedOut are the pods after a plan was committed. Victims take their time.
func carriedOut(pods []*corev1.Pod, result scheduling.Result) []*corev1.Pod {
	now := map[string]*corev1.Pod{}
	for _, p := range pods {
		now[p.Name] = p
	}
	for _, write := range result.Plan.Writes {
		if write.Resource != plan.Pods {
			continue
		}
		switch write.Verb {
		case plan.Delete:
			victim := now[write.Name].DeepCopy()
			victim.DeletionTimestamp = new(metav1.Now())
			now[write.Name] = victim
		default:
			if told, ok := write.Object.(*corev1.Pod); ok {
				now[write.Name] = told
			}
		}
	}
	for _, placed := range result.Placements {
		if placed.Waits {
			continue
		}
		bound := now[placed.Pod.Name].DeepCopy()
		bound.Spec.NodeName = placed.Node
		now[placed.Pod.Name] = bound
	}
	return slices.Collect(maps.Values(now))
}
