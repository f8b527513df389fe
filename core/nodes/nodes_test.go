package nodes_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/core/nodes"
	"github.com/zeroplane/zeroplane/core/plan"
)

var start = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

func after(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

// node is a real one whose kubelet last posted its status at start.
func node(change ...func(*corev1.Node)) *corev1.Node {
	n := kubelet.NewNode("a", 0, kubelet.NodeOptions{Now: start})
	delete(n.Annotations, kubelet.Simulated)
	n.UID, n.ResourceVersion = "uid-a", "5"
	n.CreationTimestamp = metav1.NewTime(start.Add(-time.Hour))
	for _, f := range change {
		f(n)
	}
	return n
}

func simulated(n *corev1.Node) { n.Annotations[kubelet.Simulated] = "true" }

func stopped(at time.Time) func(*corev1.Node) {
	return func(n *corev1.Node) { simulated(n); n.Annotations[kubelet.StoppedAt] = at.Format(time.RFC3339) }
}

func posting(kind corev1.NodeConditionType, status corev1.ConditionStatus) func(*corev1.Node) {
	return func(n *corev1.Node) {
		for i := range n.Status.Conditions {
			if n.Status.Conditions[i].Type == kind {
				n.Status.Conditions[i].Status = status
				return
			}
		}
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: kind, Status: status})
	}
}

func tainted(key string, effect corev1.TaintEffect, at *metav1.Time) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: effect, TimeAdded: at})
	}
}

func unposted(n *corev1.Node) { n.Status.Conditions, n.CreationTimestamp = nil, metav1.NewTime(start) }

func renewed(at time.Time) *coordinationv1.Lease {
	return &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{RenewTime: &metav1.MicroTime{Time: at}}}
}

func pod(name string, tolerations ...corev1.Toleration) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "3"},
		Spec:       corev1.PodSpec{NodeName: "a", Tolerations: tolerations},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(start)},
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(start)},
		}},
	}
}

func tolerating(key string, seconds *int64) corev1.Toleration {
	return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: seconds}
}

// told is what a plan says, in words.
type told struct {
	Conditions map[corev1.NodeConditionType]string
	Taints     []string
	Labels     map[string]string
	PodsUnready,
	Deleted []string
	Notices []string
	Later   map[string]time.Time
}

func tell(t *testing.T, p plan.Plan) told {
	t.Helper()
	var out told
	for _, write := range p.Writes {
		switch object := write.Object.(type) {
		case *corev1.Node:
			out.Conditions = map[corev1.NodeConditionType]string{}
			for _, c := range object.Status.Conditions {
				out.Conditions[c.Type] = string(c.Status) + " " + c.Reason
			}
		case *corev1.Pod:
			for _, c := range object.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionFalse {
					out.PodsUnready = append(out.PodsUnready, object.Name)
				}
			}
		}
		switch write.Verb {
		case plan.Patch:
			var patched corev1.Node
			if err := json.Unmarshal(write.PatchBody, &patched); err != nil {
				t.Fatal(err)
			}
			if out.Labels = patched.Labels; out.Labels != nil {
				continue
			}
			out.Taints = []string{}
			for _, taint := range patched.Spec.Taints {
				out.Taints = append(out.Taints, taint.Key+":"+string(taint.Effect))
			}
		case plan.Delete:
			out.Deleted = append(out.Deleted, write.Name)
		case plan.UpdateStatus: // told above
		default:
			t.Fatalf("%s of %q is not told", write.Verb, write.Name)
		}
	}
	for _, n := range p.Notices {
		out.Notices = append(out.Notices, n.Reason+" "+n.Message)
	}
	for _, later := range p.Later {
		if out.Later == nil {
			out.Later = map[string]time.Time{}
		}
		out.Later[later.Kind] = later.At
	}
	return out
}

