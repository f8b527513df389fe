package attachdetach

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/plan"
)

var start = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

const driver = "disks.example.com"

// uniqueName is the name of volume v in the status of nodes.
func uniqueName(v string) corev1.UniqueVolumeName {
	return corev1.UniqueVolumeName("kubernetes.io/csi/disks.example.com^handle-" + v)
}

func node(name string, change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), Annotations: map[string]string{managed: "true"}},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	}
	for _, c := range change {
		c(n)
	}
	return n
}

func unmanaged(n *corev1.Node) { n.Annotations = nil }
func lost(n *corev1.Node)      { n.Status.Conditions[0].Status = corev1.ConditionUnknown }
func dead(n *corev1.Node) {
	n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute})
}

func using(n *corev1.Node) { n.Status.VolumesInUse = append(n.Status.VolumesInUse, uniqueName("v")) }

func telling(v string) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Status.VolumesAttached = append(n.Status.VolumesAttached, corev1.AttachedVolume{Name: uniqueName(v)})
	}
}

// pod of namespace ns, on a node, with the claims c-V of volumes.
func pod(ns, name, node string, volumes ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID(ns + name)}, Spec: corev1.PodSpec{NodeName: node}}
	for _, v := range volumes {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: v, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c-" + v},
		}})
	}
	return p
}

func ended(p *corev1.Pod) *corev1.Pod { p.Status.Phase = corev1.PodSucceeded; return p }

func going(p *corev1.Pod) *corev1.Pod {
	at := metav1.NewTime(start)
	p.DeletionTimestamp = &at
	return p
}

func running(p *corev1.Pod) *corev1.Pod {
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	return p
}

// storage is volume v, bound to the claim c-v of every namespace that is named, of which the first has it.
func storage(s *Snapshot, v string, mode corev1.PersistentVolumeAccessMode, namespaces ...string) {
	for _, ns := range namespaces {
		s.Claims = append(s.Claims, &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "c-" + v, UID: types.UID(ns + "c-" + v)},
			Spec:       corev1.PersistentVolumeClaimSpec{VolumeName: v}, Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound},
		})
	}
	s.Volumes = append(s.Volumes, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: v},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{mode}, ClaimRef: &corev1.ObjectReference{UID: types.UID(namespaces[0] + "c-" + v)},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: "handle-" + v}},
		},
	})
}

func attachmentOf(v, node string) string {
	return spec{driver: driver, handle: "handle-" + v}.attachmentName(node)
}

func va(v, node string, change ...func(*storagev1.VolumeAttachment)) *storagev1.VolumeAttachment {
	out := &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: attachmentOf(v, node), UID: "uid-va"},
		Spec:       storagev1.VolumeAttachmentSpec{Attacher: driver, NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &v}},
	}
	for _, c := range change {
		c(out)
	}
	return out
}

func attached(a *storagev1.VolumeAttachment) { a.Status.Attached = true }
func leaving(a *storagev1.VolumeAttachment) {
	at := metav1.NewTime(start)
	a.DeletionTimestamp = &at
}

func failing(message string) func(*storagev1.VolumeAttachment) {
	return func(a *storagev1.VolumeAttachment) {
		a.Status.AttachError = &storagev1.VolumeError{Time: metav1.NewTime(start), Message: message}
	}
}

// told is a plan in words: attachments by what they are of.
func told(t *testing.T, p plan.Plan) []string {
	t.Helper()
	names := map[string]string{}
	for _, v := range []string{"v", "w"} {
		for _, n := range []string{"a", "b", "gone"} {
			names[attachmentOf(v, n)] = v + " on " + n
		}
	}
	var out []string
	for _, w := range p.Writes {
		switch w.Verb {
		case plan.Create:
			o := w.Object.(*storagev1.VolumeAttachment)
			if o.Spec.Attacher != driver || o.Name != attachmentOf(*o.Spec.Source.PersistentVolumeName, o.Spec.NodeName) {
				t.Errorf("made %+v", o)
			}
			out = append(out, "attach "+names[w.Name])
		case plan.Delete:
			out = append(out, "detach "+names[w.Name])
		case plan.Patch:
			var n corev1.Node
			if err := json.Unmarshal(w.PatchBody, &n); err != nil {
				t.Fatal(err)
			}
			var list []string
			for _, v := range n.Status.VolumesAttached {
				list = append(list, strings.TrimPrefix(string(v.Name), string(uniqueName(""))))
			}
			out = append(out, fmt.Sprintf("%s of %s tells %v", w.Subresource, w.Name, list))
		default:
			t.Errorf("%s of %s", w.Verb, w.Name)
		}
	}
	for _, n := range p.Notices {
		out = append(out, fmt.Sprintf("%s %s %s: %s", n.Regarding.Name, n.Type, n.Reason, n.Message))
	}
	for _, l := range p.Later {
		when := "never"
		if !l.At.IsZero() {
			when = l.At.Sub(start).String()
		}
		out = append(out, fmt.Sprintf("%s of %s: %s", l.Kind, names[l.Subject.Name], when))
	}
	return out
}

