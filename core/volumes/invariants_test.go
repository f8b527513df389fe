package volumes

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/ephemeral"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/tests/planworld"
)

// chaos is a world in which users make and remove claims, volumes, classes and pods, and several instances decide on what
// was so some time ago and die in the middle of what they write.
type chaos struct {
	world
	t *rapid.T
	// late are plans that were made and not carried out yet.
	late []plan.Plan
	made int
}

// user makes or removes something.
func (c *chaos) user() {
	c.made++
	name := fmt.Sprintf("%c%d", 'a'+rapid.IntRange(0, 3).Draw(c.t, "name"), 0)
	class := rapid.SampledFrom([]string{"", "fast", "late"}).Draw(c.t, "class")
	gi := rapid.IntRange(1, 9).Draw(c.t, "size")
	switch rapid.IntRange(0, 7).Draw(c.t, "user") {
	case 0, 1:
		if c.claim(name) == nil {
			c.Put(plan.Claims, newClaim(name, ofClass(class), func(claim *corev1.PersistentVolumeClaim) {
				claim.UID = "" // each is another one
				claim.Spec.Resources.Requests = quantity(gi)
				if rapid.IntRange(0, 3).Draw(c.t, "asks") == 0 {
					claim.Spec.VolumeName = "v" + name
				}
			}))
		}
	case 2, 3:
		if c.volume("v"+name) == nil {
			volume := newVolume("v"+name, sized(gi), volumeOfClass(class), inPhase(corev1.VolumePending),
				policy(rapid.SampledFrom([]corev1.PersistentVolumeReclaimPolicy{corev1.PersistentVolumeReclaimRetain, corev1.PersistentVolumeReclaimDelete}).Draw(c.t, "policy")))
			if rapid.Bool().Draw(c.t, "on a host") {
				at("/tmp/" + name)(volume)
			}
			if rapid.IntRange(0, 3).Draw(c.t, "reserved") == 0 {
				reservedFor(name, "")(volume)
			}
			c.Put(plan.Volumes, volume)
		}
	case 4:
		c.Remove(plan.Claims, name)
	case 5:
		// One that is bound is protected. Before its phase says so it is not, and a user can do what nobody would.
		volume := c.volume("v" + name)
		if volume != nil && (volume.Spec.ClaimRef == nil || volume.Spec.ClaimRef.UID == "" || volume.Status.Phase == corev1.VolumeReleased) {
			c.Remove(plan.Volumes, volume.Name)
		}
	case 6:
		c.scheduler(name)
	case 7:
		c.pod(name)
	}
}

// scheduler gives a volume to a claim that waits, as the scheduler does when it has chosen a node.
func (c *chaos) scheduler(name string) {
	claim := c.claim(name)
	if claim == nil || !c.snapshotOf(claim).Waits() {
		return
	}
	for _, volume := range c.volumes() {
		if volume.Spec.ClaimRef == nil && bestMatch(claim, []*corev1.PersistentVolume{volume}, false) != nil {
			p := bind(volume, claim)
			p.Writes = p.Writes[:1]
			if err := c.Apply(p); err != nil {
				c.t.Fatal(err)
			}
			return
		}
	}
}

// pod starts or ends a pod with an ephemeral volume.
func (c *chaos) pod(name string) {
	if pod := planworld.Get[*corev1.Pod](c.World, plan.Pods, name); pod != nil {
		c.Remove(plan.Pods, name)
		c.CollectGarbage()
		return
	}
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name = "default", name
	pod.Spec.Volumes = []corev1.Volume{{Name: "x", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{
		VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{Spec: newClaim("").Spec},
	}}}}
	c.Put(plan.Pods, pod)
}

// instance decides something, and carries it out, or another does so later, or it dies in between.
func (c *chaos) instance() {
	plans := c.plans()
	if len(plans) == 0 {
		return
	}
	p := plans[rapid.IntRange(0, len(plans)-1).Draw(c.t, "decision")]
	switch rapid.IntRange(0, 3).Draw(c.t, "instance") {
	case 0:
		c.late = append(c.late, p)
	case 1:
		if len(p.Writes) > 0 {
			p.Writes = p.Writes[:rapid.IntRange(0, len(p.Writes)-1).Draw(c.t, "dies after")]
		}
		fallthrough
	default:
		if err := c.Apply(p); err != nil {
			c.t.Fatal(err)
		}
	}
}

// tardy carries out an old plan. What it was decided on may have changed, and then the world refuses it, from some write on.
func (c *chaos) tardy() {
	if len(c.late) == 0 {
		return
	}
	i := rapid.IntRange(0, len(c.late)-1).Draw(c.t, "late")
	_ = c.Apply(c.late[i])
	c.late = append(c.late[:i], c.late[i+1:]...)
}

