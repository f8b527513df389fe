package volumes

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/volumes"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// podAndClaims is a pod with the claims that have the names of its ephemeral volumes'.
type podAndClaims struct {
	pod    *corev1.Pod
	claims []*corev1.PersistentVolumeClaim
}

func (t *touched) decidePod(ctx context.Context, n consumer.Named) error {
	return consumer.Step[podAndClaims]{
		Load:   func(s *consumer.Snapshot) (podAndClaims, bool, error) { return loadPod(s, n) },
		Decide: func(in podAndClaims) plan.Plan { return volumes.Ephemeral(in.pod, in.claims) },
		Again: func(in podAndClaims) plan.Later {
			return consumer.Refusal(plan.Pods, in.pod, t.Now, consumer.LastEdited(in.pod))
		},
	}.Take(ctx, t.Batch, ephemeralController)
}

func loadPod(s *consumer.Snapshot, n consumer.Named) (in podAndClaims, ok bool, err error) {
	if in.pod, ok, err = consumer.Get[*corev1.Pod](s, podResource, n.Namespace, n.Name); err != nil || !ok {
		return in, false, err
	}
	for _, name := range volumes.EphemeralClaims(in.pod) {
		claim, exists, err := consumer.Get[*corev1.PersistentVolumeClaim](s, claimResource, n.Namespace, name)
		if err != nil {
			return in, false, err
		}
		if exists {
			in.claims = append(in.claims, claim)
		}
	}
	return in, true, nil
}

// volumeAndClaim is a volume with the claim of the name that it is for, nil if there is none.
type volumeAndClaim struct {
	volume *corev1.PersistentVolume
	claim  *corev1.PersistentVolumeClaim
}

func (t *touched) decideVolume(ctx context.Context, n consumer.Named) error {
	return consumer.Step[volumeAndClaim]{
		Load:   func(s *consumer.Snapshot) (volumeAndClaim, bool, error) { return loadVolume(s, n.Name) },
		Decide: func(in volumeAndClaim) plan.Plan { return volumes.Volume(in.volume, in.claim) },
		Again: func(in volumeAndClaim) plan.Later {
			return consumer.Refusal(plan.Volumes, in.volume, t.Now, consumer.LastEdited(in.volume))
		},
	}.Take(ctx, t.Batch, binder)
}

func loadVolume(s *consumer.Snapshot, name string) (in volumeAndClaim, ok bool, err error) {
	if in.volume, ok, err = consumer.Get[*corev1.PersistentVolume](s, volumeResource, "", name); err != nil || !ok {
		return in, false, err
	}
	if ref := in.volume.Spec.ClaimRef; ref != nil {
		in.claim, _, err = consumer.Get[*corev1.PersistentVolumeClaim](s, claimResource, ref.Namespace, ref.Name)
	}
	return in, err == nil, err
}

func (t *touched) decideClaim(ctx context.Context, n consumer.Named) error {
	return consumer.Step[volumes.ClaimSnapshot]{
		Load:   func(s *consumer.Snapshot) (volumes.ClaimSnapshot, bool, error) { return loadClaim(s, n) },
		Decide: volumes.Claim,
		Again: func(in volumes.ClaimSnapshot) plan.Later {
			return consumer.Refusal(plan.Claims, in.Claim, t.Now, consumer.LastEdited(in.Claim))
		},
	}.Take(ctx, t.Batch, binder)
}

func loadClaim(s *consumer.Snapshot, n consumer.Named) (in volumes.ClaimSnapshot, ok bool, err error) {
	if in.Claim, ok, err = consumer.Get[*corev1.PersistentVolumeClaim](s, claimResource, n.Namespace, n.Name); err != nil || !ok {
		return in, false, err
	}
	if in.Classes, err = consumer.List[*storagev1.StorageClass](s, classResource, ""); err != nil {
		return in, false, err
	}
	if err := loadVolumes(s, &in); err != nil {
		return in, false, err
	}
	if in.Waits() {
		in.Pods, err = consumer.List[*corev1.Pod](s, podResource, n.Namespace)
	}
	return in, err == nil, err
}

// loadVolumes adds the volumes that a claim may get, or has.
func loadVolumes(s *consumer.Snapshot, in *volumes.ClaimSnapshot) error {
	if volumes.MayGetAny(in.Claim) {
		var err error
		in.Volumes, err = consumer.List[*corev1.PersistentVolume](s, volumeResource, "")
		return err
	}
	volume, exists, err := consumer.Get[*corev1.PersistentVolume](s, volumeResource, "", in.Claim.Spec.VolumeName)
	if exists {
		in.Volumes = []*corev1.PersistentVolume{volume}
	}
	return err
}
