package lifecycle

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// meta is that of object(name) with the given finalizers.
func meta(name string, finalizers ...string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "ns", Name: name, UID: uidOf(name), ResourceVersion: "7", Finalizers: finalizers}
}

func clusterMeta(name string, finalizers ...string) metav1.ObjectMeta {
	m := meta(name, finalizers...)
	m.Namespace = ""
	return m
}

func dying(m metav1.ObjectMeta) metav1.ObjectMeta {
	m.DeletionTimestamp = new(metav1.NewTime(noon))
	return m
}

func claim(m metav1.ObjectMeta, alter ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: m}
	for _, f := range alter {
		f(c)
	}
	return c
}

func ofPod(pod string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) {
		c.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod, UID: uidOf(pod), Controller: new(true)}}
	}
}

func bound(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimBound }

// says gives a claim the condition that it is unused, or not.
func says(unused corev1.ConditionStatus, reason, message string) func(*corev1.PersistentVolumeClaim) {
	return func(c *corev1.PersistentVolumeClaim) {
		c.Status.Conditions = append(c.Status.Conditions, corev1.PersistentVolumeClaimCondition{
			Type: corev1.PersistentVolumeClaimUnused, Status: unused, LastTransitionTime: metav1.NewTime(noon), Reason: reason, Message: message,
		})
	}
}

var (
	saysUnused = says(corev1.ConditionTrue, "NoPodsUsingPVC", "No pods are currently referencing this PVC")
	saysUsed   = says(corev1.ConditionFalse, "PodUsingPVC", "A pod is currently referencing this PVC")
)

// podWith is a pod on a node with one volume.
func podWith(source corev1.VolumeSource, alter ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: meta("p"), Spec: corev1.PodSpec{
		NodeName: "n", Volumes: []corev1.Volume{{Name: "data", VolumeSource: source}},
	}}
	for _, f := range alter {
		f(p)
	}
	return p
}

func uses(claim string) corev1.VolumeSource {
	return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}
}

var usesEphemeral = corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}

func unscheduled(p *corev1.Pod) { p.Spec.NodeName = "" }
func succeeded(p *corev1.Pod)   { p.Status.Phase = corev1.PodSucceeded }
func killed(p *corev1.Pod) {
	p.ObjectMeta = dying(p.ObjectMeta)
	p.DeletionGracePeriodSeconds = new(int64(0))
}

func TestProtectClaim(t *testing.T) {
	const changed = "whether a pod uses it has changed"
	for name, tc := range map[string]struct {
		claim *corev1.PersistentVolumeClaim
		pods  []*corev1.Pod
		want  plan.Plan
	}{
		"a live claim without the finalizer gets it": {
			claim: claim(meta("c", "other")),
			want:  rewrite(plan.Update, plan.Claims, claim(meta("c", "other", ClaimProtection)), unprotected),
		},
		"a live claim with the finalizer is left alone": {claim: claim(meta("c", ClaimProtection))},
		"a claim that is being deleted loses the finalizer when no pod uses it, and keeps others": {
			claim: claim(dying(meta("c", "other", ClaimProtection))),
			pods:  []*corev1.Pod{podWith(uses("another"))},
			want:  rewrite(plan.Update, plan.Claims, claim(dying(meta("c", "other"))), unused),
		},
		"a claim that is being deleted and has no such finalizer is left alone": {claim: claim(dying(meta("c", "other")))},
		"a pod on a node holds its claim": {
			claim: claim(dying(meta("c", ClaimProtection))), pods: []*corev1.Pod{podWith(uses("c"))},
		},
		"a pod that is over but still there holds its claim": {
			claim: claim(dying(meta("c", ClaimProtection))), pods: []*corev1.Pod{podWith(uses("c"), succeeded)},
		},
		"a pod without a node does not": {
			claim: claim(dying(meta("c", ClaimProtection))), pods: []*corev1.Pod{podWith(uses("c"), unscheduled)},
			want: rewrite(plan.Update, plan.Claims, claim(dying(meta("c"))), unused),
		},
		"a pod holds the claim that was made for its ephemeral volume": {
			claim: claim(dying(meta("p-data", ClaimProtection)), ofPod("p")), pods: []*corev1.Pod{podWith(usesEphemeral)},
		},
		"a claim of that name that was made by someone else is not held": {
			claim: claim(dying(meta("p-data", ClaimProtection))), pods: []*corev1.Pod{podWith(usesEphemeral)},
			want: rewrite(plan.Update, plan.Claims, claim(dying(meta("p-data"))), unused),
		},
		"a pod that was shut down does not hold the claim of its ephemeral volume": {
			claim: claim(dying(meta("p-data", ClaimProtection)), ofPod("p")), pods: []*corev1.Pod{podWith(usesEphemeral, killed)},
			want: rewrite(plan.Update, plan.Claims, claim(dying(meta("p-data")), ofPod("p")), unused),
		},
		"a bound claim says that it is unused": {
			claim: claim(meta("c", ClaimProtection), bound), pods: []*corev1.Pod{podWith(uses("c"), succeeded)},
			want: rewrite(plan.UpdateStatus, plan.Claims, claim(meta("c", ClaimProtection), bound, saysUnused), changed),
		},
		"a bound claim that said so says that it is used, even by a pod without a node": {
			claim: claim(meta("c", ClaimProtection), bound, saysUnused), pods: []*corev1.Pod{podWith(uses("c"), unscheduled)},
			want: rewrite(plan.UpdateStatus, plan.Claims, claim(meta("c", ClaimProtection), bound, saysUsed), changed),
		},
		"a bound claim that says what is so is left alone": {
			claim: claim(meta("c", ClaimProtection), bound, saysUsed), pods: []*corev1.Pod{podWith(uses("c"))},
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := tc.claim.DeepCopy()
			if diff := cmp.Diff(tc.want, ProtectClaim(tc.claim, tc.pods, noon), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("wrong plan (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, tc.claim); diff != "" {
				t.Errorf("the snapshot was altered:\n%s", diff)
			}
		})
	}
}

