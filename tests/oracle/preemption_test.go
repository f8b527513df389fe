package oracle_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/informers"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/backend/queue"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/defaultpreemption"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/feature"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	"k8s.io/kubernetes/pkg/scheduler/framework/preemption"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/scheduling"
)

// nominated is the scheduling queue of upstream, of which the framework asks whom room is left to.
type nominated struct{ *queue.PriorityQueue }

// enqueue has upstream's queue take pods, and each that no plugin holds have its turn: one that goes away is skipped, the others
// come back.
//
// Upstream: ScheduleOne and skipPodSchedule in pkg/scheduler/schedule_one.go.
func (n *nominated) enqueue(t *rapid.T, f framework.Framework, pending []*corev1.Pod) {
	holds := map[string]fwk.PreEnqueuePlugin{}
	for _, plugin := range f.PreEnqueuePlugins() {
		holds[plugin.Name()] = plugin
	}
	n.PriorityQueue = queue.NewPriorityQueue(f.QueueSortFunc(), informers.NewSharedInformerFactory(nil, 0), queue.WithPodLister(nil),
		queue.WithMetricsRecorder(metrics.NewMetricsAsyncRecorder(1000, time.Second, t.Context().Done())),
		queue.WithPreEnqueuePluginMap(map[string]map[string]fwk.PreEnqueuePlugin{f.ProfileName(): holds}))
	for _, pod := range pending {
		n.Add(t.Context(), pod)
	}
	var popped []*framework.QueuedPodInfo
	for range n.PodsInActiveQ() {
		entity, err := n.Pop(klog.Background())
		if err != nil {
			t.Fatal(err)
		}
		popped = append(popped, entity.(*framework.QueuedPodInfo))
	}
	for _, info := range popped {
		if info.Pod.DeletionTimestamp != nil {
			n.Done(info.Pod.UID)
		} else if err := n.AddUnschedulablePodIfNotPresent(klog.Background(), info, n.SchedulingCycle()); err != nil {
			t.Fatal(err)
		}
	}
}

// lower are the pods that lose their nomination to a node to a pod of some priority.
//
// Upstream: getLowerPriorityNominatedPods and clearNominatedNodeName in framework/preemption/executor.go.
func (n *nominated) lower(node string, priority int32) (out []*corev1.Pod) {
	for _, info := range n.NominatedPodsForNode(node) {
		if pod := info.GetPod(); corev1helpers.PodPriority(pod) < priority && pod.Status.NominatedNodeName != "" {
			out = append(out, pod)
		}
	}
	return out
}

// newPreemption is upstream's, which looks at all nodes and not at a tenth of them.
func newPreemption(t *rapid.T, f framework.Framework) *preemption.Evaluator {
	args := &schedulerconfig.DefaultPreemptionArgs{MinCandidateNodesPercentage: 100, MinCandidateNodesAbsolute: 1}
	plugin, err := defaultpreemption.New(t.Context(), args, f, feature.NewSchedulerFeaturesFromGates(utilfeature.DefaultFeatureGate))
	if err != nil {
		t.Fatal(err)
	}
	return plugin.Evaluator
}

// candidates are the nodes on which preemption would help.
func (u *upstream) candidates(ctx context.Context, t *rapid.T, state fwk.CycleState, pod *corev1.Pod, m fwk.NodeToStatusReader) []preemption.Candidate {
	potential, err := m.NodesForStatusCode(u.snapshot.NodeInfos(), fwk.Unschedulable)
	if err != nil {
		t.Fatal(err)
	}
	if len(potential) == 0 {
		return nil
	}
	found, _, err := u.preemption.DryRunPreemption(ctx, state, pod, potential, u.budgets, 0, int32(len(potential)))
	if err != nil && !strings.Contains(err.Error(), ofDevices) {
		t.Fatal(err)
	}
	u.broken = u.broken || err != nil
	return found
}

// whichever is asked for where it does not matter on which node preemption helps.
const whichever = "any"