func TestVolumesAreAttachedWherePodsWantThem(t *testing.T) {
	once, many := corev1.ReadWriteOnce, corev1.ReadWriteMany
	name := attachmentOf("v", "a")
	type vas = map[string]*storagev1.VolumeAttachment
	cases := map[string]struct {
		world  Snapshot
		change Change
		mode   corev1.PersistentVolumeAccessMode
		want   []string
	}{
		"a pod comes": {
			world: Snapshot{Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{pod("ns", "p", "a", "v")}}, want: []string{"attach v on a"},
		},
		"of a node that attaches by itself": {world: Snapshot{Nodes: []*corev1.Node{node("a", unmanaged)}, Pods: []*corev1.Pod{pod("ns", "p", "a", "v")}}},
		"of a driver that needs no attaching": {
			world: Snapshot{
				Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{pod("ns", "p", "a", "v")},
				Drivers: []*storagev1.CSIDriver{{ObjectMeta: metav1.ObjectMeta{Name: driver}, Spec: storagev1.CSIDriverSpec{AttachRequired: new(false)}}},
			},
		},
		"with a claim that is not bound": {world: Snapshot{Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{pod("ns", "p", "a", "unbound")}}},
		"it is over":                     {world: Snapshot{Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{ended(pod("ns", "p", "a", "v"))}}},
		"it goes and does not run":       {world: Snapshot{Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{going(pod("ns", "p", "a", "v"))}}},
		"it goes and runs": {
			world: Snapshot{Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{running(going(pod("ns", "p", "a", "v")))}}, want: []string{"attach v on a"},
		},
		"the driver is at work": {
			world: Snapshot{Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{pod("ns", "p", "a", "v")}, Attachments: []*storagev1.VolumeAttachment{va("v", "a")}},
		},
		"the driver has attached it": {
			world: Snapshot{
				Nodes: []*corev1.Node{node("a", telling("w"))}, Pods: []*corev1.Pod{pod("ns", "p", "a", "v"), pod("ns", "q", "a", "w")},
				Attachments: []*storagev1.VolumeAttachment{va("v", "a", attached), va("w", "a", attached)},
			},
			change: Change{Before: vas{name: va("v", "a")}},
			want:   []string{"status of a tells [w v]", `p Normal SuccessfulAttachVolume: AttachVolume.Attach succeeded for volume "v" `},
		},
		"it is attached and told": {
			world: Snapshot{
				Nodes: []*corev1.Node{node("a", telling("v"), using)}, Pods: []*corev1.Pod{pod("ns", "p", "a", "v")},
				Attachments: []*storagev1.VolumeAttachment{va("v", "a", attached)},
			},
			change: Change{Before: vas{name: va("v", "a", attached)}},
		},
		"the driver cannot attach it": {
			world: Snapshot{
				Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{pod("ns", "p", "a", "v")}, Attachments: []*storagev1.VolumeAttachment{va("v", "a", failing("no"))},
			},
			change: Change{Before: vas{name: va("v", "a")}}, want: []string{`p Warning FailedAttachVolume: AttachVolume.Attach failed for volume "v" : no`},
		},
		"the driver still cannot": {
			world: Snapshot{
				Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{pod("ns", "p", "a", "v")}, Attachments: []*storagev1.VolumeAttachment{va("v", "a", failing("no"))},
			},
			change: Change{Before: vas{name: va("v", "a", failing("no"))}},
		},
		"the driver lost it": {
			world: Snapshot{
				Nodes: []*corev1.Node{node("a", telling("v"))}, Pods: []*corev1.Pod{pod("ns", "p", "a", "v")}, Attachments: []*storagev1.VolumeAttachment{va("v", "a")},
			},
			want: []string{"status of a tells []"},
		},
		"somebody deletes it": {
			world: Snapshot{
				Nodes: []*corev1.Node{node("a", telling("v"))}, Pods: []*corev1.Pod{pod("ns", "p", "a", "v")},
				Attachments: []*storagev1.VolumeAttachment{va("v", "a", attached, leaving)},
			},
			change: Change{Arrived: map[types.UID]bool{"nsp": true}},
			want:   []string{"status of a tells []", `p Warning FailedAttachVolume: AttachVolume.Attach failed for volume "v" : volume attachment is being deleted`},
		},
		"another node has it": {
			world: Snapshot{
				Nodes: []*corev1.Node{node("a"), node("b")}, Pods: []*corev1.Pod{pod("ns", "p", "a", "v"), pod("ns", "q", "b", "v"), pod("ns", "r", "b", "v")},
				Attachments: []*storagev1.VolumeAttachment{va("v", "b", attached)},
			},
			change: Change{Arrived: map[types.UID]bool{"nsp": true}},
			want:   []string{`p Warning FailedAttachVolume: Waiting for detach for volume "v" Volume is already used by pod(s) q, r`},
		},
		"another node had it": {
			world: Snapshot{
				Nodes: []*corev1.Node{node("a"), node("b")}, Pods: []*corev1.Pod{pod("ns", "p", "a", "v")}, Attachments: []*storagev1.VolumeAttachment{va("v", "b", attached, leaving)},
			},
			change: Change{Arrived: map[types.UID]bool{"nsp": true}},
			want: []string{`p Warning FailedAttachVolume: Waiting for detach for volume "v" Volume is already exclusively attached to one node, ` +
				`waiting on detach before it can be attached to another node`},
		},
		"another node had it, as was said": {
			world: Snapshot{
				Nodes: []*corev1.Node{node("a"), node("b")}, Pods: []*corev1.Pod{pod("ns", "p", "a", "v")}, Attachments: []*storagev1.VolumeAttachment{va("v", "b", leaving)},
			},
		},
		"others have it too": {
			world: Snapshot{
				Nodes: []*corev1.Node{node("a"), node("b")}, Pods: []*corev1.Pod{pod("ns", "p", "a", "v"), pod("ns", "q", "b", "v")},
				Attachments: []*storagev1.VolumeAttachment{va("v", "b", attached)},
			},
			mode: many, want: []string{"attach v on a"},
		},
		"it is wanted again": {
			world: Snapshot{
				Nodes: []*corev1.Node{node("a", lost, telling("v"), using)}, Pods: []*corev1.Pod{pod("ns", "p", "a", "v")},
				Attachments: []*storagev1.VolumeAttachment{va("v", "a", attached)},
			},
			change: Change{Waiting: map[string]bool{name: true}}, want: []string{"unmount of v on a: never"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			mode := once
			if c.mode != "" {
				mode = c.mode
			}
			storage(&c.world, "v", mode, "ns")
			storage(&c.world, "w", once, "ns")
			c.change.Now = start
			if diff := cmp.Diff(c.want, told(t, Reconcile(NewIndex(c.world), "a", c.change))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestVolumesAreDetachedWhenItIsSafe(t *testing.T) {
	name := attachmentOf("v", "a")
	yes := map[string]bool{name: true}
	cases := map[string]struct {
		node   *corev1.Node
		va     *storagev1.VolumeAttachment
		change Change
		want   []string
	}{
		"nobody uses it": {
			node: node("a", telling("v")), va: va("v", "a", attached), want: []string{"status of a tells []", "detach v on a"},
		},
		"nobody uses it, and it was not attached yet": {node: node("a"), va: va("v", "a"), want: []string{"detach v on a"}},
		"the driver detaches it":                      {node: node("a"), va: va("v", "a", attached, leaving)},
		"the node uses it":                            {node: node("a", telling("v"), using), va: va("v", "a", attached)},
		"the node uses it, and forgot that it has it": {node: node("a", using), va: va("v", "a", attached), want: []string{"status of a tells [v]"}},
		"the node uses it and is lost": {
			node: node("a", telling("v"), using, lost), va: va("v", "a", attached), want: []string{"unmount of v on a: 6m0s"},
		},
		"it is waited for": {node: node("a", telling("v"), using, lost), va: va("v", "a", attached), change: Change{Waiting: yes}},
		"it was waited for": {
			node: node("a", telling("v"), using, lost), va: va("v", "a", attached), change: Change{Expired: yes},
			want: []string{"status of a tells []", "detach v on a"},
		},
		"it was waited for, and the node is back": {node: node("a", telling("v"), using), va: va("v", "a", attached), change: Change{Expired: yes}},
		"the node is out of service": {
			node: node("a", telling("v"), using, lost, dead), va: va("v", "a", attached), want: []string{"status of a tells []", "detach v on a"},
		},
		"the node is gone and had it not": {va: va("v", "a", attached), change: Change{Gone: node("a", telling("v"))}, want: []string{"detach v on a"}},
		"the node is gone and had it":     {va: va("v", "a", attached), change: Change{Gone: node("a", using)}, want: []string{"unmount of v on a: 6m0s"}},
		"the node is gone":                {va: va("v", "a", attached), want: []string{"unmount of v on a: 6m0s"}},
		"the node has been gone for long": {va: va("v", "a", attached), change: Change{Expired: yes}, want: []string{"detach v on a"}},
		"the volume is gone": {
			node: node("a", telling("lost")), va: va("lost", "a", attached), want: []string{"status of a tells []", "detach "},
		},
		"of somebody else": {
			node: node("a"), va: va("v", "a", func(a *storagev1.VolumeAttachment) { a.Name = "mine" }),
		},
		"what was told of is not there": {node: node("a", telling("v")), want: []string{"status of a tells []"}},
		"what needs no driver": {
			node: node("a", func(n *corev1.Node) {
				n.Status.VolumesAttached = []corev1.AttachedVolume{{Name: "kubernetes.io/iscsi/x"}}
			}),
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var world Snapshot
			storage(&world, "v", corev1.ReadWriteOnce, "ns")
			if c.node != nil {
				world.Nodes = append(world.Nodes, c.node)
			}
			if c.va != nil {
				world.Attachments = append(world.Attachments, c.va)
			}
			c.change.Now = start
			p := Reconcile(NewIndex(world), "a", c.change)
			if diff := cmp.Diff(c.want, told(t, p)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again := slices.ContainsFunc(p.Reads, func(r plan.Read) bool { return r.Again && r.Node == "a" }); again != slices.ContainsFunc(c.want, func(s string) bool { return strings.HasPrefix(s, "detach") }) {
				t.Errorf("it reads %+v", p.Reads)
			}
		})
	}
}

func TestPodsOfOtherNamespacesAreNotNamed(t *testing.T) {
	var world Snapshot
	storage(&world, "v", corev1.ReadWriteOnce, "ns")
	world.Nodes = []*corev1.Node{node("a"), node("b")}
	q := pod("ns", "q", "b", "v")
	for want, users := range map[string][]*corev1.Pod{
		"Volume is already used by pod(s) q and 1 pod(s) in different namespaces": {q, pod("other", "r", "b", "v")},
		"Volume is already used by 2 pod(s) in different namespaces":              {pod("other", "r", "b", "v"), pod("third", "r", "b", "v")},
	} {
		if got := usedBy(users, "ns"); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

func TestVolumesThatDriversTookOverAreAttachedByThem(t *testing.T) {
	disk := corev1.PersistentVolumeSource{AWSElasticBlockStore: &corev1.AWSElasticBlockStoreVolumeSource{VolumeID: "vol-1"}}
	world := Snapshot{
		Nodes: []*corev1.Node{node("a")}, Pods: []*corev1.Pod{pod("ns", "p", "a", "v")},
	}
	storage(&world, "v", corev1.ReadWriteOnce, "ns")
	world.Volumes[0].Spec.PersistentVolumeSource = disk
	world.Pods = append(world.Pods, pod("ns", "q", "a"))
	world.Pods[1].Spec.Volumes = []corev1.Volume{{Name: "own", VolumeSource: corev1.VolumeSource{
		AWSElasticBlockStore: &corev1.AWSElasticBlockStoreVolumeSource{VolumeID: "vol-2"},
	}}}
	var got []string
	for _, w := range Reconcile(NewIndex(world), "a", Change{Now: start}).Writes {
		o := w.Object.(*storagev1.VolumeAttachment)
		got = append(got, fmt.Sprint(o.Spec.Attacher, " ", o.Spec.Source.PersistentVolumeName != nil, " ", o.Spec.Source.InlineVolumeSpec != nil))
	}
	if diff := cmp.Diff([]string{"ebs.csi.aws.com true false", "ebs.csi.aws.com false true"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