func TestProtectVolume(t *testing.T) {
	volume := func(m metav1.ObjectMeta, phase corev1.PersistentVolumePhase) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{ObjectMeta: m, Status: corev1.PersistentVolumeStatus{Phase: phase}}
	}
	for name, tc := range map[string]struct {
		volume *corev1.PersistentVolume
		want   plan.Plan
	}{
		"a live volume without the finalizer gets it": {
			volume: volume(clusterMeta("v"), corev1.VolumeBound),
			want:   rewrite(plan.Update, plan.Volumes, volume(clusterMeta("v", VolumeProtection), corev1.VolumeBound), unprotected),
		},
		"a bound volume that is being deleted keeps it": {volume: volume(dying(clusterMeta("v", VolumeProtection)), corev1.VolumeBound)},
		"a released volume that is being deleted loses it": {
			volume: volume(dying(clusterMeta("v", VolumeProtection)), corev1.VolumeReleased),
			want:   rewrite(plan.Update, plan.Volumes, volume(dying(clusterMeta("v")), corev1.VolumeReleased), unused),
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, ProtectVolume(tc.volume), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("wrong plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestProtectAttributesClass(t *testing.T) {
	class := func(m metav1.ObjectMeta) *storagev1.VolumeAttributesClass {
		return &storagev1.VolumeAttributesClass{ObjectMeta: m}
	}
	naming := func(c *corev1.PersistentVolumeClaim) { c.Status.CurrentVolumeAttributesClassName = new("gold") }
	target := func(c *corev1.PersistentVolumeClaim) {
		c.Status.ModifyVolumeStatus = &corev1.ModifyVolumeStatus{TargetVolumeAttributesClassName: "gold"}
	}
	held := class(dying(clusterMeta("gold", AttributesClassProtection)))
	released := rewrite(plan.Update, plan.AttributesClasses, class(dying(clusterMeta("gold"))), unused)
	for name, tc := range map[string]struct {
		claims  []*corev1.PersistentVolumeClaim
		volumes []*corev1.PersistentVolume
		want    plan.Plan
	}{
		"a class that nothing names goes":      {want: released},
		"a class that a claim has stays":       {claims: []*corev1.PersistentVolumeClaim{claim(meta("c"), naming)}},
		"a class that a claim is to get stays": {claims: []*corev1.PersistentVolumeClaim{claim(meta("c"), target)}},
		"a class that a volume has stays": {volumes: []*corev1.PersistentVolume{
			{Spec: corev1.PersistentVolumeSpec{VolumeAttributesClassName: new("gold")}},
		}},
		"a class that others do not name goes": {claims: []*corev1.PersistentVolumeClaim{claim(meta("c"))}, want: released},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, ProtectAttributesClass(held, tc.claims, tc.volumes), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("wrong plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestClaimsOf(t *testing.T) {
	running := podWith(uses("c"))
	other := podWith(uses("d"))
	other.UID = "another"
	for name, tc := range map[string]struct {
		before, after *corev1.Pod
		want          []string
	}{
		"a new pod":                        {after: running, want: []string{"c"}},
		"a pod that is gone":               {before: running, want: []string{"c"}},
		"a pod that runs on":               {before: running, after: running},
		"a pod that ended":                 {before: running, after: podWith(uses("c"), succeeded), want: []string{"c"}},
		"a pod that came to a node":        {before: podWith(uses("c"), unscheduled), after: running, want: []string{"c"}},
		"a pod that was shut down":         {before: podWith(usesEphemeral), after: podWith(usesEphemeral, killed), want: []string{"p-data"}},
		"another pod of the same name":     {before: running, after: other, want: []string{"c", "d"}},
		"a pod without claims that is new": {after: podWith(corev1.VolumeSource{})},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, ClaimsOf(tc.before, tc.after)); diff != "" {
				t.Errorf("wrong claims (-want +got):\n%s", diff)
			}
		})
	}
}
