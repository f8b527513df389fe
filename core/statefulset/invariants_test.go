package statefulset

import (
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/podstate"
	"github.com/zeroplane/zeroplane/tests/planworld"
)

// chaos is a world in which everyone acts in any order: users edit, pods fail or go, kubelets are slow.
type chaos struct {
	*planworld.World
	t *rapid.T
}

func (c *chaos) set() *appsv1.StatefulSet {
	return planworld.Get[*appsv1.StatefulSet](c.World, plan.StatefulSets, "web")
}

func (c *chaos) pods() []*corev1.Pod { return planworld.List[*corev1.Pod](c.World, plan.Pods) }

// decide decides and applies one step, and checks what it may do.
func (c *chaos) decide() {
	s := snapshot(c.World)
	before := planworld.Text(&s.Pods)
	p := Decide(s)
	if planworld.Text(&s.Pods) != before {
		c.t.Fatal("the decision altered its snapshot")
	}
	c.checkOrder(p)
	c.checkAvailability(p)
	if err := c.Apply(p); err != nil {
		c.t.Fatal(err)
	}
}

// checkOrder: a set in order starts one pod when all before it are available, and ends the last one when
// all before it are.
func (c *chaos) checkOrder(p plan.Plan) {
	set := c.set()
	if set.Spec.PodManagementPolicy == appsv1.ParallelPodManagement {
		return
	}
	created := 0
	for _, w := range p.Writes {
		_, ordinal := parentAndOrdinal(w.Name)
		pod := planworld.Get[*corev1.Pod](c.World, plan.Pods, w.Name)
		switch {
		case w.Resource != plan.Pods:
			continue
		case w.Verb == plan.Create:
			created++
		case w.Verb != plan.Delete || podstate.IsTerminal(pod) || pod.DeletionTimestamp != nil || inRange(set, pod):
			continue
		default: // condemned
			for _, other := range c.pods() {
				if _, o := parentAndOrdinal(other.Name); o > ordinal && !inRange(set, other) {
					c.t.Fatalf("%s is ended before %s", pod.Name, other.Name)
				}
			}
			ordinal = firstOrdinal(set) + size(set)
		}
		for o := firstOrdinal(set); o < min(ordinal, firstOrdinal(set)+size(set)); o++ {
			before := planworld.Get[*corev1.Pod](c.World, plan.Pods, podName(set, o))
			if before == nil || before.DeletionTimestamp != nil || !podstate.IsAvailable(before, set.Spec.MinReadySeconds, c.Now) {
				c.t.Fatalf("%s %s before %s is available", w.Verb, w.Name, podName(set, o))
			}
		}
	}
	if created > 1 {
		c.t.Fatalf("%d pods started at once", created)
	}
}

// checkAvailability: an update takes away an available pod only while no more than maxUnavailable are not.
func (c *chaos) checkAvailability(p plan.Plan) {
	set := c.set()
	available, taken := 0, 0
	for _, pod := range c.pods() {
		if pod.DeletionTimestamp == nil && inRange(set, pod) && podstate.IsAvailable(pod, set.Spec.MinReadySeconds, c.Now) {
			available++
			if slices.ContainsFunc(p.Writes, func(w plan.Write) bool {
				return w.Verb == plan.Delete && w.Resource == plan.Pods && w.Name == pod.Name
			}) {
				taken++
			}
		}
	}
	unavailable, err := intstr.GetScaledValueFromIntOrPercent(set.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable, size(set), false)
	if err != nil {
		c.t.Fatal(err)
	}
	if needed := size(set) - max(unavailable, 1); taken > 0 && available-taken < needed {
		c.t.Fatalf("%d of %d available are taken away, %d are needed", taken, available, needed)
	}
}

