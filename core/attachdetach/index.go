package attachdetach

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/ephemeral"
)

// Snapshot is what is read.
type Snapshot struct {
	// Pods that Concerns is true of.
	Pods        []*corev1.Pod
	Nodes       []*corev1.Node
	Claims      []*corev1.PersistentVolumeClaim
	Volumes     []*corev1.PersistentVolume
	Drivers     []*storagev1.CSIDriver
	Attachments []*storagev1.VolumeAttachment
}

// attachment is a volume on a node: wanted there, there, or both.
type attachment struct {
	spec
	name, node string
	// pods of the node that want it.
	pods []*corev1.Pod
	// object is nil if there is none.
	object *storagev1.VolumeAttachment
}

// attached reports whether the volume can be used.
func (a *attachment) attached() bool { return attachedNow(a.object) }

func attachedNow(va *storagev1.VolumeAttachment) bool {
	return va != nil && va.DeletionTimestamp == nil && va.Status.Attached
}

// Index is a snapshot, arranged by nodes and volumes.
type Index struct {
	nodes    map[string]*corev1.Node
	claims   map[types.NamespacedName]*corev1.PersistentVolumeClaim
	volumes  map[string]*corev1.PersistentVolume
	drivers  map[string]*storagev1.CSIDriver
	byNode   map[string]map[string]*attachment
	byVolume map[corev1.UniqueVolumeName][]*attachment
	// nodesOf are the nodes of pods that have a claim.
	nodesOf map[types.NamespacedName][]string
}

