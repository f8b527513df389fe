package scheduling

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// trial is changes of a cluster that are taken back in reverse order. Each costs what the change itself does, whatever the
// size of the cluster: nothing is copied but the objects that change.
type trial struct {
	cluster *Cluster
	undo    []func()
}

// end takes everything back.
func (t *trial) end() {
	for _, back := range slices.Backward(t.undo) {
		back()
	}
	t.undo = nil
}

func (t *trial) later(back func()) { t.undo = append(t.undo, back) }

// setPod is SetPod.
func (t *trial) setPod(pod *corev1.Pod) {
	t.back(pod.Namespace, pod.Name)
	t.cluster.SetPod(pod)
}

// deletePod is DeletePod.
func (t *trial) deletePod(namespace, name string) {
	t.back(namespace, name)
	t.cluster.DeletePod(namespace, name)
}

// back remembers the pod of a name, or that there is none.
func (t *trial) back(namespace, name string) {
	c := t.cluster
	if e := c.pods[types.NamespacedName{Namespace: namespace, Name: name}]; e != nil {
		t.later(func() { c.SetPod(e.pod) })
		return
	}
	t.later(func() { c.DeletePod(namespace, name) })
}

// setNode is SetNode.
func (t *trial) setNode(node *corev1.Node) {
	c := t.cluster
	if old := c.NodeNamed(node.Name); old != nil {
		t.later(func() { c.SetNode(old) })
	} else {
		t.later(func() { c.DeleteNode(node.Name) })
	}
	c.SetNode(node)
}

// deleteNode is DeleteNode.
func (t *trial) deleteNode(name string) {
	c := t.cluster
	if old := c.NodeNamed(name); old != nil {
		c.DeleteNode(name)
		t.later(func() { c.SetNode(old) })
	}
}

// setClaim is SetClaim.
func (t *trial) setClaim(pvc *corev1.PersistentVolumeClaim) {
	c := t.cluster
	old := c.storage.claims[types.NamespacedName{Namespace: pvc.Namespace, Name: pvc.Name}]
	if old != nil && old.object != nil {
		object := old.object
		t.later(func() { c.SetClaim(object) })
	} else {
		t.later(func() { c.DeleteClaim(pvc.Namespace, pvc.Name) })
	}
	c.SetClaim(pvc)
}

// setVolume is SetVolume for a volume that is there.
func (t *trial) setVolume(pv *corev1.PersistentVolume) {
	c := t.cluster
	if old := c.storage.volumes[pv.Name]; old != nil {
		object := old.object
		t.later(func() { c.SetVolume(object) })
		c.SetVolume(pv)
	}
}

// setResourceClaim is SetResourceClaim.
func (t *trial) setResourceClaim(claim *resourceapi.ResourceClaim) {
	c := t.cluster
	if old := c.devices.claims[nameOfClaim(claim)]; old != nil {
		t.later(func() { c.SetResourceClaim(old) })
	} else {
		t.later(func() { c.DeleteResourceClaim(claim.Namespace, claim.Name) })
	}
	c.SetResourceClaim(claim)
}

// deleteResourceClaim is DeleteResourceClaim for one that is there.
func (t *trial) deleteResourceClaim(claim *resourceapi.ResourceClaim) {
	t.later(func() { t.cluster.SetResourceClaim(claim) })
	t.cluster.DeleteResourceClaim(claim.Namespace, claim.Name)
}

// setController is SetController for one that is not there yet; one that is there keeps its selector.
func (t *trial) setController(o Controller) {
	c := t.cluster
	g := c.groupingOf(o.Namespace)
	_, older := g.older[o.Name]
	if g.controllers[o.Kind+"/"+o.Name] != nil || o.Kind == replicationController && older {
		return
	}
	c.SetController(o.Kind, o.Namespace, o.Name, o.Selector)
	t.later(func() { c.DeleteController(o.Kind, o.Namespace, o.Name) })
}

// NodeNamed is the node of a name, nil for none.
func (c *Cluster) NodeNamed(name string) *corev1.Node {
	if at, ok := c.index[name]; ok {
		return c.nodes[at].node
	}
	return nil
}

// anew is a pod as its controller makes it again: it waits, and nothing has happened to it yet.
func anew(pod *corev1.Pod, now metav1.Time) *corev1.Pod {
	again := *pod
	again.CreationTimestamp, again.DeletionTimestamp = now, nil
	again.Spec.NodeName = ""
	again.Status = corev1.PodStatus{Phase: corev1.PodPending}
	return &again
}

// fate is what becomes of a pod that is taken off its node.
type fate int

const (
	// returns is that of a pod which its controller makes again.
	returns fate = iota
	// stays is that of a pod which belongs to its node, or is going already: nobody looks for a place for it elsewhere.
	stays
	// lost is that of a pod which nobody makes again.
	lost
)

// fateOf follows the filters of kubectl drain, which also asks before it takes pods that are lost.
//
// Upstream: makeFilters in k8s.io/kubectl/pkg/drain/filters.go.
func fateOf(pod *corev1.Pod) fate {
	owner := metav1.GetControllerOfNoCopy(pod)
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	switch {
	case mirror || pod.DeletionTimestamp != nil || owner != nil && owner.Kind == daemonSet:
		return stays
	case owner == nil:
		return lost
	}
	return returns
}

const daemonSet = "DaemonSet"
