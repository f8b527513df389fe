package scheduling_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/scheduling"
)

// sleeping is 5,000 nodes that are too small for any of 10,000 pods, which are of 100 kinds and were told so.
func sleeping() (c *scheduling.Cluster, running *corev1.Pod) {
	const nodes, pods, kinds = 5000, 10_000, 100
	c = scheduling.NewCluster()
	for i := range nodes {
		c.SetNode(node(fmt.Sprintf("node-%d", i)))
	}
	running = pod("running", on("node-0"), asking("cpu=1"))
	c.SetPod(running)
	for i := range pods {
		c.SetPod(pod(fmt.Sprintf("big-%d", i), asking(fmt.Sprintf("cpu=%d", 100+i%kinds))))
	}
	for _, failed := range c.Place(1, now).Plan.Writes {
		c.SetPod(failed.Object.(*corev1.Pod))
	}
	return c, running
}

// BenchmarkNobodyFits is what a change costs while many pods wait that no node takes, by what is tried then.
func BenchmarkNobodyFits(b *testing.B) {
	c, running := sleeping()
	changes := map[string]func(i int){
		"a node is still well": func(i int) {
			n := c.NodeNamed("node-1").DeepCopy()
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Message: fmt.Sprint(i)}}
			c.SetNode(n)
		},
		"a pod became ready": func(i int) {
			p := running.DeepCopy()
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Message: fmt.Sprint(i)}}
			c.SetPod(p)
		},
		"a node has another label": func(i int) {
			n := c.NodeNamed("node-1").DeepCopy()
			n.Labels["other"] = fmt.Sprint(i)
			c.SetNode(n)
		},
		"a small node came": func(i int) { c.SetNode(node(fmt.Sprintf("small-%d", i%2))); c.DeleteNode(fmt.Sprintf("small-%d", i%2)) },
		"a pod went":        func(int) { c.DeletePod("default", "running"); c.SetPod(running) },
	}
	for _, name := range []string{"a node is still well", "a pod became ready", "a node has another label", "a small node came", "a pod went"} {
		run := func(b *testing.B, place func()) {
			for i := range b.N {
				changes[name](i)
				if !c.Settled(now) {
					place()
				}
			}
		}
		b.Run(name+"/who may fit", func(b *testing.B) { run(b, func() { c.PlaceWoken(1, now) }) })
	}
	b.Run("all", func(b *testing.B) {
		for range b.N {
			c.Place(1, now)
		}
	})
}
