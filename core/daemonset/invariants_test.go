package daemonset

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podstate"
	"github.com/zeroplane/zeroplane/tests/planworld"
)

// chaos is a world in which everyone acts in any order: users edit, pods fail or go, nodes come and go, kubelets are
// slow.
type chaos struct {
	*planworld.World
	t *rapid.T
}

func (c *chaos) set() *appsv1.DaemonSet {
	return planworld.Get[*appsv1.DaemonSet](c.World, plan.DaemonSets, "agent")
}

func (c *chaos) pods() []*corev1.Pod { return planworld.List[*corev1.Pod](c.World, plan.Pods) }

// standing counts, by node, the pods of the set that are there to stay, and how many nodes have an available one.
func (c *chaos) standing() (byNode map[string]int, available int) {
	byNode = map[string]int{}
	with := map[string]bool{}
	for _, pod := range c.pods() {
		if node, ok := targetNode(pod); ok && podstate.IsActive(pod) {
			byNode[node]++
			if podstate.IsAvailable(pod, c.set().Spec.MinReadySeconds, c.Now) {
				with[node] = true
			}
		}
	}
	return byNode, len(with)
}

// decide decides and applies one step, and checks what it may do: never more pods on a node than one, or two if the set
// surges; never more nodes that surge than maxSurge; no available pod less than is needed because of an update.
func (c *chaos) decide() {
	s := snapshot(c.World)
	before := planworld.Text(&s.Pods)
	p := Decide(s)
	if planworld.Text(&s.Pods) != before {
		c.t.Fatal("the decision altered its snapshot")
	}
	on, available := c.standing()
	run := map[string]bool{}
	for _, node := range s.Nodes {
		run[node.Name], _ = placementOf(s.Set).on(node)
	}
	if err := c.Apply(p); err != nil {
		c.t.Fatal(err)
	}
	desired := 0
	for _, yes := range run {
		if yes {
			desired++
		}
	}
	surge, _ := maxSurge(s.Set, desired)
	after, stillAvailable := c.standing()
	surging := 0
	for node, n := range after {
		if n > 1 {
			surging++
		}
		if n > on[node] && (!run[node] || n > 2 || n > 1 && surge == 0) {
			c.t.Fatalf("node %s gets pod number %d with maxSurge %d", node, n, surge)
		}
	}
	unavailable, _ := maxUnavailable(s.Set, desired)
	if unavailable == 0 && surge == 0 {
		unavailable = 1
	}
	if len(run) == desired && len(on) == desired && available-stillAvailable > 0 && stillAvailable < desired-unavailable && !c.repairs(p) {
		c.t.Fatalf("%d of %d nodes are left available, %d may be unavailable", stillAvailable, desired, unavailable)
	}
}

// repairs reports whether a plan removes pods for another reason than an update.
func (c *chaos) repairs(p plan.Plan) bool {
	for _, w := range p.Writes {
		if w.Verb == plan.Delete && w.Resource == plan.Pods && w.Reason != "it is old" && w.Reason != "a newer one replaces it" {
			return true
		}
	}
	return false
}

func (c *chaos) user(images []string) {
	planworld.Edit(c.World, plan.DaemonSets, "agent", func(set *appsv1.DaemonSet) {
		switch rapid.IntRange(0, 3).Draw(c.t, "edit") {
		case 0, 1:
			set.Spec.Template.Spec.Containers[0].Image = rapid.SampledFrom(images).Draw(c.t, "image")
		case 2:
			set.Spec.MinReadySeconds = rapid.SampledFrom([]int32{0, 5}).Draw(c.t, "min ready")
		case 3:
			set.Spec.Template.Spec.NodeSelector = rapid.SampledFrom([]map[string]string{nil, {"zone": "a"}}).Draw(c.t, "selector")
		}
	})
}

func (c *chaos) anyNode() {
	name := rapid.SampledFrom([]string{"n0", "n1", "n2", "n3"}).Draw(c.t, "node")
	if planworld.Get[*corev1.Node](c.World, plan.Nodes, name) != nil && rapid.Bool().Draw(c.t, "goes") {
		c.Remove(plan.Nodes, name)
		c.collect()
		return
	}
	c.Put(plan.Nodes, drawNode(c.t, name))
}

// collect removes the pods of nodes that are gone, as the pod garbage collector does.
func (c *chaos) collect() {
	for _, pod := range c.pods() {
		if pod.Spec.NodeName != "" && planworld.Get[*corev1.Node](c.World, plan.Nodes, pod.Spec.NodeName) == nil {
			c.Remove(plan.Pods, pod.Name)
		}
	}
}

func (c *chaos) anyPod() {
	pods := c.pods()
	if len(pods) == 0 {
		return
	}
	pod := rapid.SampledFrom(pods).Draw(c.t, "pod")
	switch rapid.IntRange(0, 7).Draw(c.t, "fate") {
	case 0:
		c.Break(pod.Name, rapid.Bool().Draw(c.t, "for good"))
	case 1:
		c.Remove(plan.Pods, pod.Name)
	case 2:
		planworld.Edit(c.World, plan.Pods, pod.Name, func(pod *corev1.Pod) { pod.OwnerReferences = nil })
	default:
		c.RunPod(pod.Name)
	}
}