// NewIndex arranges a snapshot.
//
// Upstream: populateDesiredStateOfWorld, populateActualStateOfWorld and processVolumeAttachments in
// attach_detach_controller.go.
func NewIndex(s Snapshot) *Index {
	x := &Index{
		nodes: map[string]*corev1.Node{}, claims: map[types.NamespacedName]*corev1.PersistentVolumeClaim{},
		volumes: map[string]*corev1.PersistentVolume{}, drivers: map[string]*storagev1.CSIDriver{},
		byNode: map[string]map[string]*attachment{}, byVolume: map[corev1.UniqueVolumeName][]*attachment{}, nodesOf: map[types.NamespacedName][]string{},
	}
	for _, n := range s.Nodes {
		x.nodes[n.Name] = n
	}
	for _, c := range s.Claims {
		x.claims[types.NamespacedName{Namespace: c.Namespace, Name: c.Name}] = c
	}
	for _, v := range s.Volumes {
		x.volumes[v.Name] = v
	}
	for _, d := range s.Drivers {
		x.drivers[d.Name] = d
	}
	pods := slices.SortedFunc(slices.Values(s.Pods), func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, pod := range pods {
		x.addPod(pod)
	}
	for _, va := range slices.SortedFunc(slices.Values(s.Attachments), func(a, b *storagev1.VolumeAttachment) int { return cmp.Compare(a.Name, b.Name) }) {
		if of, ok := x.specOf(va); ok && of.attachmentName(va.Spec.NodeName) == va.Name {
			x.at(of, va.Spec.NodeName).object = va
		}
	}
	return x
}

// addPod notes which volumes a pod wants on its node.
//
// Upstream: ProcessPodVolumes and DetermineVolumeAction in util/util.go.
func (x *Index) addPod(pod *corev1.Pod) {
	node := x.nodes[pod.Spec.NodeName]
	for i := range pod.Spec.Volumes {
		if name := ClaimName(pod, &pod.Spec.Volumes[i]); name != "" {
			claim := types.NamespacedName{Namespace: pod.Namespace, Name: name}
			x.nodesOf[claim] = append(x.nodesOf[claim], pod.Spec.NodeName)
		}
		if node == nil || terminated(pod) {
			continue
		}
		if _, is := node.Annotations[managed]; !is {
			continue
		}
		of, ok := x.volumeOf(pod, &pod.Spec.Volumes[i])
		if ok && needsAttaching(x.drivers[of.driver]) {
			a := x.at(of, node.Name)
			if !slices.Contains(a.pods, pod) {
				a.pods = append(a.pods, pod)
			}
		}
	}
}

// volumeOf is the CSI volume that a pod's volume is; ok is false if it is none, or its claim is not bound.
//
// Upstream: createInTreeVolumeSpec in util/util.go.
func (x *Index) volumeOf(pod *corev1.Pod, v *corev1.Volume) (s spec, ok bool) {
	name := ClaimName(pod, v)
	if name == "" {
		return ofInline(v, pod.Namespace)
	}
	claim := x.claims[types.NamespacedName{Namespace: pod.Namespace, Name: name}]
	if claim == nil || claim.Status.Phase != corev1.ClaimBound || claim.Spec.VolumeName == "" {
		return s, false
	}
	if v.Ephemeral != nil && ephemeral.VolumeIsForPod(pod, claim) != nil {
		return s, false
	}
	pv := x.volumes[claim.Spec.VolumeName]
	if pv == nil || pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID != claim.UID {
		return s, false
	}
	return ofPersistent(pv)
}

// specOf is the volume of a VolumeAttachment; ok is false if it cannot be told.
func (x *Index) specOf(va *storagev1.VolumeAttachment) (s spec, ok bool) {
	if inline := va.Spec.Source.InlineVolumeSpec; inline != nil {
		if inline.CSI == nil {
			return s, false
		}
		return spec{driver: inline.CSI.Driver, handle: inline.CSI.VolumeHandle, inline: inline, many: mayHaveMany(inline.AccessModes)}, true
	}
	if name := va.Spec.Source.PersistentVolumeName; name != nil && x.volumes[*name] != nil {
		return ofPersistent(x.volumes[*name])
	}
	// The volume is gone. What its node says that is attached tells its name.
	if node := x.nodes[va.Spec.NodeName]; node != nil {
		for _, v := range node.Status.VolumesAttached {
			if s, ok = named(v.Name); ok && s.attachmentName(node.Name) == va.Name {
				return s, true
			}
		}
	}
	return s, false
}

// at is the attachment of a volume to a node, made if there was none.
func (x *Index) at(of spec, node string) *attachment {
	name := of.attachmentName(node)
	if a := x.byNode[node][name]; a != nil {
		return a
	}
	a := &attachment{spec: of, name: name, node: node}
	if x.byNode[node] == nil {
		x.byNode[node] = map[string]*attachment{}
	}
	x.byNode[node][name] = a
	x.byVolume[of.volume()] = append(x.byVolume[of.volume()], a)
	return a
}

// on are the attachments to a node, in the order of the names of their volumes.
func (x *Index) on(node string) []*attachment {
	return slices.SortedFunc(maps.Values(x.byNode[node]), func(a, b *attachment) int { return cmp.Compare(a.volume(), b.volume()) })
}

// Nodes are those that something is wanted on, or attached to.
func (x *Index) Nodes() []string { return slices.Sorted(maps.Keys(x.byNode)) }

// NodesOfClaim are the nodes of the pods that have a claim.
func (x *Index) NodesOfClaim(namespace, name string) []string {
	return x.nodesOf[types.NamespacedName{Namespace: namespace, Name: name}]
}

// NodesOfVolume are the nodes that the volume of a VolumeAttachment is wanted on, or attached to.
func (x *Index) NodesOfVolume(va *storagev1.VolumeAttachment) []string {
	out := []string{va.Spec.NodeName}
	of, ok := x.specOf(va)
	if !ok {
		return out
	}
	for _, a := range x.byVolume[of.volume()] {
		out = append(out, a.node)
	}
	return out
}

// Objects are the names of the VolumeAttachments of a node that there are.
func (x *Index) Objects(node string) []string {
	var out []string
	for _, a := range x.on(node) {
		if a.object != nil {
			out = append(out, a.name)
		}
	}
	return out
}

// terminated reports whether a pod has no use for its volumes any more.
//
// Upstream: IsPodTerminated in pkg/volume/util/util.go.
func terminated(pod *corev1.Pod) bool {
	stopped := func(statuses []corev1.ContainerStatus) bool {
		return !slices.ContainsFunc(statuses, func(s corev1.ContainerStatus) bool { return s.State.Terminated == nil && s.State.Waiting == nil })
	}
	return pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded || pod.DeletionTimestamp != nil &&
		stopped(pod.Status.InitContainerStatuses) && stopped(pod.Status.ContainerStatuses) && stopped(pod.Status.EphemeralContainerStatuses)
}
