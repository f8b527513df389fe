package rollout

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
)

// chaos is a world in which everyone acts in any order: users edit, pods fail, kubelets are slow.
type chaos struct {
	*world
	t *rapid.T
}

func (c *chaos) check(err error) {
	if err != nil {
		c.t.Fatal(err)
	}
}

func drawDeployment(t *rapid.T) *appsv1.Deployment {
	d := newDeployment("web", rapid.Int32Range(0, 6).Draw(t, "replicas"))
	history := rapid.Int32Range(0, 3).Draw(t, "history")
	d.Spec.RevisionHistoryLimit = &history
	if rapid.Bool().Draw(t, "recreate") {
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
		return d
	}
	surge := drawFencepost(t, "surge")
	unavailable := drawFencepost(t, "unavailable")
	d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable}
	return d
}

func drawFencepost(t *rapid.T, name string) intstr.IntOrString {
	if rapid.Bool().Draw(t, name+" in percent") {
		return intstr.FromString(fmt.Sprintf("%d%%", rapid.IntRange(0, 100).Draw(t, name)))
	}
	return intstr.FromInt(rapid.IntRange(0, 4).Draw(t, name))
}

// user edits the Deployment.
func (c *chaos) user(images []string) {
	c.edit("web", func(d *appsv1.Deployment) {
		switch rapid.IntRange(0, 3).Draw(c.t, "edit") {
		case 0, 1:
			d.Spec.Template.Spec.Containers[0].Image = rapid.SampledFrom(images).Draw(c.t, "image")
		case 2:
			replicas := rapid.Int32Range(0, 6).Draw(c.t, "replicas")
			d.Spec.Replicas = &replicas
		case 3:
			d.Spec.Paused = !d.Spec.Paused
		}
	})
}

// anyPod runs one pod on by one state, or breaks it.
func (c *chaos) anyPod() {
	pods := sorted(c.pods)
	if len(pods) == 0 {
		return
	}
	pod := rapid.SampledFrom(pods).Draw(c.t, "pod")
	if rapid.IntRange(0, 5).Draw(c.t, "fate") > 0 || pod.DeletionTimestamp != nil || pod.Spec.NodeName == "" {
		c.runPod(pod)
		return
	}
	broken := pod.DeepCopy()
	broken.Status.Conditions = nil
	if rapid.Bool().Draw(c.t, "for good") {
		broken.Status.Phase = corev1.PodFailed
	}
	c.stamp(&broken.ObjectMeta)
	c.pods[broken.Name] = stored(broken)
}

func (c *chaos) anyReplicaSet() {
	if sets := sorted(c.sets); len(sets) > 0 {
		c.check(c.decideReplicaSet(rapid.SampledFrom(sets).Draw(c.t, "set").Name))
	}
}

func (c *chaos) act(decide func(), images []string) {
	switch rapid.IntRange(0, 9).Draw(c.t, "who") {
	case 0:
		c.user(images)
	case 1, 2, 3:
		decide()
	case 4, 5, 6:
		c.anyReplicaSet()
	default:
		c.anyPod()
	}
	c.now = c.now.Add(time.Second)
}

// TestSettlesWhateverHappened: after any history, once pods run again, the world comes to rest with
// the wanted replicas of the wanted template, and then both decisions ask for nothing. No plan on the
// way writes an object twice, writes what did not change, or alters its snapshot (the world checks).
func TestSettlesWhateverHappened(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &chaos{world: newWorld(), t: t}
		c.putDeployment(drawDeployment(t))
		decide := func() { c.check(c.decideDeployment("web")) }
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			c.act(decide, []string{"v1", "v2", "v3", "bad"})
		}
		c.edit("web", func(d *appsv1.Deployment) {
			d.Spec.Paused = false
			d.Spec.Template.Spec.Containers[0].Image = rapid.SampledFrom([]string{"v1", "v2", "v4"}).Draw(t, "last image")
		})
		c.check(c.settle())
		c.requireSettled()
	})
}

// takenForScaling reports whether a set has another number of desired replicas noted than the Deployment.
// Upstream leaves that on a set that has its size already (deployment/sync.go scale), takes the Deployment for
// one that is being scaled: it lets the deadline come for nothing, and keeps old sets.
func (c *chaos) takenForScaling(d *appsv1.Deployment) bool {
	for _, rs := range active(sorted(c.sets)) {
		if desired, ok := annotatedReplicas(rs, DesiredReplicasAnnotation); ok && desired != desiredOf(d) {
			return true
		}
	}
	return false
}

