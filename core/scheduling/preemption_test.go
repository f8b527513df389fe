package scheduling_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/scheduling"
)

func since(minutes int) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.StartTime = new(metav1.NewTime(now.Add(-time.Duration(minutes) * time.Minute)))
	}
}

// nominated is to the node a.
func nominated(p *corev1.Pod) { p.Status.NominatedNodeName = "a" }

// preempted is leaving because the scheduler wanted its place.
func preempted(p *corev1.Pod) {
	p.DeletionTimestamp = new(metav1.NewTime(now))
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler}}
}

func gated(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "later"}} }

func leaving(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.NewTime(now)) }

func never(p *corev1.Pod) { p.Spec.PreemptionPolicy = new(corev1.PreemptNever) }

// victims are those on the node that room was made on.
type victims struct {
	node string
	pods []string
}

// TestRoomIsMadeWhereItHurtsLeast is a scenario for each thing that preemption weighs. Every pod takes a whole node's 4 CPUs
// but for those that say otherwise.
func TestRoomIsMadeWhereItHurtsLeast(t *testing.T) {
	whole, half := asking("cpu=4"), asking("cpu=2")
	two := []*corev1.Node{node("a"), node("b")}
	for _, c := range []struct {
		name    string
		nodes   []*corev1.Node
		pods    []*corev1.Pod
		budgets []*policyv1.PodDisruptionBudget
		// made is for whom room is made, and outcome what became of the others that waited.
		made    map[string]victims
		outcome map[string]string
	}{
		{
			name:  "the pod of the lowest priority goes",
			nodes: two,
			pods:  []*corev1.Pod{pod("low", on("a"), whole, prioritized(1)), pod("lower", on("b"), whole, prioritized(0)), pod("p", whole, prioritized(9))},
			made:  map[string]victims{"p": {"b", []string{"lower"}}},
		},
		{
			name:  "of equal ones the one that has run for the shortest time",
			nodes: two,
			pods:  []*corev1.Pod{pod("old", on("a"), whole, since(60)), pod("young", on("b"), whole, since(1)), pod("p", whole, prioritized(9))},
			made:  map[string]victims{"p": {"b", []string{"young"}}},
		},
		{
			name:  "one goes rather than two",
			nodes: two,
			pods:  []*corev1.Pod{pod("h1", on("a"), half), pod("h2", on("a"), half), pod("w", on("b"), whole), pod("p", whole, prioritized(9))},
			made:  map[string]victims{"p": {"b", []string{"w"}}},
		},
		{
			name:  "no more go than must, the most important stay",
			nodes: []*corev1.Node{node("a")},
			pods:  []*corev1.Pod{pod("h1", on("a"), half, prioritized(2)), pod("h2", on("a"), half, prioritized(1)), pod("p", half, prioritized(9))},
			made:  map[string]victims{"p": {"a", []string{"h2"}}},
		},
		{
			name:  "room that was left to a pod which makes room elsewhere is for those before it",
			nodes: two,
			pods: []*corev1.Pod{
				pod("low", on("a"), half, prioritized(1)), pod("lower", on("b"), whole, prioritized(0)),
				pod("first", half, prioritized(9), never), pod("p", whole, prioritized(9), nominated),
			},
			made:    map[string]victims{"p": {"b", []string{"lower"}}},
			outcome: map[string]string{"first": "a"},
		},
		{
			name:  "a disruption budget is kept if another node will do",
			nodes: two,
			pods:  []*corev1.Pod{pod("guarded", on("a"), whole, labelled("web")), pod("other", on("b"), whole, prioritized(5)), pod("p", whole, prioritized(9))},
			budgets: []*policyv1.PodDisruptionBudget{{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: policyv1.PodDisruptionBudgetSpec{Selector: chosenBy("web")},
			}},
			made: map[string]victims{"p": {"b", []string{"other"}}},
		},
		{
			name:  "and broken if none will",
			nodes: []*corev1.Node{node("a")},
			pods:  []*corev1.Pod{pod("guarded", on("a"), whole, labelled("web")), pod("p", whole, prioritized(9))},
			budgets: []*policyv1.PodDisruptionBudget{{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: policyv1.PodDisruptionBudgetSpec{Selector: chosenBy("web")},
			}},
			made: map[string]victims{"p": {"a", []string{"guarded"}}},
		},
		{
			name:  "pods of equal priority are left alone",
			nodes: []*corev1.Node{node("a")},
			pods:  []*corev1.Pod{pod("other", on("a"), whole, prioritized(9)), pod("p", whole, prioritized(9))},
			outcome: map[string]string{"p": "0/1 nodes are available: 1 Insufficient cpu. preemption: " +
				"0/1 nodes are available: 1 No preemption victims found for incoming pod."},
		},
		{
			name:    "a pod that must not preempt waits",
			nodes:   []*corev1.Node{node("a")},
			pods:    []*corev1.Pod{pod("low", on("a"), whole), pod("p", whole, prioritized(9), never)},
			outcome: map[string]string{"p": "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."},
		},
		{
			name:  "while victims go, no others do",
			nodes: two,
			pods:  []*corev1.Pod{pod("going", on("a"), whole, preempted), pod("low", on("b"), whole), pod("p", whole, prioritized(9), nominated)},
			outcome: map[string]string{"p": "0/2 nodes are available: 2 Insufficient cpu. preemption: " +
				"not eligible due to a terminating pod on the nominated node."},
		},
		{
			name:    "when they are gone, the pod goes to its node, however good others look",
			nodes:   []*corev1.Node{node("a", tainted(corev1.TaintEffectPreferNoSchedule)), node("b")},
			pods:    []*corev1.Pod{pod("p", whole, nominated)},
			outcome: map[string]string{"p": "a"},
		},
		{
			name:  "room that was made is left alone by pods of no higher priority",
			nodes: []*corev1.Node{node("a")},
			pods: []*corev1.Pod{
				pod("going", on("a"), half, preempted), pod("p", whole, prioritized(9), nominated), pod("q", half, prioritized(9)), pod("r", half, prioritized(1), never),
			},
			outcome: map[string]string{
				"p": "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to a terminating pod on the nominated node.",
				"q": "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Insufficient cpu.",
				"r": "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.",
			},
		},
		{
			name:    "but not by one of higher priority",
			nodes:   []*corev1.Node{node("a")},
			pods:    []*corev1.Pod{pod("going", on("a"), half, preempted), pod("p", whole, prioritized(1), nominated, never), pod("q", half, prioritized(9))},
			outcome: map[string]string{"q": "a", "p": "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."},
		},
		{
			name:  "room is left to a pod that is held by a gate",
			nodes: []*corev1.Node{node("a")},
			pods:  []*corev1.Pod{pod("p", whole, prioritized(9), nominated, gated), pod("q", half, prioritized(9), never)},
			outcome: map[string]string{
				"q": "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.",
			},
		},
		{
			name:    "none is left to a pod that goes away",
			nodes:   []*corev1.Node{node("a")},
			pods:    []*corev1.Pod{pod("p", whole, prioritized(9), nominated, leaving), pod("q", whole)},
			outcome: map[string]string{"q": "a"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			kept := scheduling.NewCluster()
			for _, n := range c.nodes {
				kept.SetNode(n)
			}
			for _, p := range c.pods {
				kept.SetPod(p)
			}
			for _, b := range c.budgets {
				kept.SetBudget(b)
			}
			result := kept.Place(1, now)
			made := map[string]victims{}
			for _, m := range result.Preemptions {
				v := victims{node: m.Node}
				for _, p := range m.Victims {
					v.pods = append(v.pods, p.Name)
				}
				made[m.Pod.Name] = v
			}
			if c.made == nil {
				c.made = map[string]victims{}
			}
			if c.outcome == nil {
				c.outcome = map[string]string{}
			}
			if diff := cmp.Diff(c.made, made, cmp.AllowUnexported(victims{})); diff != "" {
				t.Errorf("room (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.outcome, outcome(result)); diff != "" {
				t.Errorf("the others (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPreemptionSaysWhyAndNominates(t *testing.T) {
	low, p := pod("low", on("a"), asking("cpu=4")), pod("p", asking("cpu=4"), prioritized(9))
	weak, held := pod("weak", asking("cpu=1"), prioritized(1), nominated), pod("held", asking("cpu=1"), prioritized(1), nominated, gated)
	gone := pod("gone", nominated, leaving)
	kept := scheduling.NewCluster()
	kept.SetNode(node("a"))
	for _, p := range []*corev1.Pod{low, p, weak, held, gone} {
		kept.SetPod(p)
	}
	result := kept.Place(1, now)
	got := result.Plan

	disrupted := low.DeepCopy()
	disrupted.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "PreemptionByScheduler", ObservedGeneration: 1,
		Message: "default-scheduler: preempting to accommodate a higher priority pod", LastTransitionTime: metav1.NewTime(now),
	}}
	unschedulable := func(p *corev1.Pod, message string) *corev1.Pod {
		told := p.DeepCopy()
		told.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", ObservedGeneration: 1,
			Message: "0/1 nodes are available: 1 Insufficient cpu. preemption: " + message, LastTransitionTime: metav1.NewTime(now),
		}}
		return told
	}
	waits := unschedulable(p, "found a potential placement for pod on node a, preempting 1 victims")
	waits.Status.NominatedNodeName = "a"
	yields := unschedulable(weak, "0/1 nodes are available: 1 Insufficient cpu.")
	yields.Status.NominatedNodeName = ""
	letGo := held.DeepCopy()
	letGo.Status.NominatedNodeName = ""
	const reason = "a pod of higher priority needs its place"
	want := []plan.Write{
		{Verb: plan.UpdateStatus, Resource: plan.Pods, Namespace: "default", Name: "low", Object: disrupted, UID: "uid-low", ResourceVersion: "7", Reason: reason},
		{Verb: plan.Delete, Resource: plan.Pods, Namespace: "default", Name: "low", UID: "uid-low", Reason: reason},
		{Verb: plan.UpdateStatus, Resource: plan.Pods, Namespace: "default", Name: "held", Object: letGo, UID: "uid-held", ResourceVersion: "7", Reason: "a pod of higher priority gets its node"},
		{Verb: plan.UpdateStatus, Resource: plan.Pods, Namespace: "default", Name: "p", Object: waits, UID: "uid-p", ResourceVersion: "7", Reason: "no node can take the pod"},
		{Verb: plan.UpdateStatus, Resource: plan.Pods, Namespace: "default", Name: "weak", Object: yields, UID: "uid-weak", ResourceVersion: "7", Reason: "no node can take the pod"},
	}
	if diff := cmp.Diff(want, got.Writes); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if whose := result.PodOf(&got.Writes[2]); whose != p {
		t.Errorf("a nomination is taken back for %v", whose)
	}
	if diff := cmp.Diff(got, kept.Place(1, now).Plan); diff != "" {
		t.Errorf("a run changed nominations (-first +second):\n%s", diff)
	}
	told := got.Notices[0]
	if told.Reason != "Preempted" || told.Regarding.Name != "low" || told.Message != "Preempted by pod uid-p on node a" {
		t.Errorf("the victim is told %+v", told)
	}
	reads := []plan.Read{{Resource: plan.Pods, Namespace: "default", Name: "p"}, {Resource: plan.Pods, Node: "a"}}
	if diff := cmp.Diff(reads, got.Reads); diff != "" {
		t.Errorf("reads (-want +got):\n%s", diff)
	}
}
