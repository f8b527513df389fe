package attachdetach

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

// Change is what a decision for a node is made because of.
type Change struct {
	// Before are the VolumeAttachments that changed, as they were, by name; nil for what was not.
	Before map[string]*storagev1.VolumeAttachment
	// Arrived are the pods that came to nodes.
	Arrived map[types.UID]bool
	// Gone is the node as it was when it went, nil if it is there or that is not known.
	Gone *corev1.Node
	// Waiting are the VolumeAttachments for which UnmountKind is put off, and Expired those for which its time has come.
	Waiting, Expired map[string]bool
	Now              time.Time
}

// Reconcile decides what is attached to a node and detached from it, and what its status says of that.
//
// Upstream: reconcile and attachDesiredVolumes in reconciler/reconciler.go, Attach and Detach in pkg/volume/csi/csi_attacher.go,
// statusupdater/node_status_updater.go.
func Reconcile(x *Index, name string, c Change) plan.Plan {
	var p plan.Plan
	var detaches, attaches []plan.Write
	told := map[corev1.UniqueVolumeName]bool{}
	for _, a := range x.on(name) {
		if len(a.pods) > 0 {
			told[a.volume()] = a.attached()
			p.Notices = append(p.Notices, outcome(a, c)...)
			if c.Waiting[a.name] {
				p.Later = append(p.Later, plan.Later{Kind: UnmountKind, Subject: ref(a)})
			}
			switch others := x.others(a); {
			case a.object != nil:
			case len(others) > 0:
				p.Notices = append(p.Notices, taken(a, others, c)...)
			default:
				attaches = append(attaches, attach(a))
				if !a.many {
					// Where another node gets the volume, this one does not.
					p.Reads = append(p.Reads, plan.Read{Resource: plan.Attachments, Arrivals: true})
				}
			}
			continue
		}
		if a.object == nil {
			continue
		}
		free, later := x.mayDetach(a, c)
		if later != nil {
			p.Later = append(p.Later, *later)
		}
		switch {
		case !free:
			told[a.volume()] = a.attached()
		case a.object.DeletionTimestamp == nil:
			detaches = append(detaches, detach(a))
		}
	}
	if node := x.nodes[name]; node != nil {
		p.Writes = append(p.Writes, tell(node, told)...)
	}
	p.Writes = append(append(p.Writes, detaches...), attaches...)
	if len(p.Writes) > 0 {
		p.Reads = append(p.Reads, plan.Read{Resource: plan.Nodes, Name: name})
	}
	if len(detaches) > 0 {
		p.Reads = append(p.Reads, plan.Read{Resource: plan.Pods, Node: name, Again: true})
	}
	return p
}

// others are the attachments of a volume to other nodes that keep it from being attached to one more.
func (x *Index) others(a *attachment) []*attachment {
	if a.many {
		return nil
	}
	var out []*attachment
	for _, other := range x.byVolume[a.volume()] {
		if other.node != a.node && other.object != nil {
			out = append(out, other)
		}
	}
	return out
}

func attach(a *attachment) plan.Write {
	va := &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: a.name},
		Spec:       storagev1.VolumeAttachmentSpec{NodeName: a.node, Attacher: a.driver},
	}
	if a.inline != nil {
		va.Spec.Source.InlineVolumeSpec = a.inline
	} else {
		va.Spec.Source.PersistentVolumeName = new(a.pv)
	}
	return plan.Write{Verb: plan.Create, Resource: plan.Attachments, Name: a.name, Object: va, Reason: "a pod of the node wants the volume"}
}

func detach(a *attachment) plan.Write {
	return plan.Write{
		Verb: plan.Delete, Resource: plan.Attachments, Name: a.name, UID: a.object.UID, Reason: "no pod of the node wants the volume",
	}
}

func ref(a *attachment) plan.Ref { return Subject(a.name) }

// Subject is the subject of what is put off for a VolumeAttachment. One that is made again has its name.
func Subject(name string) plan.Ref { return plan.Ref{Resource: plan.Attachments, Name: name} }

// tell says in the node's status what is attached, if that is not what it says. What no CSI driver attaches is left as it is.
func tell(node *corev1.Node, attached map[corev1.UniqueVolumeName]bool) []plan.Write {
	var list []corev1.AttachedVolume
	for _, v := range node.Status.VolumesAttached {
		if !strings.HasPrefix(string(v.Name), csiPlugin+"/") || attached[v.Name] {
			list = append(list, v)
		}
		delete(attached, v.Name)
	}
	changed := len(list) < len(node.Status.VolumesAttached)
	var news []corev1.UniqueVolumeName
	for name, is := range attached {
		if is {
			news = append(news, name)
		}
	}
	slices.Sort(news)
	for _, name := range news {
		list = append(list, corev1.AttachedVolume{Name: name})
	}
	if !changed && len(news) == 0 {
		return nil
	}
	// Of plain strings, which always encode; an empty list is null, and so removed.
	body, _ := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": node.UID}, "status": map[string]any{"volumesAttached": list},
	})
	return []plan.Write{{
		Verb: plan.Patch, Resource: plan.Nodes, Subresource: "status", Name: node.Name, UID: node.UID,
		PatchType: types.MergePatchType, PatchBody: body, Reason: "other volumes are attached to the node",
	}}
}
