package scheduling_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/scheduling"
)

func TestARefusedPodIsLeftAloneForLongerEachTime(t *testing.T) {
	c := scheduling.NewCluster()
	c.SetNode(node("a"))
	p, other := pod("p"), pod("q")
	c.SetPod(p)
	c.SetPod(other)
	at := now
	for _, pause := range []time.Duration{1, 2, 4, 8, 10, 10} {
		again := c.Refused(p, at)
		if got := again.Sub(at); got != pause*time.Second {
			t.Errorf("it is left alone for %s, want %s", got, pause*time.Second)
		}
		if got := outcome(c.PlaceWoken(1, again.Add(-1))); got["p"] != "" || got["q"] != "a" {
			t.Errorf("before it is due, pods go %v", got)
		}
		if c.Settled(again) || outcome(c.PlaceWoken(1, again))["p"] != "a" {
			t.Error("it is not placed when it is due")
		}
		at = again
	}
	c.SetPod(pod("q", on("a")))
	last := c.Refused(p, at)
	if !c.Settled(at) || c.Settled(last) {
		t.Error("who is left alone is looked at, or never is")
	}
	// The pause is that of one pod, not of its name.
	c.DeletePod("default", "p")
	anew := pod("p", func(p *corev1.Pod) { p.UID = "another" })
	c.SetPod(anew)
	if got := c.Refused(anew, at).Sub(at); got != time.Second {
		t.Errorf("a pod made again is left alone for %s", got)
	}
	if got := c.Refused(p, at); got != at {
		t.Errorf("one that is gone until %s", got)
	}
}

func TestARefusedWriteIsOfThePodThatItIsFor(t *testing.T) {
	c := scheduling.NewCluster()
	each(classes(), c.SetStorageClass)
	c.SetNode(node("a"))
	c.SetNode(node("full", offering("pods=1")))
	c.SetPod(pod("victim", on("full"), asking("cpu=1")))
	c.SetClaim(claim("c", "given"))
	c.SetVolume(volume("v", "given", onlyOn("a")))
	for _, p := range []*corev1.Pod{
		pod("bound", selecting("a")), pod("mounts", mounting("c")), pod("preempts", selecting("full"), prioritized(5)), pod("fails", asking("cpu=1000")),
	} {
		c.SetPod(p)
	}
	result := c.Place(1, now)
	got := map[string]string{}
	for i := range result.Plan.Writes {
		w := &result.Plan.Writes[i]
		got[string(w.Verb)+" "+w.Name] = result.PodOf(w).Name
	}
	want := map[string]string{
		"bind bound": "bound", "updateStatus mounts": "mounts", "update v": "mounts", "updateStatus victim": "preempts", "delete victim": "preempts",
		"updateStatus preempts": "preempts", "updateStatus fails": "fails",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if pod := result.PodOf(&plan.Write{UID: "nobody"}); pod != nil {
		t.Errorf("a write of nobody is for %s", pod.Name)
	}
}

func each[T any](all []T, do func(T)) {
	for _, one := range all {
		do(one)
	}
}
