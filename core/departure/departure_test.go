package departure

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

var now = time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)

const source = "/vmss/agent"

func newNode() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u", ResourceVersion: "7"},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: "other", Effect: corev1.TaintEffectNoSchedule}}},
	}
}

func notice(id string, incarnation int64, deadline time.Duration) Notice {
	return Notice{ID: id, Kind: "Reboot", Source: source, Incarnation: incarnation, At: now, Deadline: now.Add(deadline)}
}

// after is the node that a plan makes, the node itself if it makes none.
func after(node *corev1.Node, p plan.Plan) *corev1.Node {
	if len(p.Writes) == 0 {
		return node
	}
	return p.Writes[0].Object.(*corev1.Node)
}

func taintKeys(node *corev1.Node) (keys []string) {
	for _, t := range node.Spec.Taints {
		keys = append(keys, t.Key)
	}
	return keys
}

func TestAnAnnouncementCordonsOnceAndAWithdrawalUndoesIt(t *testing.T) {
	node := newNode()
	p := Announce(node, notice("e1", 5, 10*time.Minute), now)
	if len(p.Writes) != 1 || p.Writes[0].ResourceVersion != "7" || p.Writes[0].OnSuccess == nil {
		t.Fatalf("%+v", p)
	}
	gone := after(node, p)
	if !gone.Spec.Unschedulable || !cmp.Equal(taintKeys(gone), []string{"other", Taint}) || !Departing(gone) {
		t.Errorf("%+v", gone.Spec)
	}
	if node.Spec.Unschedulable || len(node.Annotations) > 0 {
		t.Error("the snapshot was changed")
	}
	for name, p := range map[string]plan.Plan{
		"again":                      Announce(gone, notice("e1", 5, 10*time.Minute), now.Add(time.Minute)),
		"from another, again":        Announce(gone, Notice{ID: "e1", Source: "other", Incarnation: 9, Deadline: now}, now),
		"still in a later document":  Withdraw(gone, Document{source, 6, []string{"e1"}}),
		"not in an older document":   Withdraw(gone, Document{source, 4, nil}),
		"not in another's document":  Withdraw(gone, Document{"other", 9, nil}),
		"a document of the same age": Withdraw(gone, Document{source, 5, nil}),
	} {
		if !p.Empty() {
			t.Errorf("%s: %+v", name, p)
		}
	}
	back := after(gone, Withdraw(gone, Document{source, 7, nil}))
	if back.Spec.Unschedulable || !cmp.Equal(taintKeys(back), []string{"other"}) || Departing(back) {
		t.Errorf("withdrawn: %+v", back.Spec)
	}
	for name, p := range map[string]plan.Plan{
		"the first, late":                  Announce(back, notice("e1", 5, 10*time.Minute), now),
		"another of an older document":     Announce(back, notice("e2", 6, 10*time.Minute), now),
		"withdrawn again":                  Withdraw(back, Document{source, 8, nil}),
		"one that is over for a long time": Announce(back, notice("e3", 9, -2*time.Hour), now),
	} {
		if !p.Empty() {
			t.Errorf("after the withdrawal, %s: %+v", name, p)
		}
	}
	if again := after(back, Announce(back, notice("e4", 9, time.Minute), now)); !Departing(again) {
		t.Error("a new announcement is not noted")
	}
}

func TestWhoCordonedUncordons(t *testing.T) {
	node := newNode()
	node.Spec.Unschedulable = true
	gone := after(node, Announce(node, notice("e1", 5, time.Minute), now))
	if back := after(gone, Withdraw(gone, Document{source, 6, nil})); !back.Spec.Unschedulable {
		t.Error("what a person made unschedulable is schedulable")
	}
}

func TestOfSeveralAnnouncementsTheEarliestDeadlineCounts(t *testing.T) {
	for _, order := range [][]time.Duration{{time.Minute, time.Hour}, {time.Hour, time.Minute}} {
		node := newNode()
		for i, d := range order {
			node = after(node, Announce(node, notice(fmt.Sprint("e", i), int64(i+1), d), now))
		}
		if n, _ := noteOf(node); n.Deadline == nil || !n.Deadline.Equal(now.Add(time.Minute)) || !n.Cordoned {
			t.Errorf("after %v: %+v", order, n)
		}
	}
	node := after(newNode(), Announce(newNode(), notice("e1", 5, time.Hour), now))
	started := Notice{ID: "e1", Kind: "Reboot", Source: source, Incarnation: 6, At: now.Add(time.Minute), Started: true}
	node = after(node, Announce(node, started, now.Add(time.Minute)))
	if n, _ := noteOf(node); !n.Deadline.Equal(now.Add(time.Minute)) {
		t.Errorf("once it has started the deadline is %v", n.Deadline)
	}
	if p := Announce(node, started, now.Add(2*time.Minute)); !p.Empty() {
		t.Errorf("started again: %+v", p)
	}
}