func TestSilentNodesAreLost(t *testing.T) {
	unknown := map[corev1.NodeConditionType]string{
		"Ready": "Unknown NodeStatusUnknown", "MemoryPressure": "Unknown NodeStatusUnknown",
		"DiskPressure": "Unknown NodeStatusUnknown", "PIDPressure": "Unknown NodeStatusUnknown",
	}
	never := map[corev1.NodeConditionType]string{
		"Ready": "Unknown NodeStatusNeverUpdated", "MemoryPressure": "Unknown NodeStatusNeverUpdated",
		"DiskPressure": "Unknown NodeStatusNeverUpdated", "PIDPressure": "Unknown NodeStatusNeverUpdated",
	}
	unreachable, notReady := []string{"node.kubernetes.io/unreachable:NoSchedule"}, []string{"node.kubernetes.io/not-ready:NoSchedule"}
	called := plan.Later{At: after(50)}
	lost := []string{"NodeNotReady Node a status is now: NodeNotReady", "NodeNotReady Node is not ready"}
	cases := map[string]struct {
		in   nodes.Input
		want told
	}{
		"a node in time is asked about when its grace ends": {
			nodes.Input{Node: node(), Now: after(49)}, told{Later: map[string]time.Time{"expiry": after(50)}},
		},
		"a lease counts as well as a status": {
			nodes.Input{Node: node(), Lease: renewed(after(40)), Now: after(70)}, told{Later: map[string]time.Time{"expiry": after(90)}},
		},
		"a silent node": {
			nodes.Input{Node: node(), Pods: []*corev1.Pod{pod("p")}, Expiry: called, Now: after(50)},
			told{Conditions: unknown, Taints: unreachable, PodsUnready: []string{"p"}, Notices: lost},
		},
		"a node that never posted has a minute": {
			nodes.Input{Node: node(unposted), Now: after(59)}, told{Later: map[string]time.Time{"expiry": after(60)}},
		},
		"a node that never posted": {
			nodes.Input{Node: node(unposted), Expiry: plan.Later{At: after(60)}, Now: after(60)}, told{Conditions: never, Taints: unreachable},
		},
		"a node whose kubelet is not ready": {
			nodes.Input{Node: node(posting("Ready", "False")), Pods: []*corev1.Pod{pod("p")}, Now: after(1)},
			told{
				Taints: notReady, PodsUnready: []string{"p"}, Notices: lost[1:],
				Later: map[string]time.Time{"expiry": after(50)},
			},
		},
		"a node under pressure and cordoned": {
			nodes.Input{Node: node(simulated, posting("MemoryPressure", "True"), posting("NetworkUnavailable", "True"), func(n *corev1.Node) { n.Spec.Unschedulable = true }), Now: after(1)},
			told{Taints: []string{
				"node.kubernetes.io/memory-pressure:NoSchedule", "node.kubernetes.io/network-unavailable:NoSchedule",
				"node.kubernetes.io/unschedulable:NoSchedule",
			}},
		},
		"a node that is back loses our taints and no others": {
			nodes.Input{Node: node(simulated, tainted("node.kubernetes.io/unreachable", "NoSchedule", nil),
				tainted("node.kubernetes.io/unreachable", "NoExecute", nil), tainted("mine", "NoSchedule", nil)), Now: after(1)},
			told{Taints: []string{"mine:NoSchedule"}},
		},
		"a simulated node lives on": {nodes.Input{Node: node(simulated), Now: after(9999)}, told{}},
		"a stopped simulated node has its grace": {
			nodes.Input{Node: node(stopped(after(100))), Now: after(120)}, told{Later: map[string]time.Time{"expiry": after(150)}},
		},
		"a stopped simulated node is lost": {
			nodes.Input{Node: node(stopped(after(100))), Pods: []*corev1.Pod{pod("p")}, Now: after(150)},
			told{Conditions: unknown, Taints: unreachable, PodsUnready: []string{"p"}, Notices: lost},
		},
		"a silent node that nobody was there to hear is given its grace once more": {
			nodes.Input{Node: node(), Expiry: called, Now: after(3600)}, told{Later: map[string]time.Time{"expiry": after(3650)}},
		},
		"a silent node of which nothing was known is given its grace": {
			nodes.Input{Node: node(), Now: after(3600)}, told{Later: map[string]time.Time{"expiry": after(3650)}},
		},
		"a silent node that was given its grace once more is waited for": {
			nodes.Input{Node: node(), Expiry: plan.Later{At: after(3650)}, Now: after(3601)}, told{},
		},
		"a silent node that was given its grace once more, and nobody was there again": {
			nodes.Input{Node: node(), Expiry: plan.Later{At: after(3650), Delay: 50 * time.Second}, Now: after(3701)}, told{Later: map[string]time.Time{"expiry": after(3751)}},
		},
		"a silent node that was given its grace once more, where calls are always late": {
			nodes.Input{Node: node(), Expiry: plan.Later{At: after(3650), Delay: 50 * time.Second}, Now: after(3700)},
			told{Conditions: unknown, Taints: unreachable, Notices: lost[:1]},
		},
		"a node that is lost has no grace": {
			nodes.Input{Node: node(posting("Ready", "Unknown"), tainted("node.kubernetes.io/unreachable", "NoSchedule", nil)), Now: after(3600)},
			told{Conditions: map[corev1.NodeConditionType]string{
				"Ready": "Unknown KubeletReady", "MemoryPressure": "Unknown NodeStatusUnknown",
				"DiskPressure": "Unknown NodeStatusUnknown", "PIDPressure": "Unknown NodeStatusUnknown",
			}},
		},
		"a lost node that speaks and is not ready keeps a taint that makes pods leave": {
			nodes.Input{Node: node(posting("Ready", "False"), tainted("node.kubernetes.io/unreachable", "NoExecute", nil)), Now: after(1)},
			told{
				Taints: append(notReady, "node.kubernetes.io/not-ready:NoExecute"), Later: map[string]time.Time{"expiry": after(50)},
			},
		},
		"labels of elder names follow the others": {
			nodes.Input{Node: node(simulated, func(n *corev1.Node) { n.Labels["beta.kubernetes.io/os"] = "windows" }), Now: after(1)},
			told{Labels: map[string]string{"beta.kubernetes.io/os": "linux"}},
		},
		"a NoExecute taint of others is given its time": {
			nodes.Input{Node: node(simulated, tainted("mine", "NoExecute", nil)), Now: after(1)}, told{Taints: []string{"mine:NoExecute"}},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, tell(t, nodes.Check(c.in))); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPodsLeaveTaintedNodesInTheirTime(t *testing.T) {
	at := metav1.NewTime(start)
	unreachable := tainted("node.kubernetes.io/unreachable", "NoExecute", &at)
	bound := func(p *corev1.Pod, at time.Time) *corev1.Pod {
		p.Status.Conditions[1].LastTransitionTime = metav1.NewTime(at)
		return p
	}
	pods := func() []*corev1.Pod {
		return []*corev1.Pod{
			pod("never"), pod("always", tolerating("", nil)),
			pod("long", tolerating("node.kubernetes.io/unreachable", new(int64(300)))),
			pod("short", tolerating("node.kubernetes.io/unreachable", new(int64(30)))),
			bound(pod("late", tolerating("node.kubernetes.io/unreachable", new(int64(30)))), after(20)),
		}
	}
	marking := func(names ...string) []string {
		var out []string
		for _, name := range names {
			out = append(out, "TaintManagerEviction Marking for deletion Pod default/"+name)
		}
		return out
	}
	cases := map[string]struct {
		node *corev1.Node
		now  time.Time
		want told
	}{
		"no taint":          {node(), after(0), told{}},
		"at once":           {node(unreachable), after(0), told{Deleted: []string{"never"}, Notices: marking("never"), Later: map[string]time.Time{"eviction": after(30)}}},
		"after 30 seconds":  {node(unreachable), after(30), told{Deleted: []string{"never", "short"}, Notices: marking("never", "short"), Later: map[string]time.Time{"eviction": after(50)}}},
		"after 300 seconds": {node(unreachable), after(300), told{Deleted: []string{"never", "long", "short", "late"}, Notices: marking("never", "long", "short", "late")}},
		"one more taint that is not tolerated": {
			node(unreachable, tainted("mine", "NoExecute", &at)), after(0),
			told{Deleted: []string{"never", "long", "short", "late"}, Notices: marking("never", "long", "short", "late")},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, tell(t, nodes.Evict(nodes.Input{Node: c.node, Pods: pods(), Now: c.now}))); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEvictionSaysWhyOnThePodAndDeletesIt(t *testing.T) {
	at := metav1.NewTime(start)
	p := pod("p")
	got := nodes.Evict(nodes.Input{Node: node(tainted("k", "NoExecute", &at)), Pods: []*corev1.Pod{p}, Now: start})
	disrupted := p.DeepCopy()
	disrupted.Status.Conditions = append(disrupted.Status.Conditions, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager",
		Message: "Taint manager: deleting due to NoExecute taint", LastTransitionTime: at,
	})
	want := []plan.Write{
		{
			Verb: plan.UpdateStatus, Resource: plan.Pods, Namespace: "default", Name: "p", UID: "uid-p", ResourceVersion: "3",
			Object: disrupted, Reason: "the pod does not tolerate its node's taint",
		},
		{
			Verb: plan.Delete, Resource: plan.Pods, Namespace: "default", Name: "p", UID: "uid-p",
			Reason: "the pod does not tolerate its node's taint",
		},
	}
	if diff := cmp.Diff(want, got.Writes); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

func TestCheckedNodesAskForNothingMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		statuses := []corev1.ConditionStatus{"True", "False", "Unknown"}
		n := node(
			posting("Ready", rapid.SampledFrom(statuses).Draw(t, "ready")),
			posting("MemoryPressure", rapid.SampledFrom(statuses).Draw(t, "memory")),
			posting("NetworkUnavailable", rapid.SampledFrom(statuses).Draw(t, "network")),
		)
		n.Spec.Unschedulable = rapid.Bool().Draw(t, "cordon")
		for _, key := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{
			"node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready", "mine",
		}), rapid.ID).Draw(t, "taints") {
			tainted(key, rapid.SampledFrom([]corev1.TaintEffect{"NoSchedule", "NoExecute"}).Draw(t, "effect"), nil)(n)
		}
		p := pod("p")
		now := after(rapid.IntRange(0, 100).Draw(t, "now"))
		for _, write := range nodes.Check(nodes.Input{Node: n, Pods: []*corev1.Pod{p}, Now: now}).Writes {
			switch {
			case write.Verb == plan.Patch:
				n = n.DeepCopy()
				n.Spec.Taints = nil // which the patch replaces: there is none of labels
				if err := json.Unmarshal(write.PatchBody, n); err != nil {
					t.Fatal(err)
				}
			case write.Resource == plan.Nodes:
				n = write.Object.(*corev1.Node)
			default:
				p = write.Object.(*corev1.Pod)
			}
		}
		again := nodes.Check(nodes.Input{Node: n, Pods: []*corev1.Pod{p}, Now: now})
		if len(again.Writes) > 0 || len(again.Notices) > 0 {
			t.Fatalf("asks for more: %+v", again)
		}
	})
}