// preempt completes a failure with what comes of preemption. Among equal nodes upstream takes any, so it may be ours.
func (u *upstream) preempt(ctx context.Context, t *rapid.T, state fwk.CycleState, pod *corev1.Pod, failure *framework.FitError, nominee string) {
	_, status := u.framework.RunPostFilterPlugins(ctx, state, pod, failure.Diagnosis.NodeToStatus)
	failure.Diagnosis.PostFilterMsg = status.Message()
	if !status.IsSuccess() {
		return
	}
	candidates := u.candidates(ctx, t, state, pod, failure.Diagnosis.NodeToStatus)
	if nominee == whichever {
		return
	}
	at := slices.IndexFunc(candidates, func(c preemption.Candidate) bool { return c.Name() == nominee })
	if at < 0 {
		t.Fatalf("pod %s: preemption helps, but not on %q", pod.Name, nominee)
	}
	for _, other := range candidates {
		if !u.mayPrefer(ctx, candidates[at], other) {
			t.Fatalf("pod %s: upstream preempts on %s and not on %s", pod.Name, other.Name(), nominee)
		}
	}
	failure.Diagnosis.PostFilterMsg = fmt.Sprintf("preemption: found a potential placement for pod on node %s, preempting %d victims",
		nominee, len(candidates[at].Victims().Pods))
}

// mayPrefer reports whether upstream would ever take the first of two candidates. Of equal ones it takes any.
func (u *upstream) mayPrefer(ctx context.Context, first, second preemption.Candidate) bool {
	for range 64 {
		if u.preemption.SelectCandidate(ctx, []preemption.Candidate{first, second}).Name() == first.Name() {
			return true
		}
	}
	return false
}

// dryRun notes who would have to go from each node.
func (u *upstream) dryRun(ctx context.Context, t *rapid.T, state fwk.CycleState, pod *corev1.Pod, m fwk.NodeToStatusReader, out *scheduling.Evaluation) {
	preempts := slices.ContainsFunc(u.framework.ListPlugins().PostFilter.Enabled, func(p schedulerconfig.Plugin) bool { return p.Name == names.DefaultPreemption })
	if !preempts || pod.Spec.PreemptionPolicy != nil && *pod.Spec.PreemptionPolicy == corev1.PreemptNever {
		return
	}
	for _, c := range u.candidates(ctx, t, state, pod, m) {
		node := out.Nodes[c.Name()]
		node.Violations = int(c.Victims().NumPDBViolations)
		for _, v := range c.Victims().Pods {
			node.Victims = append(node.Victims, types.NamespacedName{Namespace: v.Namespace, Name: v.Name})
		}
		out.Nodes[c.Name()] = node
		if u.coverage != nil {
			u.coverage.victims += len(node.Victims)
			u.coverage.violations += node.Violations
		}
	}
}

// nomineeIn is the node that a message says a pod will have.
func nomineeIn(message string) string {
	_, after, _ := strings.Cut(message, "found a potential placement for pod on node ")
	node, _, _ := strings.Cut(after, ",")
	return node
}

// replay is a cluster that goes through what a run decided.
type replay struct {
	nodes             []*corev1.Node
	assigned, pending []*corev1.Pod
	groups            grouping
	stored            shelf
	devices           *rack
	// aside are pods that only the core is told of, and has to leave out.
	aside []*corev1.Pod
	// seen counts what happens, if somebody counts.
	seen *coverage
}

// turnsOf are the decisions of a run in their order.
func turnsOf(result scheduling.Result) []func(*rapid.T, *replay) {
	type turn struct {
		at   int
		take func(*rapid.T, *replay)
	}
	var turns []turn
	for _, p := range result.Placements {
		turns = append(turns, turn{p.Turn, func(t *rapid.T, r *replay) { r.place(t, p) }})
	}
	for _, p := range result.Preemptions {
		turns = append(turns, turn{p.Turn, func(t *rapid.T, r *replay) { r.preempt(t, p) }})
	}
	for _, g := range result.GivenUp {
		turns = append(turns, turn{g.Turn, func(_ *rapid.T, r *replay) { r.nominate(g.Pod, "") }})
	}
	slices.SortFunc(turns, func(a, b turn) int { return cmp.Compare(a.at, b.at) })
	out := make([]func(*rapid.T, *replay), len(turns))
	for i := range turns {
		out[i] = turns[i].take
	}
	return out
}

// nominate has a pod nominated to another node from now on, or to none.
func (r *replay) nominate(pod *corev1.Pod, node string) {
	for i, other := range r.pending {
		if other.UID == pod.UID {
			changed := other.DeepCopy()
			changed.Status.NominatedNodeName = node
			r.pending[i] = changed
		}
	}
}

