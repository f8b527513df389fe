// Package attachdetach is the function that has volumes attached to nodes: a change of a pod, a node, a claim or a volume in,
// VolumeAttachments and what nodes say of them out. The decisions are those of core/attachdetach.
//
//	attachdetach.go which nodes a batch is about
//	decide.go       what each is decided on
package attachdetach

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/attachdetach"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// component is the controller of kube-system in whose name the function acts.
const component = "attachdetach-controller"

var (
	podResource        = plan.Pods.GroupResource()
	nodeResource       = plan.Nodes.GroupResource()
	claimResource      = plan.Claims.GroupResource()
	volumeResource     = plan.Volumes.GroupResource()
	attachmentResource = plan.Attachments.GroupResource()
	driverResource     = storagev1.Resource("csidrivers")
)

// Function returns the function.
func Function() consumer.Function {
	return consumer.Function{
		Name: "attachdetach",
		// A snapshot's nodes are not older than its pods: no pod looks bound to a node that is yet to come.
		Groups: []string{kubestorage.PodsGroup, kubestorage.NodesGroup, kubestorage.ObjectsGroup, kubestorage.ConfigGroup},
		Handle: handle,
	}
}

// handle decides every node that the batch touches.
func handle(ctx context.Context, b *consumer.Batch) error {
	t := &touched{
		Batch: b, nodes: consumer.Set{}, gone: map[string]*corev1.Node{},
		change: attachdetach.Change{Before: map[string]*storagev1.VolumeAttachment{}, Arrived: map[types.UID]bool{}, Expired: map[string]bool{}, Now: b.Now},
	}
	if err := b.Gather(t.everything, t.changed, t.due); err != nil {
		return err
	}
	// Most clusters have nothing to attach, and then nothing is arranged.
	if len(t.nodes)+len(t.claims)+len(t.attachments) == 0 {
		return nil
	}
	var err error
	if t.index, err = load(b.Snapshot); err != nil {
		return err
	}
	t.resolve()
	return consumer.Each(ctx, t.nodes.Sorted(), t.decide)
}

// touched collects the nodes that a batch is about.
type touched struct {
	*consumer.Batch
	nodes consumer.Set
	// claims and attachments are looked up when the snapshot is arranged: the nodes of the pods that want what they are of.
	claims      []consumer.Named
	attachments []*storagev1.VolumeAttachment
	// gone are the nodes that went, as they were.
	gone   map[string]*corev1.Node
	change attachdetach.Change
	index  *attachdetach.Index
}

// everything touches the nodes that something is attached to or wanted on, which are known when the snapshot is arranged.
func (t *touched) everything() error {
	x, err := load(t.Snapshot)
	if err != nil {
		return err
	}
	for _, name := range x.Nodes() {
		t.nodes.Add("", name)
	}
	return nil
}

func (t *touched) due(l plan.Later) {
	switch {
	case l.Kind == attachdetach.UnmountKind:
		t.change.Expired[l.Subject.Name] = true
		va, ok, err := consumer.Get[*storagev1.VolumeAttachment](t.Snapshot, attachmentResource, "", l.Subject.Name)
		if ok && err == nil {
			t.nodes.Add("", va.Spec.NodeName)
		}
	case l.Subject.Resource == plan.Nodes:
		t.nodes.Add("", l.Subject.Name)
	}
}

func (t *touched) changed(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	switch gr {
	case podResource:
		return t.changedPod(ev)
	case nodeResource:
		return t.changedNode(ev, name)
	case attachmentResource:
		return t.changedAttachment(ev, name)
	case claimResource:
		t.claims = append(t.claims, consumer.Named{Namespace: namespace, Name: name})
	case volumeResource:
		volume, ok, err := consumer.Read[*corev1.PersistentVolume](t.Snapshot, ev.Entry)
		if err != nil || !ok {
			return err
		}
		if ref := volume.Spec.ClaimRef; ref != nil {
			t.claims = append(t.claims, consumer.Named{Namespace: ref.Namespace, Name: ref.Name})
		}
	case driverResource:
		return t.everything()
	}
	return nil
}

// changedPod touches the node of a pod that came to it, has no more use for its volumes, or goes.
func (t *touched) changedPod(ev tablelog.Event) error {
	before, _, err := consumer.Read[*corev1.Pod](t.Snapshot, ev.Prev)
	if err != nil {
		return err
	}
	after, _, err := consumer.Read[*corev1.Pod](t.Snapshot, ev.Entry)
	if err != nil {
		return err
	}
	wanted, wants := before != nil && attachdetach.Wants(before), after != nil && attachdetach.Wants(after)
	switch {
	case wants && !wanted:
		t.change.Arrived[after.UID] = true
		t.nodes.Add("", after.Spec.NodeName)
	case wanted && !wants:
		t.nodes.Add("", before.Spec.NodeName)
	}
	return nil
}

func (t *touched) changedNode(ev tablelog.Event, name string) error {
	before, _, err := consumer.Read[*corev1.Node](t.Snapshot, ev.Prev)
	if err != nil {
		return err
	}
	after, _, err := consumer.Read[*corev1.Node](t.Snapshot, ev.Entry)
	if err != nil {
		return err
	}
	if attachdetach.Matters(before, after) {
		t.nodes.Add("", name)
	}
	delete(t.gone, name)
	if after == nil && before != nil {
		t.gone[name] = before
	}
	return nil
}

// changedAttachment touches the node of a VolumeAttachment, and those that wait for its volume.
func (t *touched) changedAttachment(ev tablelog.Event, name string) error {
	before, _, err := consumer.Read[*storagev1.VolumeAttachment](t.Snapshot, ev.Prev)
	if err != nil {
		return err
	}
	after, _, err := consumer.Read[*storagev1.VolumeAttachment](t.Snapshot, ev.Entry)
	if err != nil {
		return err
	}
	if _, known := t.change.Before[name]; !known {
		t.change.Before[name] = before
	}
	for _, va := range []*storagev1.VolumeAttachment{before, after} {
		if va != nil {
			t.attachments = append(t.attachments, va)
		}
	}
	return nil
}

// resolve touches the nodes of the pods that have the claims and volumes that changed.
func (t *touched) resolve() {
	for _, c := range t.claims {
		for _, name := range t.index.NodesOfClaim(c.Namespace, c.Name) {
			t.nodes.Add("", name)
		}
	}
	for _, va := range t.attachments {
		for _, name := range t.index.NodesOfVolume(va) {
			t.nodes.Add("", name)
		}
	}
}
