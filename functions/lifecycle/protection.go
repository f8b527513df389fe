package lifecycle

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/lifecycle"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// inUse are the subjects of the protection of storage in use.
type inUse struct {
	claims, volumes, classes consumer.Set
}

// storageChange adds the storage that must be decided because of a change: what changed itself, the
// claims of a pod, and the classes that a claim or a volume named before.
func (b *batch) storageChange(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	switch gr {
	case claimResource:
		b.inUse.claims.Add(namespace, name)
		return addClasses(b, ev, lifecycle.ClassesOfClaim)
	case volumeResource:
		b.inUse.volumes.Add("", name)
		return addClasses(b, ev, lifecycle.ClassesOfVolume)
	case classResource:
		b.inUse.classes.Add("", name)
	case podResource:
		before, after, err := beforeAndAfter[*corev1.Pod](b, ev)
		if err != nil {
			return err
		}
		for _, claim := range lifecycle.ClaimsOf(before, after) {
			b.inUse.claims.Add(namespace, claim)
		}
	}
	return nil
}

// addClasses adds the classes that an object named before it changed.
func addClasses[T any](b *batch, ev tablelog.Event, classesOf func(T) []string) error {
	before, ok, err := consumer.Read[T](b.Snapshot, ev.Prev)
	if err != nil || !ok {
		return err
	}
	for _, class := range classesOf(before) {
		b.inUse.classes.Add("", class)
	}
	return nil
}

// beforeAndAfter returns the typed objects of a change, the zero value for none.
func beforeAndAfter[T any](b *batch, ev tablelog.Event) (before, after T, err error) {
	if before, _, err = consumer.Read[T](b.Snapshot, ev.Prev); err == nil {
		after, _, err = consumer.Read[T](b.Snapshot, ev.Entry)
	}
	return before, after, err
}

// protect decides them: claims first, since they release classes.
func (b *batch) protect(ctx context.Context) error {
	if err := consumer.Each(ctx, b.inUse.claims.Sorted(), b.protectClaim); err != nil {
		return err
	}
	if err := consumer.Each(ctx, b.inUse.volumes.Sorted(), b.protectVolume); err != nil {
		return err
	}
	return consumer.Each(ctx, b.inUse.classes.Sorted(), b.protectClass)
}

func (b *batch) protectClaim(ctx context.Context, n consumer.Named) error {
	return consumer.Refused(b.Decide(ctx, claimProtector, func(s *consumer.Snapshot) (plan.Plan, error) {
		claim, ok, err := consumer.Get[*corev1.PersistentVolumeClaim](s, claimResource, n.Namespace, n.Name)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		pods, err := consumer.List[*corev1.Pod](s, podResource, n.Namespace)
		if err != nil {
			return plan.Plan{}, err
		}
		return lifecycle.ProtectClaim(claim, pods, b.Now), nil
	}))
}

func (b *batch) protectVolume(ctx context.Context, n consumer.Named) error {
	return consumer.Refused(b.Decide(ctx, volumeProtector, func(s *consumer.Snapshot) (plan.Plan, error) {
		volume, ok, err := consumer.Get[*corev1.PersistentVolume](s, volumeResource, "", n.Name)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		return lifecycle.ProtectVolume(volume), nil
	}))
}

func (b *batch) protectClass(ctx context.Context, n consumer.Named) error {
	return consumer.Refused(b.Decide(ctx, classProtector, func(s *consumer.Snapshot) (plan.Plan, error) {
		class, ok, err := consumer.Get[*storagev1.VolumeAttributesClass](s, classResource, "", n.Name)
		if err != nil || !ok {
			return plan.Plan{}, err
		}
		claims, err := consumer.List[*corev1.PersistentVolumeClaim](s, claimResource, "")
		if err != nil {
			return plan.Plan{}, err
		}
		volumes, err := consumer.List[*corev1.PersistentVolume](s, volumeResource, "")
		if err != nil {
			return plan.Plan{}, err
		}
		return lifecycle.ProtectAttributesClass(class, claims, volumes), nil
	}))
}
