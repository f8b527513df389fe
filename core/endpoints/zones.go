package endpoints

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Zones is which share of the cluster's processors each zone has. The zero value is one of which that is not known.
type Zones struct{ ratios map[string]float64 }

// ZonesOf sums the processors of nodes up.
//
// Upstream: topologycache/topologycache.go SetNodes.
func ZonesOf(nodes []*corev1.Node) Zones {
	byZone, total := map[string]*resource.Quantity{}, resource.Quantity{}
	for _, node := range nodes {
		s := supplyOf(node)
		if !s.counts {
			continue
		}
		if s.zone == "" || s.cpu == 0 {
			return Zones{}
		}
		cpu := *node.Status.Allocatable.Cpu()
		if byZone[s.zone] == nil {
			byZone[s.zone] = &resource.Quantity{}
		}
		byZone[s.zone].Add(cpu)
		total.Add(cpu)
	}
	if total.IsZero() || len(byZone) < 2 {
		return Zones{}
	}
	z := Zones{ratios: map[string]float64{}}
	for zone, cpu := range byZone {
		z.ratios[zone] = float64(cpu.MilliValue()) / float64(total.MilliValue())
	}
	return z
}

// supply is what a node adds to its zone.
type supply struct {
	counts bool
	zone   string
	// cpu in thousandths of a processor.
	cpu int64
}

// supplyOf says nothing of nodes that are not ready or that run the control plane.
func supplyOf(node *corev1.Node) supply {
	if node == nil || runsControlPlane(node) || !nodeReady(node) {
		return supply{}
	}
	return supply{counts: true, zone: node.Labels[corev1.LabelTopologyZone], cpu: node.Status.Allocatable.Cpu().MilliValue()}
}

// runsControlPlane is topologycache/topologycache.go hasExcludedLabels.
func runsControlPlane(node *corev1.Node) bool {
	for _, label := range []string{"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"} {
		if _, ok := node.Labels[label]; ok {
			return true
		}
	}
	return false
}

func nodeReady(node *corev1.Node) bool {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