func (c *chaos) requireSettled() {
	d := c.deployments["web"]
	image := d.Spec.Template.Spec.Containers[0].Image
	for _, rs := range sorted(c.sets) {
		want := int32(0)
		if rs.Spec.Template.Spec.Containers[0].Image == image {
			want = desiredOf(d)
		}
		if sizeOf(rs) != want || rs.Status.AvailableReplicas != want {
			c.t.Fatalf("%s has size %d and %d available, want %d\n%s", rs.Name, sizeOf(rs), rs.Status.AvailableReplicas, want, show(c.world))
		}
		if p := ReplicaSet(c.replicaSetSnapshot(rs.Name)); !p.Empty() {
			c.t.Fatalf("the plan of a settled ReplicaSet asks for %+v", p)
		}
	}
	if p := Deployment(c.deploymentSnapshot("web")); !p.Empty() {
		c.t.Fatalf("the plan of a settled Deployment asks for %+v", p)
	}
	if !isComplete(d, &d.Status) {
		c.t.Fatalf("not complete:\n%s", show(c.world))
	}
	if c.takenForScaling(d) {
		return
	}
	if len(c.later) > 0 {
		c.t.Fatalf("settled, but still waits: %v", c.later)
	}
	old := 0
	for _, rs := range c.sets {
		if sizeOf(rs) == 0 {
			old++
		}
	}
	if limit := int(*d.Spec.RevisionHistoryLimit) + 1; old > limit {
		c.t.Fatalf("%d old ReplicaSets, limit %d", old, limit)
	}
}

// TestDeploymentPlansKeepTheirFenceposts: no plan of a rolling Deployment raises the total above
// replicas plus maxSurge, and none takes away available pods that are needed for replicas minus
// maxUnavailable, unless the user scaled. ReplicaSets may lag behind.
func TestDeploymentPlansKeepTheirFenceposts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &chaos{world: newWorld(), t: t}
		d := drawDeployment(t)
		if !isRollingUpdate(d) {
			t.Skip("recreates")
		}
		c.putDeployment(d)
		for range rapid.IntRange(0, 80).Draw(t, "steps") {
			c.act(c.decideWithinFenceposts, []string{"v1", "v2", "v3", "bad"})
		}
	})
}

func (c *chaos) decideWithinFenceposts() {
	d := c.deployments["web"]
	total, kept := sizes(sorted(c.sets)), keptAvailable(c.world)
	scaling := d.Spec.Paused
	for _, rs := range c.sets {
		desired, ok := annotatedReplicas(rs, DesiredReplicasAnnotation)
		scaling = scaling || sizeOf(rs) > 0 && ok && desired != desiredOf(d)
	}
	c.check(c.decideDeployment("web"))
	if after := sizes(sorted(c.sets)); after > total && after > desiredOf(d)+maxSurge(d) {
		c.t.Fatalf("raised the total from %d to %d\n%s", total, after, show(c.world))
	}
	needed := desiredOf(d) - maxUnavailable(d)
	if after := keptAvailable(c.world); !scaling && after < kept && after < needed {
		c.t.Fatalf("left %d of %d available, need %d\n%s", after, kept, needed, show(c.world))
	}
}

// keptAvailable is how many of the pods that the ReplicaSets report as available stay, once every
// ReplicaSet has come down to its size: the ones that are not available go first.
func keptAvailable(w *world) int32 {
	return sum(sorted(w.sets), func(rs *appsv1.ReplicaSet) int32 { return min(rs.Status.AvailableReplicas, sizeOf(rs)) })
}

// TestReplicaSetNeverOvershoots: whatever the pods do, a plan creates or deletes exactly what is
// missing or too much, never both, and never more than a burst.
func TestReplicaSetNeverOvershoots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rs := newReplicaSet("web", rapid.Int32Range(0, 1200).Draw(t, "size"))
		var pods []*corev1.Pod
		activePods := 0
		for i := range rapid.IntRange(0, 1200).Draw(t, "pods") {
			pod := newPodOf(rs, fmt.Sprint(i))
			if i%7 == 0 {
				pod.Status.Phase = corev1.PodFailed
			} else {
				activePods++
			}
			pods = append(pods, pod)
		}
		created, deleted := 0, 0
		for _, write := range ReplicaSet(ReplicaSetSnapshot{ReplicaSet: rs, Pods: pods, Now: epoch}).Writes {
			switch write.Verb {
			case plan.Create:
				created++
			case plan.Delete:
				deleted++
			default: // neither makes nor removes a pod
			}
		}
		missing := int(sizeOf(rs)) - activePods
		if created != min(max(missing, 0), 500) || deleted != min(max(-missing, 0), 500) {
			t.Fatalf("created %d and deleted %d with %d missing", created, deleted, missing)
		}
	})
}