func (c *chaos) user(images []string) {
	planworld.Edit(c.World, plan.StatefulSets, "web", func(set *appsv1.StatefulSet) {
		switch rapid.IntRange(0, 4).Draw(c.t, "edit") {
		case 0, 1:
			set.Spec.Template.Spec.Containers[0].Image = rapid.SampledFrom(images).Draw(c.t, "image")
		case 2:
			replicas := rapid.Int32Range(0, 5).Draw(c.t, "replicas")
			set.Spec.Replicas = &replicas
		case 3:
			partition := rapid.Int32Range(0, 3).Draw(c.t, "partition")
			set.Spec.UpdateStrategy.RollingUpdate.Partition = &partition
		case 4:
			set.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: rapid.Int32Range(0, 2).Draw(c.t, "start")}
		}
	})
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
	switch rapid.IntRange(0, 9).Draw(c.t, "who") {
	case 0:
		c.user([]string{"v1", "v2", "v3", planworld.Bad})
	case 1, 2, 3, 4:
		c.decide()
	case 5:
		c.CollectGarbage()
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
		if moved, collected := c.Kubelet(), c.CollectGarbage(); !moved && !collected && c.Writes == writes && !c.Due() {
			return
		}
		c.Now = c.Now.Add(time.Second)
	}
	c.t.Fatalf("not settled after %d rounds: %s", settleRounds, planworld.Text(c.set()))
}

// TestSettlesWhateverHappened: after any history, once pods can run again, the world comes to rest with
// the wanted pods of the wanted revision and their claims, and then the decision asks for nothing. On the
// way no two pods have one ordinal, pods of a set in order start and end one after the other, and an update
// leaves as many available as it has to (the world and decide check).
func TestSettlesWhateverHappened(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &chaos{World: planworld.New(epoch), t: t}
		set := drawSet(t)
		if set.Spec.UpdateStrategy.RollingUpdate == nil {
			set.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{}}
		}
		fill(set)
		c.Put(plan.StatefulSets, set)
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			c.act()
		}
		planworld.Edit(c.World, plan.StatefulSets, "web", func(set *appsv1.StatefulSet) {
			set.Spec.UpdateStrategy.RollingUpdate.Partition = new(int32)
			set.Spec.Template.Spec.Containers[0].Image = rapid.SampledFrom([]string{"v1", "v2", "v4"}).Draw(t, "last image")
		})
		// In order, an update does not get past a pod that does not become ready: the user removes it, as upstream's
		// documentation says.
		for _, pod := range c.pods() {
			if pod.Spec.Containers[0].Image == planworld.Bad {
				c.Remove(plan.Pods, pod.Name)
			}
		}
		c.settleUnstuck()
		c.requireSettled()
	})
}

// settleUnstuck settles, and removes pods that are made of a bad revision again.
func (c *chaos) settleUnstuck() {
	for range settleRounds {
		c.settle()
		stuck := false
		for _, pod := range c.pods() {
			if pod.Spec.Containers[0].Image == planworld.Bad {
				c.Remove(plan.Pods, pod.Name)
				stuck = true
			}
		}
		if !stuck {
			return
		}
	}
}

func (c *chaos) requireSettled() {
	set := c.set()
	var names []string
	for i := range size(set) {
		names = append(names, podName(set, firstOrdinal(set)+i))
	}
	var there []string
	for _, pod := range c.pods() {
		there = append(there, pod.Name)
		if pod.Spec.Containers[0].Image != set.Spec.Template.Spec.Containers[0].Image || !podstate.IsReady(pod) {
			c.t.Fatalf("%s is not of the wanted revision, or not ready:\n%s\n%s", pod.Name, planworld.Text(pod), planworld.Text(set))
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, there) {
		c.t.Fatalf("pods %v, want %v", there, names)
	}
	for _, name := range ClaimNames(set, nil) {
		if planworld.Get[*corev1.PersistentVolumeClaim](c.World, plan.Claims, name) == nil {
			c.t.Fatalf("no claim %s", name)
		}
	}
	want := fmt.Sprint(size(set), size(set), size(set), size(set))
	if s := set.Status; fmt.Sprint(s.Replicas, s.ReadyReplicas, s.AvailableReplicas, s.UpdatedReplicas) != want || s.CurrentRevision != s.UpdateRevision {
		c.t.Fatalf("status %s", planworld.Text(set))
	}
	if limit, n := int(*set.Spec.RevisionHistoryLimit)+1, len(planworld.List[*appsv1.ControllerRevision](c.World, plan.Revisions)); n > limit {
		c.t.Fatalf("%d revisions, limit %d", n, limit)
	}
	if p := Decide(snapshot(c.World)); !p.Empty() || len(c.Later) > 0 {
		c.t.Fatalf("the plan of a settled set asks for %+v, and waits for %v", p, c.Later)
	}
}
