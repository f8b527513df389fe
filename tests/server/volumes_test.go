package server_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/zeroplane/zeroplane/tests/local"
)

const selectedNode = "volume.kubernetes.io/selected-node"

// TestAPodIsBoundAfterItsClaims plays the provisioner of one claim, whose volume is made for the node that the scheduler chose; the
// other's is given to it.
func TestAPodIsBoundAfterItsClaims(t *testing.T) {
	s := local.Start(t, local.Options{Dir: t.TempDir(), Nodes: 2})
	s.WaitForNodes(t)
	ctx, core := t.Context(), s.Client.CoreV1()
	addClass(t, s.Client, "given", "kubernetes.io/no-provisioner")
	addClass(t, s.Client, "made", "example.com/maker")
	given, made := addClaim(t, s.Client, "given"), addClaim(t, s.Client, "made")
	run(t, s.Client, "p", func(p *corev1.Pod) {
		for _, pvc := range []*corev1.PersistentVolumeClaim{given, made} {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: pvc.Name, VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: pvc.Name},
			}})
		}
	})
	becomes(t, s.Client, "p", func(p *corev1.Pod) bool {
		return len(p.Status.Conditions) > 0 && p.Status.Conditions[0].Message == "0/2 nodes are available: 2 node(s) didn't find available "+
			"persistent volumes to bind. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
	})

	// 1. A volume comes, and is given to the claim. The other claim's is to be made for the same node.
	if _, err := core.PersistentVolumes().Create(ctx, localVolume("v", "node-1"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	local.Eventually(t, waitTimeout, "the claims to be bound for a node", func() error {
		pv, err := core.PersistentVolumes().Get(ctx, "v", metav1.GetOptions{})
		if err != nil {
			return err
		}
		pvc, err := core.PersistentVolumeClaims(namespace).Get(ctx, "made", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if ref := pv.Spec.ClaimRef; ref == nil || ref.UID != given.UID || pvc.Annotations[selectedNode] != "node-1" {
			return fmt.Errorf("the volume is for %v, the other claim's annotations are %v", ref, pvc.Annotations)
		}
		return nil
	})
	waiting := becomes(t, s.Client, "p", func(p *corev1.Pod) bool { return p.Status.NominatedNodeName == "node-1" })
	if waiting.Spec.NodeName != "" {
		t.Fatalf("the pod is on %s, and its claims are not bound", waiting.Spec.NodeName)
	}

	// 2. It is made, as a provisioner does; both are bound, and so is the pod.
	another := localVolume("w", "node-1")
	another.Spec.StorageClassName = "made"
	another.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: namespace, Name: made.Name, UID: made.UID}
	if _, err := core.PersistentVolumes().Create(ctx, another, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	becomes(t, s.Client, "p", func(p *corev1.Pod) bool { return p.Spec.NodeName == "node-1" && local.PodReady(p) })
}

func addClass(t *testing.T, client kubernetes.Interface, name, provisioner string) {
	t.Helper()
	class := &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: new(storagev1.VolumeBindingWaitForFirstConsumer),
	}
	if _, err := client.StorageV1().StorageClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// addClaim makes a claim of the class of its name.
func addClaim(t *testing.T, client kubernetes.Interface, name string) *corev1.PersistentVolumeClaim {
	t.Helper()
	pvc, err := client.CoreV1().PersistentVolumeClaims(namespace).Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &name, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pvc
}

// localVolume is a disk of a node.
func localVolume(name, node string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName: "given", AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Capacity:               corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")},
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/disk"}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
				{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}},
			}}},
		},
	}
}
