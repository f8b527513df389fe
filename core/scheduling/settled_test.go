package scheduling_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/scheduling"
)

func TestOnlyWhatMattersWakesPodsThatWait(t *testing.T) {
	c := scheduling.NewCluster()
	full := node("a")
	other := pod("other", on("a"), asking("cpu=4"))
	c.SetNode(full)
	c.SetPod(other)
	waiting := pod("p", asking("cpu=4"))
	c.SetPod(waiting)
	if c.Settled(now) {
		t.Fatal("a pod that came is not looked at")
	}
	told := c.Place(1, now).Plan.Writes[0].Object.(*corev1.Pod)
	if c.Settled(now) {
		t.Fatal("whoever lost a plan would not decide again")
	}
	c.SetPod(told)
	if plan := c.Place(1, now).Plan; !plan.Empty() {
		t.Fatalf("it is told again: %+v", plan)
	}

	well := full.DeepCopy()
	well.Status.Conditions = append(well.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue})
	c.SetNode(well)
	ready := other.DeepCopy()
	ready.Status.Phase = corev1.PodRunning
	ready.Status.Conditions = append(ready.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	c.SetPod(ready)
	if !c.Settled(now) {
		t.Error("a node that is still well, or a pod that became ready, has pods looked at again")
	}

	for name, change := range map[string]func(*scheduling.Cluster){
		"a node that grew": func(c *scheduling.Cluster) { c.SetNode(node("a", offering("cpu=8"))) },
		"a node that came": func(c *scheduling.Cluster) { c.SetNode(node("b")) },
		"a pod that went":  func(c *scheduling.Cluster) { c.DeletePod("default", "other") },
		"a pod that is over": func(c *scheduling.Cluster) {
			c.SetPod(pod("other", on("a"), func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }))
		},
		"a pod that has new wants": func(c *scheduling.Cluster) { c.SetPod(pod("p", func(p *corev1.Pod) { p.Generation = 2 })) },
	} {
		kept := scheduling.NewCluster()
		kept.SetNode(well)
		kept.SetPod(ready)
		kept.SetPod(told)
		if plan := kept.Place(1, now).Plan; !plan.Empty() || !kept.Settled(now) {
			t.Fatalf("it is told again: %+v", plan)
		}
		if change(kept); kept.Settled(now) {
			t.Errorf("%s has nobody looked at again", name)
		}
	}
}

func TestASettledClusterHasNothingToDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, in := history(t)
		for range 4 {
			result := c.Place(in.Seed, now)
			in.Pods = carriedOut(in.Pods, result)
			for _, p := range in.Pods {
				c.SetPod(p)
			}
			for _, placed := range result.Placements {
				for _, pv := range placed.Volumes {
					c.SetVolume(pv)
				}
				for _, pvc := range placed.Claims {
					c.SetClaim(pvc)
				}
			}
			if len(in.Pods) > 0 && rapid.Bool().Draw(t, "something happens") {
				p := rapid.SampledFrom(in.Pods).Draw(t, "to").DeepCopy()
				p.Status.Phase = rapid.SampledFrom([]corev1.PodPhase{corev1.PodRunning, corev1.PodFailed}).Draw(t, "phase")
				c.SetPod(p)
			}
			if c.Settled(now) {
				if todo := asked(c.Place(in.Seed+1, now).Plan); len(todo) > 0 {
					t.Fatalf("it is settled, and there is something to do: %s", todo)
				}
			}
		}
	})
}
