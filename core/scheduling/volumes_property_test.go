package scheduling_test

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/scheduling"
)

// storage is what is left of a random history of volumes.
type storage struct {
	claims      map[string]*corev1.PersistentVolumeClaim
	volumes     map[string]*corev1.PersistentVolume
	classes     map[string]*storagev1.StorageClass
	csiNodes    map[string]*storagev1.CSINode
	capacities  map[string]*storagev1.CSIStorageCapacity
	attachments map[string]*storagev1.VolumeAttachment
}

func newStorage() storage {
	return storage{
		claims: map[string]*corev1.PersistentVolumeClaim{}, volumes: map[string]*corev1.PersistentVolume{},
		classes: map[string]*storagev1.StorageClass{}, csiNodes: map[string]*storagev1.CSINode{},
		capacities: map[string]*storagev1.CSIStorageCapacity{}, attachments: map[string]*storagev1.VolumeAttachment{},
	}
}

// change sets one object or deletes it.
func (s storage) change(t *rapid.T, c *scheduling.Cluster, nodes []string) {
	gone := rapid.IntRange(0, 3).Draw(t, "gone") == 0
	i := rapid.IntRange(0, 3).Draw(t, "number")
	node := rapid.SampledFrom(nodes).Draw(t, "storage of")
	class := rapid.SampledFrom([]string{"given", "made", "now"}).Draw(t, "class")
	switch rapid.SampledFrom([]string{"claim", "claim", "volume", "volume", "class", "node", "capacity", "attachment"}).Draw(t, "what") {
	case "claim":
		var changes []func(*corev1.PersistentVolumeClaim)
		if rapid.Bool().Draw(t, "is bound") {
			changes = append(changes, boundTo(fmt.Sprintf("v%d", i)))
		}
		if rapid.Bool().Draw(t, "is for one pod") {
			changes = append(changes, forOnePod)
		}
		name := fmt.Sprintf("c%d", i)
		apply(gone, s.claims, name, claim(name, class, changes...), c.SetClaim, func(n string) { c.DeleteClaim("default", n) })
	case "volume":
		var changes []func(*corev1.PersistentVolume)
		if rapid.Bool().Draw(t, "is of a node") {
			changes = append(changes, onlyOn(node))
		}
		name := fmt.Sprintf("v%d", i)
		apply(gone, s.volumes, name, volume(name, class, changes...), c.SetVolume, c.DeleteVolume)
	case "class":
		o := classes()[i%3]
		o.AllowedTopologies = nil
		apply(gone, s.classes, o.Name, o, c.SetStorageClass, c.DeleteStorageClass)
	case "node":
		apply(gone, s.csiNodes, node, attaching(node, int32(i)), c.SetCSINode, c.DeleteCSINode)
	case "capacity":
		apply(gone, s.capacities, node, room(node, "20Gi"), c.SetStorageCapacity, func(n string) { c.DeleteStorageCapacity("kube-system", n) })
	case "attachment":
		va := &storagev1.VolumeAttachment{Spec: storagev1.VolumeAttachmentSpec{
			Attacher: "d", NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: new(fmt.Sprintf("v%d", i))},
		}}
		va.Name = fmt.Sprintf("va%d", rapid.IntRange(0, 1).Draw(t, "attachment"))
		apply(gone, s.attachments, va.Name, va, c.SetAttachment, c.DeleteAttachment)
	}
}

func apply[T any](gone bool, all map[string]T, name string, object T, set func(T), unset func(string)) {
	if gone {
		delete(all, name)
		unset(name)
		return
	}
	all[name] = object
	set(object)
}

// fill puts what is left into an input.
func (s storage) fill(in *scheduling.Input) {
	in.Claims, in.Volumes, in.StorageClasses = inOrder(s.claims), inOrder(s.volumes), inOrder(s.classes)
	in.CSINodes, in.Capacities, in.Attachments = inOrder(s.csiNodes), inOrder(s.capacities), inOrder(s.attachments)
}

func inOrder[T any](all map[string]T) []T {
	var out []T
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name])
	}
	return out
}

// written are the objects of an input as a plan leaves them.
func written[T any](objects []T, writes []plan.Write, nameOf func(T) string) []T {
	out := slices.Clone(objects)
	for _, w := range writes {
		at := slices.IndexFunc(out, func(old T) bool { return nameOf(old) == w.Name })
		if at >= 0 && w.Verb == plan.Delete && w.Resource == plan.ResourceClaims {
			out = slices.Delete(out, at, at+1)
			continue
		}
		o, ok := any(w.Object).(T)
		if !ok {
			continue
		}
		if at >= 0 {
			out[at] = o
		} else {
			out = append(out, o)
		}
	}
	return out
}
