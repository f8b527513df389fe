package scheduling_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/scheduling"
)

const (
	bindCompleted = "pv.kubernetes.io/bind-completed"
	selectedNode  = "volume.kubernetes.io/selected-node"
)

// mounting has a pod mount a claim.
func mounting(claim string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: claim, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}})
	}
}

func claim(name, class string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	pvc := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "4", Annotations: map[string]string{}},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: list("storage=5Gi")},
		},
	}
	for _, f := range change {
		f(pvc)
	}
	return pvc
}

// boundTo is a claim that has its volume.
func boundTo(volume string) func(*corev1.PersistentVolumeClaim) {
	return func(pvc *corev1.PersistentVolumeClaim) {
		pvc.Spec.VolumeName, pvc.Status.Phase = volume, corev1.ClaimBound
		pvc.Annotations[bindCompleted] = "yes"
	}
}

func forOnePod(pvc *corev1.PersistentVolumeClaim) {
	pvc.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
}

// volume is of the CSI driver "d".
func volume(name, class string, change ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), ResourceVersion: "3", Labels: map[string]string{}},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName: class, Capacity: list("storage=10Gi"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: name}},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable},
	}
	for _, f := range change {
		f(pv)
	}
	return pv
}

func onlyOn(node string) func(*corev1.PersistentVolume) {
	return func(pv *corev1.PersistentVolume) {
		pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
			{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}},
		}}}
	}
}

func sized(size string) func(*corev1.PersistentVolume) {
	return func(pv *corev1.PersistentVolume) { pv.Spec.Capacity = list("storage=" + size) }
}

// classes are "given", whose volumes people make, "made", whose volumes a driver makes in zone a, and "now", which does not
// wait for a pod.
func classes() []*storagev1.StorageClass {
	wait, now := storagev1.VolumeBindingWaitForFirstConsumer, storagev1.VolumeBindingImmediate
	return []*storagev1.StorageClass{
		{ObjectMeta: metav1.ObjectMeta{Name: "given"}, Provisioner: "kubernetes.io/no-provisioner", VolumeBindingMode: &wait},
		{ObjectMeta: metav1.ObjectMeta{Name: "made"}, Provisioner: "d", VolumeBindingMode: &wait, AllowedTopologies: []corev1.TopologySelectorTerm{
			{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: corev1.LabelTopologyZone, Values: []string{"a"}}}},
		}},
		{ObjectMeta: metav1.ObjectMeta{Name: "now"}, Provisioner: "d", VolumeBindingMode: &now},
	}
}

// attaching is what the driver "d" can attach to a node.
func attaching(node string, count int32) *storagev1.CSINode {
	return &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: node}, Spec: storagev1.CSINodeSpec{
		Drivers: []storagev1.CSINodeDriver{{Name: "d", Allocatable: &storagev1.VolumeNodeResources{Count: &count}}},
	}}
}

// room is how much the driver "d" has for volumes of the class "made" on a node.
func room(node, size string) *storagev1.CSIStorageCapacity {
	quantity := resource.MustParse(size)
	return &storagev1.CSIStorageCapacity{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: node}, StorageClassName: "made", Capacity: &quantity,
		NodeTopology: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelHostname: node}},
	}
}

const (
	// stateless is what upstream says where a plugin before DynamicResources has refused a pod before nodes were looked at.
	stateless = " not found"
	helpless  = " preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
	nobody    = " preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
)

