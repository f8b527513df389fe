// Package volumes is the function that gives claims their volumes: a change of a claim, a volume, a class or a pod in;
// claims of ephemeral volumes, bindings and phases out. The decisions are those of core/volumes.
//
//	volumes.go which claims, volumes and pods a batch is about
//	decide.go  what each is decided on
package volumes

import (
	"context"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/volumes"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

var (
	claimResource  = plan.Claims.GroupResource()
	volumeResource = plan.Volumes.GroupResource()
	classResource  = plan.StorageClasses.GroupResource()
	podResource    = plan.Pods.GroupResource()
)

// The controllers of kube-system in whose names the function acts.
const (
	ephemeralController = "ephemeral-volume-controller"
	binder              = "persistent-volume-binder"
)

// Function returns the function.
func Function() consumer.Function {
	return consumer.Function{
		Name:   "volumes",
		Groups: []string{kubestorage.PodsGroup, kubestorage.ConfigGroup, kubestorage.ObjectsGroup},
		Handle: handle,
	}
}

// handle decides every pod, volume and claim that the batch touches.
func handle(ctx context.Context, b *consumer.Batch) error {
	t := &touched{Batch: b, pods: consumer.Set{}, volumes: consumer.Set{}, claims: consumer.Set{}}
	err := b.Gather(t.everything, t.change, func(l plan.Later) {
		switch l.Subject.Resource {
		case plan.Pods:
			t.pods.Add(l.Subject.Namespace, l.Subject.Name)
		case plan.Volumes:
			t.volumes.Add("", l.Subject.Name)
		case plan.Claims:
			t.claims.Add(l.Subject.Namespace, l.Subject.Name)
		}
	})
	if err != nil {
		return err
	}
	picking, settled, err := t.byChoice()
	if err != nil {
		return err
	}
	errs := []error{consumer.Each(ctx, t.pods.Sorted(), t.decidePod), consumer.Each(ctx, t.volumes.Sorted(), t.decideVolume), consumer.Each(ctx, settled, t.decideClaim)}
	// One after the other: all that may get any volume would take the same one.
	for _, n := range picking {
		errs = append(errs, t.decideClaim(ctx, n))
	}
	return errors.Join(errs...)
}

// touched collects the subjects of a batch.
type touched struct {
	*consumer.Batch
	pods, volumes, claims consumer.Set
	// storage is read when it is first asked for.
	storage *storage
}

// storage is all claims, volumes and classes of the batch's snapshot.
type storage struct {
	claims  []*corev1.PersistentVolumeClaim
	volumes []*corev1.PersistentVolume
	classes []*storagev1.StorageClass
}

func (t *touched) everything() error {
	for _, group := range []string{kubestorage.PodsGroup, kubestorage.ObjectsGroup} {
		var err error
		t.States[group].Ascend("", "", func(e *tablelog.Entry) bool {
			err = t.change(tablelog.Event{Rev: e.Rev, Type: tablelog.Created, Key: e.Key, Entry: e})
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *touched) change(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	switch gr {
	case podResource:
		return t.changedPod(ev)
	case claimResource:
		t.claims.Add(namespace, name)
		return t.changedClaim(ev, namespace, name)
	case volumeResource:
		t.volumes.Add("", name)
		return t.changedVolume(ev)
	case classResource:
		return t.changedClass(ev)
	}
	return nil
}

// changedPod adds a new pod with ephemeral volumes, and the claims that wait for a pod which waits for a node.
func (t *touched) changedPod(ev tablelog.Event) error {
	if ev.Type != tablelog.Created {
		return nil
	}
	pod, ok, err := consumer.Read[*corev1.Pod](t.Snapshot, ev.Entry)
	if err != nil || !ok {
		return err
	}
	if len(volumes.EphemeralClaims(pod)) > 0 {
		t.pods.Add(pod.Namespace, pod.Name)
	}
	for _, name := range volumes.ClaimsOf(pod) {
		t.claims.Add(pod.Namespace, name)
	}
	return nil
}

// changedClaim adds the volumes that are for a claim or that it named, and the pods that need it again if it is gone.
func (t *touched) changedClaim(ev tablelog.Event, namespace, name string) error {
	s, err := t.all()
	if err != nil {
		return err
	}
	for _, volume := range s.volumes {
		if volumes.IsFor(volume, namespace, name) {
			t.volumes.Add("", volume.Name)
		}
	}
	if ev.Entry != nil {
		return nil
	}
	return consumer.AddMatching(t.Snapshot, podResource, namespace, t.pods, func(pod *corev1.Pod) bool {
		return slices.Contains(volumes.EphemeralClaims(pod), name)
	})
}

// changedVolume adds the claims that a volume is or was for, those that name it, and those that may get it.
func (t *touched) changedVolume(ev tablelog.Event) error {
	s, err := t.all()
	if err != nil {
		return err
	}
	for _, e := range []*tablelog.Entry{ev.Prev, ev.Entry} {
		volume, ok, err := consumer.Read[*corev1.PersistentVolume](t.Snapshot, e)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if ref := volume.Spec.ClaimRef; ref != nil {
			t.claims.Add(ref.Namespace, ref.Name)
		}
		for _, claim := range s.claims {
			if claim.Spec.VolumeName == volume.Name || e == ev.Entry && volumes.MayGet(claim, volume, s.classes) {
				t.claims.Add(claim.Namespace, claim.Name)
			}
		}
	}
	return nil
}

// changedClass adds the claims that a class matters to.
func (t *touched) changedClass(ev tablelog.Event) error {
	class, ok, err := consumer.Read[*storagev1.StorageClass](t.Snapshot, ev.Entry)
	if err != nil || !ok {
		return err
	}
	s, err := t.all()
	if err != nil {
		return err
	}
	for _, claim := range s.claims {
		if volumes.MattersTo(class, claim) {
			t.claims.Add(claim.Namespace, claim.Name)
		}
	}
	return nil
}

// all is what there is of storage.
func (t *touched) all() (*storage, error) {
	if t.storage != nil {
		return t.storage, nil
	}
	s := &storage{}
	var err error
	if s.claims, err = consumer.List[*corev1.PersistentVolumeClaim](t.Snapshot, claimResource, ""); err != nil {
		return nil, err
	}
	if s.volumes, err = consumer.List[*corev1.PersistentVolume](t.Snapshot, volumeResource, ""); err != nil {
		return nil, err
	}
	if s.classes, err = consumer.List[*storagev1.StorageClass](t.Snapshot, classResource, ""); err != nil {
		return nil, err
	}
	t.storage = s
	return s, nil
}

// byChoice tells claims that may get any volume from the others.
func (t *touched) byChoice() (picking, settled []consumer.Named, err error) {
	for _, n := range t.claims.Sorted() {
		claim, ok, err := consumer.Get[*corev1.PersistentVolumeClaim](t.Snapshot, claimResource, n.Namespace, n.Name)
		if err != nil {
			return nil, nil, err
		}
		if ok && volumes.MayGetAny(claim) {
			picking = append(picking, n)
		} else {
			settled = append(settled, n)
		}
	}
	return picking, settled, nil
}