func (r *replay) place(t *rapid.T, placed scheduling.Placement) {
	want := r.upstream(t).evaluate(t, placed.Pod, whichever)
	scores := totals(want)
	if placed.Nominated {
		if _, feasible := scores[placed.Node]; !feasible {
			t.Fatalf("pod %s went to %s that it was nominated to, upstream says %v: %+v", placed.Pod.Name, placed.Node, scores, want.Nodes[placed.Node])
		}
	} else {
		for name, score := range scores {
			if score > scores[placed.Node] {
				t.Fatalf("pod %s went to %s with %d, upstream gives %s %d", placed.Pod.Name, placed.Node, scores[placed.Node], name, score)
			}
		}
		if score, feasible := scores[placed.Node]; !feasible || score != placed.Score {
			t.Fatalf("pod %s went to %s with %d, upstream says %v: %+v", placed.Pod.Name, placed.Node, placed.Score, scores, want.Nodes[placed.Node])
		}
	}
	r.stored.checkBinding(t, r.nodes, placed)
	r.stored.take(placed)
	if r.groups.knowsDevices() {
		r.upstream(t).checkAllocation(t, placed)
	} else if len(placed.Devices) > 0 {
		t.Fatalf("pod %s has devices, and its profile knows none", placed.Pod.Name)
	}
	r.seen.get(r.devices, placed)
	r.devices.take(placed)
	bound := placed.Pod.DeepCopy()
	bound.Spec.NodeName = placed.Node
	r.assigned = append(r.assigned, bound)
	r.pending = slices.DeleteFunc(slices.Clone(r.pending), func(p *corev1.Pod) bool { return p.UID == placed.Pod.UID })
}

func (r *replay) preempt(t *rapid.T, made scheduling.Preemption) {
	want := r.upstream(t).evaluate(t, made.Pod, made.Node)
	if diff := gocmp.Diff(want.Message, made.Message); diff != "" {
		t.Fatalf("pod %s (-upstream +core):\n%s", made.Pod.Name, diff)
	}
	var victims []types.NamespacedName
	for _, v := range made.Victims {
		victims = append(victims, types.NamespacedName{Namespace: v.Namespace, Name: v.Name})
	}
	if diff := gocmp.Diff(want.Nodes[made.Node].Victims, victims); diff != "" {
		t.Fatalf("victims of %s on %s (-upstream +core):\n%s", made.Pod.Name, made.Node, diff)
	}
	asked := r.upstream(t)
	var yields, unasked []string
	for _, pod := range made.Yields {
		yields = append(yields, pod.Name)
	}
	for _, other := range asked.nominated.lower(made.Node, *made.Pod.Spec.Priority) {
		if asked.awake(t, []*corev1.Pod{other}) == 0 {
			unasked = append(unasked, other.Name)
		}
		r.nominate(other, "")
	}
	if diff := gocmp.Diff(slices.Sorted(slices.Values(unasked)), slices.Sorted(slices.Values(yields))); diff != "" {
		t.Fatalf("pods without a turn that yield to %s (-upstream +core):\n%s", made.Pod.Name, diff)
	}
	r.seen.yield(len(yields))
	r.nominate(made.Pod, made.Node)
}

// anyBudgets are of different pods each, since in which order upstream charges several is left to chance.
func anyBudgets(t *rapid.T) []*policyv1.PodDisruptionBudget {
	var out []*policyv1.PodDisruptionBudget
	add := func(namespace, name string, selector *metav1.LabelSelector) {
		if !rapid.Bool().Draw(t, "has a budget") {
			return
		}
		b := &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec:       policyv1.PodDisruptionBudgetSpec{Selector: selector, MinAvailable: new(intstr.FromInt32(1))},
			Status:     policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: int32(rapid.IntRange(0, 2).Draw(t, "allows"))},
		}
		if rapid.IntRange(0, 3).Draw(t, "is charged") == 0 {
			b.Status.DisruptedPods = map[string]metav1.Time{fmt.Sprintf("assigned-%d", rapid.IntRange(0, 9).Draw(t, "for")): metav1.NewTime(now)}
		}
		out = append(out, b)
	}
	add("default", "a", &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}})
	add("default", "b", &metav1.LabelSelector{MatchLabels: map[string]string{"app": "b"}})
	add("default", "all", &metav1.LabelSelector{})
	add("default", "none", nil)
	add("other", "any", &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpExists}}})
	return out
}
