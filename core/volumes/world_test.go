package volumes

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	storagehelpers "k8s.io/component-helpers/storage/volume"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/tests/planworld"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// quantity is a size of storage in Gi.
func quantity(gi int) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(fmt.Sprint(gi, "Gi"))}
}

// newClaim is a claim of 5Gi without a class, altered.
func newClaim(name string, alter ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	none := ""
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-of-" + name)},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: &none,
			Resources: corev1.VolumeResourceRequirements{Requests: quantity(5)},
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
	}
	for _, f := range alter {
		f(claim)
	}
	return claim
}

// newVolume is a free volume of 10Gi that is retained, altered.
func newVolume(name string, alter ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Capacity: quantity(10),
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "disks.example.com", VolumeHandle: name}},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable},
	}
	for _, f := range alter {
		f(volume)
	}
	return volume
}

func newClass(name, provisioner string, mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
	policy := corev1.PersistentVolumeReclaimDelete
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: &mode, ReclaimPolicy: &policy}
}

func ofClass(class string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = &class }
}

func withoutClass(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = nil }

func asking(volume string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = volume }
}

func annotatedClaim(annotations ...string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) {
		for _, a := range annotations {
			metav1.SetMetaDataAnnotation(&c.ObjectMeta, a, "yes")
		}
	}
}

// reservedFor makes a volume be for a claim of a UID, empty for any of the name.
func reservedFor(claim, uid string) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) {
		v.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: "default", Name: claim, UID: types.UID(uid)}
	}
}

func sized(gi int) func(*corev1.PersistentVolume) {
	return func(v *corev1.PersistentVolume) { v.Spec.Capacity = quantity(gi) }
}

// world is a cluster with volumes.
type world struct {
	*planworld.World
	// once is what was said when something was written.
	once map[string]bool
}

func newWorld() world { return world{planworld.New(epoch), map[string]bool{}} }

func (w world) claim(name string) *corev1.PersistentVolumeClaim {
	return planworld.Get[*corev1.PersistentVolumeClaim](w.World, plan.Claims, name)
}

func (w world) volume(name string) *corev1.PersistentVolume {
	return planworld.Get[*corev1.PersistentVolume](w.World, plan.Volumes, name)
}

func (w world) claims() []*corev1.PersistentVolumeClaim {
	return planworld.List[*corev1.PersistentVolumeClaim](w.World, plan.Claims)
}

func (w world) volumes() []*corev1.PersistentVolume {
	return planworld.List[*corev1.PersistentVolume](w.World, plan.Volumes)
}

func (w world) pods() []*corev1.Pod { return planworld.List[*corev1.Pod](w.World, plan.Pods) }

// snapshotOf is what the function loads for a claim.
func (w world) snapshotOf(claim *corev1.PersistentVolumeClaim) ClaimSnapshot {
	s := ClaimSnapshot{Claim: claim, Classes: planworld.List[*storagev1.StorageClass](w.World, plan.StorageClasses)}
	if MayGetAny(claim) {
		s.Volumes = w.volumes()
	} else if volume := w.volume(claim.Spec.VolumeName); volume != nil {
		s.Volumes = []*corev1.PersistentVolume{volume}
	}
	if s.Waits() {
		s.Pods = w.pods()
	}
	return s
}

// claimOf is the claim of the name that a volume is for.
func (w world) claimOf(volume *corev1.PersistentVolume) *corev1.PersistentVolumeClaim {
	if volume.Spec.ClaimRef == nil {
		return nil
	}
	return w.claim(volume.Spec.ClaimRef.Name)
}

// plans are the decisions about everything that there is, each made on the world as it is now.
func (w world) plans() []plan.Plan {
	var plans []plan.Plan
	for _, pod := range w.pods() {
		names := EphemeralClaims(pod)
		of := slices.DeleteFunc(w.claims(), func(c *corev1.PersistentVolumeClaim) bool { return !slices.Contains(names, c.Name) })
		plans = append(plans, Ephemeral(pod, of))
	}
	for _, volume := range w.volumes() {
		plans = append(plans, Volume(volume, w.claimOf(volume)))
	}
	for _, claim := range w.claims() {
		plans = append(plans, Claim(w.snapshotOf(claim)))
	}
	return plans
}

// settleRounds bounds how many steps a world may take, many more than any here needs.
const settleRounds = 1000

// settle takes one step after the other until no decision writes.
func (w world) settle(t interface{ Fatalf(string, ...any) }) {
	for range settleRounds {
		plans := w.plans()
		i := slices.IndexFunc(plans, func(p plan.Plan) bool { return len(p.Writes) > 0 })
		if i < 0 {
			return
		}
		if err := w.Apply(plans[i]); err != nil {
			t.Fatalf("%v", err)
		}
		for _, write := range plans[i].Writes {
			if n := write.OnSuccess; n != nil {
				w.once[noticeText(n.Regarding, n.Component, n.Type, n.Reason, n.Message)] = true
			}
		}
	}
	t.Fatalf("not settled after %d steps", settleRounds)
}

// bindingOf describes who is bound to whom, and how.
func bindingOf(claim *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume) string {
	text := ""
	if claim != nil {
		text += fmt.Sprintf("claim %s %q", claim.Status.Phase, claim.Spec.VolumeName)
		for _, a := range []string{storagehelpers.AnnBindCompleted, storagehelpers.AnnBoundByController} {
			if metav1.HasAnnotation(claim.ObjectMeta, a) {
				text += " " + a[len("pv.kubernetes.io/"):]
			}
		}
	}
	if volume != nil {
		text += fmt.Sprintf("; volume %s", volume.Status.Phase)
		if volume.Spec.ClaimRef != nil {
			text += " for " + volume.Spec.ClaimRef.Name
			if volume.Spec.ClaimRef.UID == "" {
				text += " of any UID"
			}
		}
		if metav1.HasAnnotation(volume.ObjectMeta, storagehelpers.AnnBoundByController) {
			text += " bound-by-controller"
		}
	}
	return text
}
