package schedulerperf

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func claimName(i int) string { return fmt.Sprintf("pvc-%d", i) }

// bindVolume makes a volume and a claim that are bound to each other, for the i-th pod.
//
// Upstream: CreatePodWithPersistentVolume in runners.go.
func (o *createPods) bindVolume(ctx context.Context, e *executor, namespace string, i int) error {
	pv, pvc, err := o.volume(e.w, namespace, i)
	if err != nil {
		return err
	}
	return e.bind(ctx, namespace, pv, pvc)
}

// bind makes a volume and a claim, each as bound to the other.
func (e *executor) bind(ctx context.Context, namespace string, pv *corev1.PersistentVolume, pvc *corev1.PersistentVolumeClaim) error {
	pvc.Spec.VolumeName = pv.Name
	claims, volumes := e.client.CoreV1().PersistentVolumeClaims(namespace), e.client.CoreV1().PersistentVolumes()
	made, err := claims.Create(ctx, pvc, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	pv.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: namespace, Name: pvc.Name, UID: made.UID}
	// A status is not taken from who creates. The controller of volumes may be at both, so no version is named.
	status := func(phase string) []byte { return fmt.Appendf(nil, `{"status":{"phase":%q}}`, phase) }
	if _, err := claims.Patch(ctx, pvc.Name, types.MergePatchType, status(string(corev1.ClaimBound)), metav1.PatchOptions{}, "status"); err != nil {
		return err
	}
	if _, err := volumes.Create(ctx, pv, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err = volumes.Patch(ctx, pv.Name, types.MergePatchType, status(string(corev1.VolumeBound)), metav1.PatchOptions{}, "status")
	return err
}

func (o *createPods) volume(w *Workload, namespace string, i int) (*corev1.PersistentVolume, *corev1.PersistentVolumeClaim, error) {
	pv, pvc := &corev1.PersistentVolume{}, &corev1.PersistentVolumeClaim{}
	if err := (source{path: o.PersistentVolumeTemplatePath, plain: true}).decode(w.dir, i, pv); err != nil {
		return nil, nil, err
	}
	if err := (source{path: o.PersistentVolumeClaimTemplatePath, plain: true}).decode(w.dir, i, pvc); err != nil {
		return nil, nil, err
	}
	// Volumes have no namespace, so their names tell them apart.
	pv.Name = fmt.Sprintf("%s-vol-%d", namespace, i)
	switch {
	case pv.Spec.CSI != nil:
		pv.Spec.CSI.VolumeHandle = pv.Name
	case pv.Spec.AWSElasticBlockStore != nil:
		pv.Spec.AWSElasticBlockStore.VolumeID = fmt.Sprintf("vol-%d", i)
	}
	pvc.Name = claimName(i)
	return pv, pvc, nil
}