func (c *chaos) act() {
	switch rapid.IntRange(0, 11).Draw(c.t, "who") {
	case 0:
		c.user([]string{"v1", "v2", "v3", planworld.Bad})
	case 1:
		c.anyNode()
	case 2, 3, 4, 5:
		c.decide()
	default:
		c.anyPod()
	}
	c.Now = c.Now.Add(time.Second)
}

// settleRounds bounds how many rounds a world may need: far more than any update here takes.
const settleRounds = 400

func (c *chaos) settle() {
	for range settleRounds {
		writes := c.Writes
		c.decide()
		moved := c.Kubelet()
		c.collect()
		if !moved && c.Writes == writes && !c.Due() {
			return
		}
		c.Now = c.Now.Add(time.Second)
	}
	c.t.Fatalf("not settled after %d rounds: %s", settleRounds, planworld.Text(c.set()))
}

// TestSettlesWhateverHappened: after any history, once pods can run again, the world comes to rest with one ready pod of
// the wanted revision on each node that should have one, and then the decision asks for nothing.
func TestSettlesWhateverHappened(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &chaos{World: planworld.New(epoch), t: t}
		set := drawSet(t)
		set.Annotations = nil // nobody counts the generations of the template here
		if set.Spec.UpdateStrategy.RollingUpdate == nil {
			set.Spec.UpdateStrategy = newSet().Spec.UpdateStrategy
		}
		limit := rapid.Int32Range(0, 2).Draw(t, "history limit")
		set.Spec.RevisionHistoryLimit = &limit
		c.Put(plan.DaemonSets, set)
		for i := range rapid.IntRange(0, 4).Draw(t, "nodes") {
			c.Put(plan.Nodes, drawNode(t, fmt.Sprintf("n%d", i)))
		}
		for range rapid.IntRange(0, 80).Draw(t, "steps") {
			c.act()
		}
		planworld.Edit(c.World, plan.DaemonSets, "agent", func(set *appsv1.DaemonSet) {
			set.Spec.Template.Spec.Containers[0].Image = rapid.SampledFrom([]string{"v1", "v2", "v4"}).Draw(t, "last image")
		})
		c.settle()
		c.requireSettled()
	})
}

func (c *chaos) requireSettled() {
	set := c.set()
	desired := int32(0)
	for _, node := range planworld.List[*corev1.Node](c.World, plan.Nodes) {
		run, stay := placementOf(set).on(node)
		if run {
			desired++
		}
		var pods []*corev1.Pod
		for _, pod := range c.pods() {
			if target, _ := targetNode(pod); target == node.Name {
				pods = append(pods, pod)
			}
		}
		if len(pods) > 1 || run && len(pods) == 0 || !stay && len(pods) > 0 {
			c.t.Fatalf("node %s has %d pods, should run %v, may stay %v", node.Name, len(pods), run, stay)
		}
		for _, pod := range pods {
			if run && (!podstate.IsReady(pod) || pod.Spec.Containers[0].Image != set.Spec.Template.Spec.Containers[0].Image) {
				c.t.Fatalf("%s is not ready, or not of the wanted revision:\n%s\n%s", pod.Name, planworld.Text(pod), planworld.Text(set))
			}
		}
	}
	s := set.Status
	if s.DesiredNumberScheduled != desired || s.NumberAvailable != desired || s.UpdatedNumberScheduled != desired || s.NumberUnavailable != 0 {
		c.t.Fatalf("%d nodes, status %s", desired, planworld.Text(set))
	}
	if p := Decide(snapshot(c.World)); !p.Empty() || len(c.Later) > 0 {
		c.t.Fatalf("the plan of a settled set asks for %+v, and waits for %v", p, c.Later)
	}
}

// TestTwoInstancesMakeNoTwoPodsForANode: what makes the plans of two instances exclude each other is that each reads the pods
// that the other one makes, by their owner.
func TestTwoInstancesMakeNoTwoPodsForANode(t *testing.T) {
	w := planworld.New(epoch)
	w.Put(plan.DaemonSets, newSet())
	w.Put(plan.Nodes, newNode("n0"))
	first, second := Decide(snapshot(w)), Decide(snapshot(w))
	reads := map[types.UID]bool{}
	for _, r := range second.Reads {
		if r.Resource == plan.Pods {
			reads[r.Owner] = true
		}
	}
	made := 0
	for _, write := range first.Writes {
		if pod, ok := write.Object.(*corev1.Pod); ok && write.Verb == plan.Create {
			made++
			if !reads[pod.OwnerReferences[0].UID] {
				t.Error("the pod that one instance makes is not read by the other")
			}
		}
	}
	if made != 1 {
		t.Errorf("%d pods are made, want 1", made)
	}
}