// TestVolumesDecideWhereAPodGoes has scenarios for each of upstream's four plugins. There are two nodes, a in zone a and b
// in zone b, the emptier.
func TestVolumesDecideWhereAPodGoes(t *testing.T) {
	type claims = []*corev1.PersistentVolumeClaim
	type volumes = []*corev1.PersistentVolume
	disk := func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{IQN: "disk"}}}}
	}
	scratch := func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}}
	}
	told := &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: storagev1.CSIDriverSpec{StorageCapacity: new(true)}}
	needed := &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: storagev1.CSIDriverSpec{PreventPodSchedulingIfMissing: new(true)}}
	for what, c := range map[string]struct {
		in   scheduling.Input
		want map[string]string
	}{
		"VolumeRestrictions: a disk is mounted by one pod of a node": {
			in:   scheduling.Input{Pods: []*corev1.Pod{pod("old", on("b"), disk), pod("p", disk), pod("q", disk)}},
			want: map[string]string{"p": "a", "q": "0/2 nodes are available: 2 node(s) had no available disk." + nobody},
		},
		"VolumeRestrictions: a claim for one pod is not shared, though they arrive together": {
			in: scheduling.Input{
				Pods:   []*corev1.Pod{pod("p", mounting("c")), pod("q", mounting("c"))},
				Claims: claims{claim("c", "now", boundTo("v"), forOnePod)}, Volumes: volumes{volume("v", "now")},
			},
			want: map[string]string{"p": "b", "q": "0/2 nodes are available: 2 node(s) unavailable due to PersistentVolumeClaim with " +
				"ReadWriteOncePod access mode already in-use by another pod." + nobody},
		},
		"VolumeRestrictions: a claim that is missing is waited for": {
			in:   scheduling.Input{Pods: []*corev1.Pod{pod("p", mounting("c"))}},
			want: map[string]string{"p": `0/2 nodes are available: persistentvolumeclaim "c" not found.` + stateless},
		},
		"NodeVolumeLimits: a node attaches so many volumes, and pods of one run count": {
			in: scheduling.Input{
				Pods:     []*corev1.Pod{pod("p", mounting("c1")), pod("q", mounting("c2")), pod("r", mounting("c3"))},
				Claims:   claims{claim("c1", "now", boundTo("v1")), claim("c2", "now", boundTo("v2")), claim("c3", "now", boundTo("v3"))},
				Volumes:  volumes{volume("v1", "now"), volume("v2", "now"), volume("v3", "now")},
				CSINodes: []*storagev1.CSINode{attaching("a", 1), attaching("b", 1)},
			},
			want: map[string]string{"p": "b", "q": "a", "r": "0/2 nodes are available: 2 node(s) exceed max volume count." + nobody},
		},
		"NodeVolumeLimits: a volume that is attached already is not counted twice": {
			in: scheduling.Input{
				Pods:   []*corev1.Pod{pod("old", on("b"), mounting("c")), pod("p", mounting("c"))},
				Claims: claims{claim("c", "now", boundTo("v"))}, Volumes: volumes{volume("v", "now")},
				CSINodes: []*storagev1.CSINode{attaching("a", 0), attaching("b", 1)},
			},
			want: map[string]string{"p": "b"},
		},
		"NodeVolumeLimits: a driver that says so must be on the node": {
			in: scheduling.Input{
				Pods:   []*corev1.Pod{pod("p", mounting("c"))},
				Claims: claims{claim("c", "now", boundTo("v"))}, Volumes: volumes{volume("v", "now")},
				CSINodes: []*storagev1.CSINode{attaching("a", 9)}, CSIDrivers: []*storagev1.CSIDriver{needed},
			},
			want: map[string]string{"p": "a"},
		},
		"VolumeBinding: a pod goes where its volume is": {
			in: scheduling.Input{
				Pods:   []*corev1.Pod{pod("p", mounting("c"))},
				Claims: claims{claim("c", "now", boundTo("v"))}, Volumes: volumes{volume("v", "now", onlyOn("a"))},
			},
			want: map[string]string{"p": "a"},
		},
		"VolumeBinding: a claim that does not wait for a pod is waited for": {
			in:   scheduling.Input{Pods: []*corev1.Pod{pod("p", mounting("c"))}, Claims: claims{claim("c", "now")}},
			want: map[string]string{"p": "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims." + stateless},
		},
		"VolumeBinding: a claim that lost its volume is of no use": {
			in: scheduling.Input{Pods: []*corev1.Pod{pod("p", mounting("c"))}, Claims: claims{
				claim("c", "now", boundTo("v"), func(pvc *corev1.PersistentVolumeClaim) { pvc.Status.Phase = corev1.ClaimLost }),
			}},
			want: map[string]string{"p": `0/2 nodes are available: persistentvolumeclaim "c" bound to non-existent persistentvolume "v".` + stateless},
		},
		"VolumeBinding: the claim of an ephemeral volume is waited for": {
			in:   scheduling.Input{Pods: []*corev1.Pod{pod("p", scratch)}},
			want: map[string]string{"p": `0/2 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim "p-scratch".` + stateless},
		},
		"VolumeBinding: and it must be the pod's own": {
			in:   scheduling.Input{Pods: []*corev1.Pod{pod("p", scratch)}, Claims: claims{claim("p-scratch", "now")}},
			want: map[string]string{"p": "0/2 nodes are available: PVC default/p-scratch was not created for pod default/p (pod is not owner)." + stateless},
		},
		"VolumeBinding: a volume is for one claim, and pods of one run get different ones": {
			in: scheduling.Input{
				Pods:   []*corev1.Pod{pod("p", mounting("c1")), pod("q", mounting("c2"))},
				Claims: claims{claim("c1", "given"), claim("c2", "given")}, Volumes: volumes{volume("v", "given", onlyOn("a"))},
			},
			want: map[string]string{"p": "a waits: v for default/c1", "q": "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind." + helpless},
		},
		"VolumeBinding: the smallest volume that fits is taken": {
			in: scheduling.Input{
				Pods: []*corev1.Pod{pod("p", mounting("c"))}, Claims: claims{claim("c", "given")},
				Volumes: volumes{volume("large", "given", onlyOn("a"), sized("90Gi")), volume("small", "given", onlyOn("a"), sized("4Gi")), volume("fit", "given", onlyOn("a"), sized("6Gi"))},
			},
			want: map[string]string{"p": "a waits: fit for default/c"},
		},
		"VolumeBinding: a volume is made where its class allows": {
			in:   scheduling.Input{Pods: []*corev1.Pod{pod("p", mounting("c"))}, Claims: claims{claim("c", "made")}},
			want: map[string]string{"p": "a waits: c made"},
		},
		"VolumeBinding: and where there is storage enough": {
			in: scheduling.Input{
				Pods: []*corev1.Pod{pod("p", mounting("c"))}, Claims: claims{claim("c", "made")},
				CSIDrivers: []*storagev1.CSIDriver{told}, Capacities: []*storagev1.CSIStorageCapacity{room("a", "1Gi"), room("b", "90Gi")},
			},
			want: map[string]string{"p": "0/2 nodes are available: 1 node(s) did not have enough free storage, 1 node(s) didn't find available persistent volumes to bind." + helpless},
		},
		"VolumeBinding: the node that has more storage is preferred": {
			in: scheduling.Input{
				Pods: []*corev1.Pod{pod("p", mounting("c"))}, Claims: claims{claim("c", "given")},
				Volumes: volumes{volume("half", "given", onlyOn("b"), sized("10Gi")), volume("little", "given", onlyOn("a"), sized("100Gi"))},
			},
			want: map[string]string{"p": "a waits: little for default/c"},
		},
		"VolumeBinding: a pod whose volume is being made for a node waits for it there": {
			in: scheduling.Input{
				Pods:   []*corev1.Pod{pod("p", mounting("c"))},
				Claims: claims{claim("c", "made", func(pvc *corev1.PersistentVolumeClaim) { pvc.Annotations[selectedNode] = "a" })},
			},
			want: map[string]string{"p": "a waits"},
		},
		"VolumeZone: a pod goes to the zone that its volume is labelled with": {
			in: scheduling.Input{
				Pods:   []*corev1.Pod{pod("p", mounting("c")), pod("q", mounting("d"))},
				Claims: claims{claim("c", "now", boundTo("v")), claim("d", "now", boundTo("w"))},
				Volumes: volumes{
					volume("v", "now", func(pv *corev1.PersistentVolume) { pv.Labels[corev1.LabelTopologyZone] = "a__c" }),
					volume("w", "now", func(pv *corev1.PersistentVolume) { pv.Labels[corev1.LabelTopologyZone] = "c" }),
				},
			},
			want: map[string]string{"p": "a", "q": "0/2 nodes are available: 2 node(s) had no available volume zone." + helpless},
		},
		"VolumeZone: a volume that is missing is waited for": {
			in:   scheduling.Input{Pods: []*corev1.Pod{pod("p", mounting("c"))}, Claims: claims{claim("c", "now", boundTo("v"))}},
			want: map[string]string{"p": `0/2 nodes are available: persistentvolume "v" not found.` + stateless},
		},
	} {
		t.Run(what, func(t *testing.T) {
			in := c.in
			in.Nodes = []*corev1.Node{node("a", inZone("a")), node("b", inZone("b"), offering("cpu=8", "memory=16Gi"))}
			in.Pods = append(in.Pods, pod("busy", on("a"), asking("cpu=100m")))
			in.StorageClasses, in.Seed, in.Now = classes(), 1, now
			if diff := cmp.Diff(c.want, volumeOutcome(scheduling.Place(in))); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
}

// volumeOutcome is outcome with what pods wait for and what is done about it.
func volumeOutcome(result scheduling.Result) map[string]string {
	out := outcome(result)
	for _, placed := range result.Placements {
		if !placed.Waits {
			continue
		}
		text := placed.Node + " waits"
		for _, pv := range placed.Volumes {
			text += fmt.Sprintf(": %s for %s/%s", pv.Name, pv.Spec.ClaimRef.Namespace, pv.Spec.ClaimRef.Name)
		}
		for _, pvc := range placed.Claims {
			text += fmt.Sprintf(": %s made", pvc.Name)
		}
		out[placed.Pod.Name] = text
	}
	return out
}

// TestAPodIsBoundAfterItsClaims plays the controllers of volumes: a first run asks them to bind the claims of a pod for a
// node, and a later one binds the pod to that node.
func TestAPodIsBoundAfterItsClaims(t *testing.T) {
	c := scheduling.NewCluster()
	c.SetNode(node("a", inZone("a")))
	c.SetNode(node("b", inZone("a")))
	for _, class := range classes() {
		c.SetStorageClass(class)
	}
	p := pod("p", mounting("given"), mounting("made"), asking("cpu=4"))
	c.SetPod(p)
	c.SetClaim(claim("given", "given"))
	c.SetClaim(claim("made", "made"))
	c.SetVolume(volume("v", "given", onlyOn("a")))

	// 1. The volume is given to its claim, and the other claim's is to be made for the node.
	given := volume("v", "given", onlyOn("a"), func(pv *corev1.PersistentVolume) {
		pv.Annotations = map[string]string{"pv.kubernetes.io/bound-by-controller": "yes"}
		pv.Spec.ClaimRef = &corev1.ObjectReference{
			Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: "default", Name: "given", UID: "uid-given", ResourceVersion: "4",
		}
	})
	made := claim("made", "made", func(pvc *corev1.PersistentVolumeClaim) { pvc.Annotations[selectedNode] = "a" })
	nominated := p.DeepCopy()
	nominated.Status.NominatedNodeName = "a"
	first := c.Place(1, now).Plan
	want := []plan.Write{
		{Verb: plan.UpdateStatus, Resource: plan.Pods, Namespace: "default", Name: "p", Object: nominated, UID: "uid-p", ResourceVersion: "7", Reason: "its claims are bound first"},
		{Verb: plan.Update, Resource: plan.Volumes, Name: "v", Object: given, UID: "uid-v", ResourceVersion: "3", Reason: "fits claim default/given of pod p"},
		{Verb: plan.Update, Resource: plan.Claims, Namespace: "default", Name: "made", Object: made, UID: "uid-made", ResourceVersion: "4", Reason: "pod p goes to node a"},
	}
	if diff := cmp.Diff(want, first.Writes); diff != "" || len(first.Notices) > 0 {
		t.Fatalf("the first plan's writes (-want +got):\n%s\nand notices %v", diff, first.Notices)
	}

	// 2. Until they are bound the pod keeps its room, also against one that is more important.
	c.SetPod(nominated)
	c.SetVolume(given)
	c.SetClaim(made)
	c.SetPod(pod("q", asking("cpu=4"), prioritized(9)))
	if got := volumeOutcome(c.Place(1, now)); got["p"] != "a waits" || got["q"] != "b" {
		t.Fatalf("while it waits: %v", got)
	}
	c.DeletePod("default", "q")

	// 3. They are bound, and so is the pod.
	c.SetClaim(claim("given", "given", boundTo("v")))
	c.SetClaim(claim("made", "made", boundTo("w"), func(pvc *corev1.PersistentVolumeClaim) { pvc.Annotations[selectedNode] = "a" }))
	c.SetVolume(volume("w", "made"))
	last := c.Place(1, now).Plan
	if len(last.Writes) != 1 || last.Writes[0].Verb != plan.Bind || last.Writes[0].Node != "a" || last.Writes[0].OnSuccess == nil {
		t.Errorf("the last plan is %+v", last)
	}
}

// TestAPodWhoseVolumeCannotBeMadeLooksForAnotherNode: the provisioner has taken the selected node off the claim, and says
// that it has no storage there.
func TestAPodWhoseVolumeCannotBeMadeLooksForAnotherNode(t *testing.T) {
	c := scheduling.NewCluster()
	c.SetNode(node("a", inZone("a")))
	c.SetNode(node("b", inZone("a")))
	for _, class := range classes() {
		c.SetStorageClass(class)
	}
	c.SetCSIDriver(&storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: storagev1.CSIDriverSpec{StorageCapacity: new(true)}})
	c.SetStorageCapacity(room("a", "1Gi"))
	c.SetStorageCapacity(room("b", "50Gi"))
	p := pod("p", mounting("c"))
	p.Status.NominatedNodeName = "a"
	c.SetPod(p)
	c.SetClaim(claim("c", "made"))
	if got := volumeOutcome(c.Place(1, now)); got["p"] != "b waits: c made" {
		t.Errorf("%v", got)
	}
	c.DeleteStorageCapacity("kube-system", "b")
	if got := volumeOutcome(c.Place(1, now)); got["p"] != "0/2 nodes are available: 2 node(s) did not have enough free storage."+helpless {
		t.Errorf("%v", got)
	}
	c.DeleteCSIDriver("d")
	if got := volumeOutcome(c.Place(1, now)); got["p"] != "a waits: c made" {
		t.Errorf("where nobody tells what there is, it goes where it was promised: %v", got)
	}
}

// BenchmarkPlaceVolumes places pods that each have a claim of their own, on nodes that attach so many volumes.
func BenchmarkPlaceVolumes(b *testing.B) {
	const nodes, pods = 1000, 1000
	for name, change := range map[string]func(c *scheduling.Cluster, i int) *corev1.PersistentVolumeClaim{
		"bound": func(c *scheduling.Cluster, i int) *corev1.PersistentVolumeClaim {
			c.SetVolume(volume(fmt.Sprintf("v%d", i), "now"))
			return claim(fmt.Sprintf("c%d", i), "now", boundTo(fmt.Sprintf("v%d", i)))
		},
		"local": func(c *scheduling.Cluster, i int) *corev1.PersistentVolumeClaim {
			c.SetVolume(volume(fmt.Sprintf("v%d", i), "given", onlyOn(fmt.Sprintf("node-%d", i%nodes))))
			return claim(fmt.Sprintf("c%d", i), "given")
		},
		"made": func(_ *scheduling.Cluster, i int) *corev1.PersistentVolumeClaim {
			return claim(fmt.Sprintf("c%d", i), "made")
		},
	} {
		b.Run(name, func(b *testing.B) {
			c := scheduling.NewCluster()
			for _, class := range classes() {
				c.SetStorageClass(class)
			}
			for i := range nodes {
				n := fmt.Sprintf("node-%d", i)
				c.SetNode(node(n, inZone("a"), offering("cpu=32", "memory=128Gi", "pods=256")))
				c.SetCSINode(attaching(n, 20))
			}
			for i := range pods {
				c.SetClaim(change(c, i))
				c.SetPod(pod(fmt.Sprintf("pod-%d", i), mounting(fmt.Sprintf("c%d", i)), asking("cpu=100m", "memory=100Mi")))
			}
			b.ReportAllocs()
			for b.Loop() {
				if placed := len(c.Place(1, now).Placements); placed != pods {
					b.Fatalf("placed %d of %d", placed, pods)
				}
			}
			b.ReportMetric(float64(pods*b.N)/b.Elapsed().Seconds(), "pods/s")
		})
	}
}

// A pod that no node can ever take waits for a claim, too, and another claim is assumed bound while it is looked at again.
func TestClaimsOfPodsThatContradictThemselvesAreLeftAlone(t *testing.T) {
	contradicting := func(p *corev1.Pod) {
		named("a")(p)
		term := &p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0]
		term.MatchFields = append(term.MatchFields, corev1.NodeSelectorRequirement{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"b"}})
	}
	in := scheduling.Input{
		Nodes: []*corev1.Node{node("a")}, StorageClasses: classes(), Now: now,
		Claims: []*corev1.PersistentVolumeClaim{claim("c", "given"), claim("other", "given")}, Volumes: []*corev1.PersistentVolume{volume("v", "given")},
		Pods: []*corev1.Pod{
			pod("p1", mounting("c"), contradicting, prioritized(1)), pod("q", mounting("other"), prioritized(1)), pod("r", mounting("c"), contradicting, prioritized(1)),
		},
	}
	got := outcome(scheduling.Place(in))
	if got["q"] != "a" || got["p1"] != got["r"] || got["p1"] == "" {
		t.Errorf("pods were told %v", got)
	}
}

// TestPodsWithoutTheirClaimWaitAmongOthers is about pods of one group with another that is placed between them.
func TestPodsWithoutTheirClaimWaitAmongOthers(t *testing.T) {
	made := func(second int) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.CreationTimestamp = metav1.NewTime(now.Add(time.Duration(second) * time.Second))
		}
	}
	absent := `0/1 nodes are available: persistentvolumeclaim "absent" not found.` + stateless
	got := outcome(scheduling.Place(scheduling.Input{Nodes: []*corev1.Node{node("a")}, Now: now, Pods: []*corev1.Pod{
		pod("p", mounting("absent"), made(1)), pod("q", made(2)), pod("r", mounting("absent"), made(3)),
	}}))
	if diff := cmp.Diff(map[string]string{"p": absent, "q": "a", "r": absent}, got); diff != "" {
		t.Errorf("outcome (-want +got):\n%s", diff)
	}
}
