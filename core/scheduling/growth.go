package scheduling

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Growth is nodes of one kind that come to a cluster.
type Growth struct {
	// Template is what they are like. They are named after it, with -0, -1 and so on, and are as new: labelled with their
	// own hostname, not cordoned, without images and without the taints that Kubernetes gives to nodes for their state.
	// Without status.allocatable they offer what status.capacity says.
	Template *corev1.Node
	Count    int
}

// stateTaints are given to nodes for the state that they are in, and say nothing about nodes of their kind.
//
// Upstream: nodeConditionToTaintKeyStatusMap in pkg/controller/nodelifecycle/node_lifecycle_controller.go.
var stateTaints = map[string]bool{
	corev1.TaintNodeNotReady: true, corev1.TaintNodeUnreachable: true, corev1.TaintNodeUnschedulable: true,
	corev1.TaintNodeMemoryPressure: true, corev1.TaintNodeDiskPressure: true, corev1.TaintNodePIDPressure: true,
	corev1.TaintNodeNetworkUnavailable: true, corev1.TaintNodeOutOfService: true,
}

// add brings nodes, with the pods that DaemonSets put on them, and returns their names. Names that are taken are passed
// over.
func (t *trial) add(g Growth, daemons []*corev1.Pod, now metav1.Time) (names []string) {
	base := cmp.Or(g.Template.Name, "new")
	for i := 0; len(names) < g.Count; i++ {
		name := fmt.Sprintf("%s-%d", base, i)
		if _, taken := t.cluster.index[name]; taken {
			continue
		}
		t.setNode(fresh(g.Template, name))
		t.attachLike(name, g.Template.Name)
		names = append(names, name)
		for _, pod := range daemons {
			t.serve(pod, name, now)
		}
	}
	return names
}

// fresh is a new node like another.
func fresh(like *corev1.Node, name string) *corev1.Node {
	n := like.DeepCopy()
	n.Name, n.UID, n.ResourceVersion = name, "", ""
	n.Labels = maps.Clone(n.Labels)
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[corev1.LabelHostname] = name
	n.Spec.Unschedulable = false
	n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return stateTaints[t.Key] })
	if len(n.Status.Allocatable) == 0 {
		n.Status.Allocatable = n.Status.Capacity
	}
	n.Status.Images = nil
	return n
}

// attachLike has a node attach volumes as another does, if it is known how many that attaches.
func (t *trial) attachLike(name, like string) {
	s := &t.cluster.storage
	if found := s.csiNodes[like]; found != nil && s.csiNodes[name] == nil {
		s.version++
		s.csiNodes[name] = found
		t.later(func() { t.cluster.DeleteCSINode(name) })
	}
}

// daemons are one pod of each DaemonSet that has one on a node.
func (c *Cluster) daemons() []*corev1.Pod {
	one := map[string]*corev1.Pod{}
	for _, e := range c.pods {
		owner := metav1.GetControllerOfNoCopy(e.pod)
		if e.on == nil || owner == nil || owner.Kind != daemonSet {
			continue
		}
		key := e.pod.Namespace + "/" + owner.Name
		if seen := one[key]; seen == nil || e.pod.Name < seen.Name {
			one[key] = e.pod
		}
	}
	out := make([]*corev1.Pod, 0, len(one))
	for _, key := range slices.Sorted(maps.Keys(one)) {
		out = append(out, one[key])
	}
	return out
}

// serve puts a pod of a DaemonSet on a new node, if the node takes it.
func (t *trial) serve(like *corev1.Pod, node string, now metav1.Time) {
	pod := anew(like, now)
	pod.Name = metav1.GetControllerOfNoCopy(like).Name + "-" + node
	if t.cluster.pods[types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}] != nil {
		return
	}
	pod.Spec.Affinity = forNode(like.Spec.Affinity, node)
	if one, ok := t.cluster.Evaluate(pod, now.Time).Nodes[node]; !ok || one.Rejected != "" {
		return
	}
	pod.Spec.NodeName = node
	t.setPod(pod)
}

// forNode is the affinity of a DaemonSet's pod for another node.
//
// Upstream: ReplaceDaemonSetPodNodeNameNodeAffinity in pkg/controller/daemon/util/daemonset_util.go.
func forNode(a *corev1.Affinity, node string) *corev1.Affinity {
	a = a.DeepCopy()
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return a
	}
	terms := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	for i := range terms {
		for j := range terms[i].MatchFields {
			if f := &terms[i].MatchFields[j]; f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn {
				f.Values = []string{node}
			}
		}
	}
	return a
}