// checkBindings: a volume is never two claims', and a claim that is bound is to a volume that is for it.
func (c *chaos) checkBindings() {
	holder := map[string]string{}
	for _, claim := range c.claims() {
		if !isBound(claim) || claim.Status.Phase == corev1.ClaimLost {
			continue
		}
		if other := holder[claim.Spec.VolumeName]; other != "" {
			c.t.Fatalf("%s is of %s and of %s", claim.Spec.VolumeName, other, claim.Name)
		}
		holder[claim.Spec.VolumeName] = claim.Name
		if volume := c.volume(claim.Spec.VolumeName); volume != nil && (volume.Spec.ClaimRef == nil || volume.Spec.ClaimRef.UID != claim.UID) {
			c.t.Fatalf("%s is not for its claim %s:\n%s", volume.Name, claim.Name, planworld.Text(volume))
		}
	}
}

// TestEveryClaimAndVolumeSettlesWhateverHappened: after any history, once everything was decided on what is so, nothing is
// written any more, no claim that could have a volume is without, and every volume is in the phase that it says. On the way no volume
// is given to two claims, and no decision alters what it was made on.
func TestEveryClaimAndVolumeSettlesWhateverHappened(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &chaos{world: newWorld(), t: t}
		c.Put(plan.StorageClasses, newClass("fast", "disks.example.com", storagev1.VolumeBindingImmediate))
		c.Put(plan.StorageClasses, newClass("late", "kubernetes.io/no-provisioner", storagev1.VolumeBindingWaitForFirstConsumer))
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "who") {
			case 0, 1:
				c.user()
			case 2, 3:
				c.instance()
			case 4:
				c.tardy()
			}
			c.checkBindings()
		}
		before := c.text()
		c.plans()
		if c.text() != before {
			t.Fatal("a decision altered its snapshot")
		}
		c.CollectGarbage() // a claim may have been made for a pod that was gone
		c.settle(t)
		c.checkBindings()
		c.checkRest()
	})
}

func (c *chaos) text() string {
	text := ""
	for _, claim := range c.claims() {
		text += planworld.Text(claim)
	}
	for _, volume := range c.volumes() {
		text += planworld.Text(volume)
	}
	return text
}

func (c *chaos) checkRest() {
	for _, claim := range c.claims() {
		volume := c.volume(claim.Spec.VolumeName)
		switch {
		case isBound(claim) && claim.Status.Phase == corev1.ClaimBound:
			if volume == nil || volume.Status.Phase != corev1.VolumeBound || volume.Spec.ClaimRef.UID != claim.UID {
				c.t.Fatalf("bound to what is not: %s", bindingOf(claim, volume))
			}
		case isBound(claim):
			if claim.Status.Phase != corev1.ClaimLost {
				c.t.Fatalf("neither bound nor lost: %s", bindingOf(claim, volume))
			}
		case claim.Spec.VolumeName == "" && !c.snapshotOf(claim).delayed():
			for _, volume := range c.volumes() {
				if volume.Status.Phase == corev1.VolumeAvailable && bestMatch(claim, []*corev1.PersistentVolume{volume}, false) != nil {
					c.t.Fatalf("%s has no volume, and %s is free", claim.Name, volume.Name)
				}
			}
		}
	}
	for _, volume := range c.volumes() {
		claim := c.claimOf(volume)
		exists := claim != nil && claim.UID == volume.Spec.ClaimRef.UID
		switch volume.Status.Phase {
		case corev1.VolumeBound:
			if !exists || claim.Spec.VolumeName != volume.Name {
				c.t.Fatalf("bound to nobody: %s", bindingOf(claim, volume))
			}
		case corev1.VolumeReleased:
			if exists || volume.Spec.HostPath != nil && volume.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
				c.t.Fatalf("released: %s", bindingOf(claim, volume))
			}
		case corev1.VolumeAvailable:
			if ref := volume.Spec.ClaimRef; ref != nil && ref.UID != "" {
				c.t.Fatalf("available: %s", bindingOf(claim, volume))
			}
		default:
			c.t.Fatalf("in no phase: %s", bindingOf(claim, volume))
		}
	}
	for _, pod := range c.pods() {
		claim := c.claim(pod.Name + "-x")
		if claim == nil || ephemeral.VolumeIsForPod(pod, claim) != nil {
			c.t.Fatalf("pod %s lacks its claim", pod.Name)
		}
	}
}