func TestPodsLeaveAsBudgetsAllowUntilTheMachineGoes(t *testing.T) {
	node := after(newNode(), Announce(newNode(), notice("e1", 5, 10*time.Minute), now))
	pod := func(name string, alter func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "u"}, Spec: corev1.PodSpec{NodeName: "n", TerminationGracePeriodSeconds: new(int64(60))}}
		alter(p)
		return p
	}
	pods := []*corev1.Pod{
		pod("web", func(*corev1.Pod) {}),
		pod("quick", func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(5)) }),
		pod("elsewhere", func(p *corev1.Pod) { p.Spec.NodeName = "m" }),
		pod("ended", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
		pod("going", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }),
		pod("static", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }),
		pod("daemon", func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Controller: new(true)}}
		}),
	}
	for name, tt := range map[string]struct {
		at    time.Duration
		verb  plan.Verb
		grace []int64
		later bool
	}{
		"at once":        {0, plan.Evict, nil, true},
		"31 s before":    {10*time.Minute - 31*time.Second, plan.Evict, nil, true},
		"30 s before":    {10*time.Minute - 30*time.Second, plan.Delete, []int64{5, 30}, false},
		"after the time": {11 * time.Minute, plan.Delete, []int64{1, 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := Drain(node, pods, now.Add(tt.at))
			if len(d.Pods) != 2 || d.Pods[0].Name != "quick" || d.Pods[1].Name != "web" {
				t.Fatalf("%+v", d.Pods)
			}
			for i, p := range d.Pods {
				w := p.Plan.Writes[0]
				if w.Verb != tt.verb || w.UID != "u" || tt.grace != nil && *w.GracePeriodSeconds != tt.grace[i] {
					t.Errorf("%s: %+v", p.Name, w)
				}
			}
			if (d.Later != nil) != tt.later || tt.later && !d.Later.At.Equal(now.Add(10*time.Minute-30*time.Second)) {
				t.Errorf("looks again %+v", d.Later)
			}
		})
	}
	if d := Drain(newNode(), pods, now); d.Pods != nil || d.Later != nil {
		t.Errorf("of a node that stays: %+v", d)
	}
}

func TestTheNewestOfAMachinesHealthCounts(t *testing.T) {
	states := []Health{{"Unavailable", now}, {"Available", now.Add(time.Minute)}, {"Unavailable", now.Add(2 * time.Minute)}}
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {0, 2, 1, 2}} {
		node := newNode()
		for _, i := range order {
			node = after(node, Availability(node, states[i], now))
		}
		if !cmp.Equal(taintKeys(node), []string{"other", UnavailableTaint}) {
			t.Errorf("after %v: %v", order, taintKeys(node))
		}
		if p := Availability(node, states[2], now); !p.Empty() {
			t.Errorf("again: %+v", p)
		}
		node = after(node, Availability(node, Health{"Degraded", now.Add(3 * time.Minute)}, now))
		node = after(node, Availability(node, Health{"Available", now.Add(4 * time.Minute)}, now))
		if !cmp.Equal(taintKeys(node), []string{"other"}) {
			t.Errorf("available again: %v", taintKeys(node))
		}
	}
}

func TestANodeIsFoundByItsMachine(t *testing.T) {
	const vm = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/Web-0"
	const set = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachineScaleSets/pool"
	provided := func(id string) *corev1.Node { return &corev1.Node{Spec: corev1.NodeSpec{ProviderID: id}} }
	named := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "web-0"}}
	labelled := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{corev1.LabelHostname: "web-0"}}}
	for name, tt := range map[string]struct {
		machine Machine
		node    *corev1.Node
		want    bool
	}{
		"a VM":                        {Machine{AzureID: vm}, provided("azure://" + vm), true},
		"a VM in another case":        {Machine{AzureID: vm}, provided("azure:///Subscriptions/s/resourcegroups/G/providers/Microsoft.Compute/virtualMachines/web-0"), true},
		"another VM":                  {Machine{AzureID: vm}, provided("azure://" + vm + "1"), false},
		"one of a set":                {Machine{AzureID: set + "/virtualMachines/0"}, provided("azure://" + set + "/virtualMachines/0"), true},
		"another of a set":            {Machine{AzureID: set + "/virtualMachines/1"}, provided("azure://" + set + "/virtualMachines/0"), false},
		"a whole set":                 {Machine{AzureID: set}, provided("azure://" + set + "/virtualMachines/0"), true},
		"a set whose name goes on":    {Machine{AzureID: set}, provided("azure://" + set + "2/virtualMachines/0"), false},
		"a VM's name":                 {Machine{AzureName: "web-0"}, provided("azure://" + vm), true},
		"a name in a set":             {Machine{AzureName: "pool_0"}, provided("azure://" + set + "/virtualMachines/0"), true},
		"another name in a set":       {Machine{AzureName: "0"}, provided("azure://" + set + "/virtualMachines/0"), false},
		"a node's name":               {Machine{AzureName: "web-0"}, named, true},
		"a host's name":               {Machine{AzureName: "web-0"}, labelled, true},
		"a name, of another provider": {Machine{AzureName: "i-0"}, provided("aws:///eu-1a/i-0"), false},
		"an instance":                 {Machine{EC2: "i-0"}, provided("aws:///eu-1a/i-0"), true},
		"another instance":            {Machine{EC2: "i-0"}, provided("aws:///eu-1a/xi-0"), false},
		"an instance, without a name": {Machine{EC2: "i-0"}, named, false},
		"none":                        {Machine{}, named, false},
	} {
		if got := tt.machine.Of(tt.node); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
