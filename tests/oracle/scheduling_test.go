package oracle_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	clientcache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	schedulerconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodevolumelimits"
	"k8s.io/kubernetes/pkg/scheduler/framework/preemption"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/scheduling"
)

var now = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// followed are the plugins of the default profile whose rules core/scheduling has, and those that a
// framework cannot do without.
var followed = map[string]bool{
	names.SchedulingGates: true, names.PrioritySort: true, names.NodeName: true, names.NodeUnschedulable: true,
	names.TaintToleration: true, names.NodeAffinity: true, names.NodePorts: true, names.NodeResourcesFit: true,
	names.NodeResourcesBalancedAllocation: true, names.ImageLocality: true, names.PodTopologySpread: true, names.InterPodAffinity: true,
	names.VolumeRestrictions: true, names.NodeVolumeLimits: true, names.VolumeBinding: true, names.VolumeZone: true,
	names.DefaultPreemption: true, names.DefaultBinder: true, names.NodeDeclaredFeatures: true, names.DynamicResources: true,
}

// checks are how often a property is tried, in the short form and in the long one.
const checks, longChecks = 3000, 20_000

// manyChecks sets how often the properties of a test are tried.
func manyChecks(t *testing.T) {
	t.Helper()
	n := checks
	if os.Getenv("ZEROPLANE_LONG") != "" {
		n = longChecks
	}
	f := flag.Lookup("rapid.checks")
	before := f.Value.String()
	if err := f.Value.Set(strconv.Itoa(n)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Value.Set(before) })
}

// coverage counts what upstream's plugins did in a test: a comparison with one that never does anything is none.
type coverage struct {
	rejected, preferred map[string]int
	// victims and violations are those of all nodes on which preemption would help.
	victims, violations int
	// yielded are pods that lost a nomination and had no turn.
	yielded int
	// devices counts reasons about devices.
	devices map[string]int
	// got counts kinds of devices that pods got.
	got map[string]int
}

func newCoverage() *coverage {
	return &coverage{rejected: map[string]int{}, preferred: map[string]int{}, devices: map[string]int{}, got: map[string]int{}}
}

func (c *coverage) reject(s *fwk.Status) {
	if c != nil && s.Plugin() != "" {
		c.rejected[s.Plugin()]++
	}
}

func (c *coverage) yield(pods int) {
	if c != nil {
		c.yielded += pods
	}
}

// prefer counts the plugins that score nodes differently.
func (c *coverage) prefer(scores []fwk.NodePluginScores) {
	if c == nil || len(scores) == 0 {
		return
	}
	for k, first := range scores[0].Scores {
		for _, other := range scores[1:] {
			if other.Scores[k].Score != first.Score {
				c.preferred[first.Name]++
				break
			}
		}
	}
}

// report prints it, and fails the test for plugins that never rejected a node, or never preferred one.
func (c *coverage) report(t *testing.T, rejecting, preferring []string) {
	t.Helper()
	t.Logf("figure: nodes rejected by %v, decisions in which one was preferred by %v, %d victims, %d against budgets, about devices: %v",
		c.rejected, c.preferred, c.victims, c.violations, c.devices)
	if c.victims == 0 || c.violations == 0 {
		t.Error("preemption never helped, or never violated a budget")
	}
	for _, name := range rejecting {
		if c.rejected[name] == 0 {
			t.Errorf("%s never rejected a node", name)
		}
	}
	for _, name := range preferring {
		if c.preferred[name] == 0 {
			t.Errorf("%s never preferred a node", name)
		}
	}
}

// upstream is kube-scheduler's framework over one state of a cluster.
type upstream struct {
	framework  framework.Framework
	snapshot   *cache.Snapshot
	nodes      []*corev1.Node
	nominated  *nominated
	preemption *preemption.Evaluator
	budgets    []*policyv1.PodDisruptionBudget
	// written is what the plugin about devices has written, and faults are the errors that plugins came to.
	written *writes
	faults  []string
	// broken is set if preemption came to some.
	broken bool
	// coverage is of what the plugins do, if somebody counts.
	coverage *coverage
}

// upstream is one for a cluster that goes through what a run decided.
func (r *replay) upstream(t *rapid.T) *upstream {
	nodes, assigned, pending, groups, stored := r.nodes, r.assigned, r.pending, r.groups, r.stored
	klog.SetLogger(logr.Discard()) // it warns of what profiles override, and of pods that no API has
	metrics.Register()
	config, err := latest.Default()
	if err != nil {
		t.Fatal(err)
	}
	profile := config.Profiles[0]
	if groups.profile != nil {
		profile = *groups.profile.DeepCopy()
	}
	var kept []schedulerconfig.Plugin
	for _, plugin := range profile.Plugins.MultiPoint.Enabled {
		if followed[plugin.Name] {
			kept = append(kept, plugin)
		}
	}
	profile.Plugins.MultiPoint.Enabled = kept
	client, written := recording()
	factory := informers.NewSharedInformerFactory(client, 0)
	for _, pod := range pending {
		if err := factory.Core().V1().Pods().Informer().GetStore().Add(pod); err != nil {
			t.Fatal(err)
		}
	}
	stock(t, factory, groups)
	stored.stock(t, factory)
	snapshot, hopes := cache.NewSnapshot(assigned, nodes), &nominated{}
	f, err := frameworkruntime.NewFramework(t.Context(), plugins.NewInTreeRegistry(), &profile,
		frameworkruntime.WithClientSet(client),
		frameworkruntime.WithInformerFactory(factory),
		frameworkruntime.WithSharedCSIManager(nodevolumelimits.NewCSIManager(factory.Storage().V1().CSINodes().Lister())),
		frameworkruntime.WithEventRecorder(&events.FakeRecorder{}),
		frameworkruntime.WithSnapshotSharedLister(snapshot),
		frameworkruntime.WithMutableSnapshotLister(snapshot),
		frameworkruntime.WithPodNominator(hopes),
		frameworkruntime.WithPodActivator(hopes),
		frameworkruntime.WithSharedDRAManager(r.devices.manager(t, factory)),
		frameworkruntime.WithWaitingPods(frameworkruntime.NewWaitingPodsMap()),
		frameworkruntime.WithPodsInPreBind(frameworkruntime.NewPodsInPreBindMap()),
	)
	if err != nil {
		t.Fatal(err)
	}
	hopes.enqueue(t, f, pending)
	return &upstream{
		framework: f, snapshot: snapshot, nodes: nodes, nominated: hopes, preemption: newPreemption(t, f), budgets: groups.budgets, written: written,
	}
}

// evaluate is schedulePod of pkg/scheduler/schedule_one.go without its sampling: the totals of the
// nodes that can take the pod, or why there are none, and who had to go then. The pod may have been nominated to a node.
func (u *upstream) evaluate(t *rapid.T, pod *corev1.Pod, nominee string) scheduling.Evaluation {
	ctx := t.Context()
	state := framework.NewCycleState()
	out := scheduling.Evaluation{Nodes: map[string]scheduling.NodeEvaluation{}}
	if len(u.nodes) == 0 {
		out.Message = "no nodes available to schedule pods"
		return out
	}
	failure := &framework.FitError{
		Pod: pod, NumAllNodes: len(u.nodes),
		Diagnosis: framework.Diagnosis{NodeToStatus: framework.NewDefaultNodeToStatus()},
	}
	feasible := u.feasible(ctx, t, state, pod, &failure.Diagnosis)
	for _, fault := range u.faults {
		u.coverage.note(fault)
	}
	if len(u.faults) > 0 && (pod.Status.NominatedNodeName == "" || len(feasible) == 0) {
		return out // an error is no FitError: nobody is preempted
	}
	for _, node := range u.nodes {
		if status := failure.Diagnosis.NodeToStatus.Get(node.Name); status.Code() != fwk.Success {
			out.Nodes[node.Name] = rejected(status)
		}
	}
	for _, info := range feasible {
		out.Nodes[info.Node().Name] = scheduling.NodeEvaluation{Scores: map[string]int64{}}
	}
	if len(feasible) == 0 {
		u.preempt(ctx, t, state, pod, failure, nominee)
		out.Message = failure.Error()
		u.coverage.note(out.Message)
	}
	u.dryRun(ctx, t, state, pod, failure.Diagnosis.NodeToStatus, &out)
	if len(feasible) == 0 {
		return out
	}
	if status := u.framework.RunPreScorePlugins(ctx, state, pod, feasible); !status.IsSuccess() {
		t.Fatal(status.AsError())
	}
	scores, status := u.framework.RunScorePlugins(ctx, state, pod, feasible)
	if !status.IsSuccess() {
		t.Fatal(status.AsError())
	}
	u.coverage.prefer(scores)
	for _, of := range scores {
		one := scheduling.NodeEvaluation{Scores: map[string]int64{}, Total: of.TotalScore}
		for _, s := range of.Scores {
			if s.Score != 0 {
				one.Scores[s.Name] = s.Score
			}
		}
		out.Nodes[of.Name] = one
	}
	return out
}

// rejected is why a node cannot take a pod. What is said before nodes are looked at is of no plugin's: of NodeAffinity's.
func rejected(status *fwk.Status) scheduling.NodeEvaluation {
	plugin := status.Plugin()
	if plugin == "" {
		plugin = names.NodeAffinity
	}
	reasons := status.Reasons()
	if plugin == names.NodeResourcesFit { // resources that are counted by name come last, in any order
		named := slices.IndexFunc(reasons, func(reason string) bool {
			return !slices.Contains([]string{"Too many pods", "Insufficient cpu", "Insufficient memory", "Insufficient ephemeral-storage"}, reason)
		})
		if named >= 0 {
			reasons = append(slices.Clone(reasons[:named]), slices.Sorted(slices.Values(reasons[named:]))...)
		}
	}
	return scheduling.NodeEvaluation{Rejected: plugin, Reasons: reasons}
}

// totals are those of the nodes that can take a pod.
func totals(e scheduling.Evaluation) map[string]int64 {
	out := map[string]int64{}
	for name, node := range e.Nodes {
		if node.Rejected == "" {
			out[name] = node.Total
		}
	}
	return out
}

func (u *upstream) feasible(ctx context.Context, t *rapid.T, state fwk.CycleState, pod *corev1.Pod, diagnosis *framework.Diagnosis) []fwk.NodeInfo {
	named, status, rejectors := u.framework.RunPreFilterPlugins(ctx, state, pod)
	if !status.IsSuccess() {
		u.coverage.reject(status)
		diagnosis.NodeToStatus.SetAbsentNodesStatus(status)
		diagnosis.PreFilterMsg = status.Message()
		return nil
	}
	all, err := u.snapshot.NodeInfos().List()
	if err != nil {
		t.Fatal(err)
	}
	if !named.AllNodes() {
		diagnosis.NodeToStatus.SetAbsentNodesStatus(fwk.NewStatus(fwk.UnschedulableAndUnresolvable,
			fmt.Sprintf("node(s) didn't satisfy plugin(s) %v", rejectors.UnsortedList())))
	}
	var feasible []fwk.NodeInfo
	for _, info := range all {
		if !named.AllNodes() && !named.NodeNames.Has(info.Node().Name) {
			continue
		}
		status := u.framework.RunFilterPluginsWithNominatedPods(ctx, state, pod, info)
		switch {
		case status.IsSuccess():
			feasible = append(feasible, info)
		case status.Code() == fwk.Error:
			u.faults = append(u.faults, status.AsError().Error())
		default:
			u.coverage.reject(status)
			diagnosis.NodeToStatus.Set(info.Node().Name, status)
		}
	}
	return feasible
}

func TestEveryNodeIsJudgedAndScoredAsUpstreamDoes(t *testing.T) {
	manyChecks(t)
	seen := newCoverage()
	rapid.Check(t, func(t *rapid.T) {
		nodes, assigned, pending := anyCluster(t, 3)
		stored := anyShelf(t, nodes, assigned, pending, true)
		groups := anyGrouping(t)
		groups.profile = anyProfile(t)
		r := &replay{nodes: nodes, assigned: assigned, pending: pending, groups: groups, stored: stored, devices: anyRack(t, nodes, pending)}
		r.aside = anyAside(t, nodes)
		r.checkEvaluation(t, seen)
	})
	seen.report(t, []string{
		names.NodeUnschedulable, names.TaintToleration, names.NodeAffinity, names.NodePorts, names.NodeResourcesFit, names.PodTopologySpread, names.InterPodAffinity,
		names.VolumeRestrictions, names.NodeVolumeLimits, names.VolumeBinding, names.VolumeZone, names.NodeDeclaredFeatures, names.DynamicResources,
	}, []string{
		names.TaintToleration, names.NodeAffinity, names.NodeResourcesFit, names.NodeResourcesBalancedAllocation, names.ImageLocality, names.PodTopologySpread,
		names.InterPodAffinity, names.VolumeBinding, names.DynamicResources,
	})
}

// checkEvaluation compares how the nodes look to the first pod that waits.
func (r *replay) checkEvaluation(t *rapid.T, seen *coverage) {
	kept := clusterFor(t, r.groups.profile)
	for _, node := range r.nodes {
		kept.SetNode(node)
	}
	for _, pod := range r.assigned {
		kept.SetPod(pod)
	}
	r.tell(kept)
	for _, pod := range r.pending[1:] {
		kept.SetPod(pod)
	}
	got := kept.Evaluate(r.pending[0], now)
	asked := r.upstream(t)
	asked.coverage = seen
	want := asked.evaluate(t, r.pending[0], nomineeIn(got.Message))
	if len(asked.faults) > 0 {
		asked.checkFault(t, r.pending[0], got.Message)
		return
	}
	want.Message, got.Message = asked.settled(want.Message), asked.settled(got.Message)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("pod %s (-upstream +core):\n%s", describe(r.pending[0]), diff)
	}
}

// tell gives the core all but nodes and pods.
func (r *replay) tell(kept *scheduling.Cluster) {
	for _, pod := range r.aside {
		kept.SetPod(pod)
	}
	r.groups.tell(kept)
	r.stored.tell(kept)
	r.devices.tell(kept)
}

func TestAQueueIsPlacedOnNodesThatUpstreamRanksHighest(t *testing.T) {
	manyChecks(t)
	seen := newCoverage()
	rapid.Check(t, func(t *rapid.T) {
		nodes, assigned, pending := anyCluster(t, 8)
		stored := anyShelf(t, nodes, assigned, pending, false)
		groups := anyGrouping(t)
		groups.profile = anyProfile(t)
		r := &replay{nodes: nodes, assigned: assigned, pending: pending, groups: groups, stored: stored, devices: anyRack(t, nodes, pending)}
		r.aside = anyAside(t, nodes)
		r.seen = seen
		r.checkQueue(t)
	})
	t.Logf("figure: %d pods without a turn lost a nomination", seen.yielded)
	if seen.yielded == 0 {
		t.Error("no pod without a turn lost a nomination")
	}
}

// checkQueue compares what becomes of the pods that wait.
func (r *replay) checkQueue(t *rapid.T) {
	kept := clusterFor(t, r.groups.profile)
	for _, node := range r.nodes {
		kept.SetNode(node)
	}
	for _, pod := range append(append([]*corev1.Pod{}, r.assigned...), r.pending...) {
		kept.SetPod(pod)
	}
	r.tell(kept) // known later than the pods
	result := kept.Place(rapid.Uint64().Draw(t, "seed"), now)
	if awake := r.upstream(t).awake(t, r.pending); len(result.Placements)+len(result.Preemptions)+len(result.Unschedulable) != awake {
		t.Fatalf("%d placed, room made for %d, and %d not, of %d", len(result.Placements), len(result.Preemptions), len(result.Unschedulable), awake)
	}
	for _, turn := range turnsOf(result) {
		turn(t, r)
	}
	for _, failed := range result.Unschedulable {
		asked := r.upstream(t)
		asked.coverage = r.seen
		want := asked.evaluate(t, failed.Pod, nomineeIn(failed.Message))
		if failed.Fault {
			asked.checkFault(t, failed.Pod, failed.Message)
			continue
		}
		asked.checkRelease(t, failed.Pod, failed.Release)
		if diff := cmp.Diff(asked.settled(want.Message), asked.settled(failed.Message)); diff != "" {
			t.Fatalf("pod %s (-upstream +core):\n%s", failed.Pod.Name, diff)
		}
	}
}

// grouping is the Services and controllers of a cluster.
type grouping struct {
	services []*corev1.Service
	sets     []*appsv1.ReplicaSet
	stateful []*appsv1.StatefulSet
	older    []*corev1.ReplicationController
	// namespaces are those that are known; the one of a pod may be missing.
	namespaces []*corev1.Namespace
	budgets    []*policyv1.PodDisruptionBudget
	// profile is how pods are placed, nil for the default.
	profile *schedulerconfig.KubeSchedulerProfile
}

func anyGrouping(t *rapid.T) grouping {
	var g grouping
	selectors := []map[string]string{nil, {}, {"app": "a"}, {"app": "b"}, {"v": "1"}, {"app": "a", "v": "2"}}
	for i := range rapid.IntRange(0, 2).Draw(t, "services") {
		g.services = append(g.services, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("s%d", i)},
			Spec:       corev1.ServiceSpec{Selector: rapid.SampledFrom(selectors).Draw(t, "serves")},
		})
	}
	for _, name := range []string{"default", "other", "empty"} {
		if rapid.IntRange(0, 5).Draw(t, "is known") != 0 {
			g.namespaces = append(g.namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
				Name: name, Labels: rapid.SampledFrom([]map[string]string{nil, {"team": "x"}, {"team": "y"}}).Draw(t, "team"),
			}})
		}
	}
	g.budgets = anyBudgets(t)
	meta := metav1.ObjectMeta{Namespace: "default", Name: "owner"}
	chosen := func() map[string]string { return rapid.SampledFrom(selectors).Draw(t, "controls") }
	if rapid.Bool().Draw(t, "has a set") {
		g.sets = append(g.sets, &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: chosen()}}})
	}
	if rapid.Bool().Draw(t, "has a stateful set") {
		g.stateful = append(g.stateful, &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Selector: &metav1.LabelSelector{MatchLabels: chosen()}}})
	}
	if rapid.Bool().Draw(t, "has a controller") {
		g.older = append(g.older, &corev1.ReplicationController{ObjectMeta: meta, Spec: corev1.ReplicationControllerSpec{Selector: chosen()}})
	}
	return g
}

// tell gives a grouping to the core.
func (g grouping) tell(c *scheduling.Cluster) {
	for _, n := range g.namespaces {
		c.SetNamespace(n)
	}
	for _, b := range g.budgets {
		c.SetBudget(b)
	}
	for _, s := range g.services {
		c.SetService(s)
	}
	for _, s := range g.sets {
		c.SetController("ReplicaSet", s.Namespace, s.Name, s.Spec.Selector)
	}
	for _, s := range g.stateful {
		c.SetController("StatefulSet", s.Namespace, s.Name, s.Spec.Selector)
	}
	for _, s := range g.older {
		c.SetController("ReplicationController", s.Namespace, s.Name, &metav1.LabelSelector{MatchLabels: s.Spec.Selector})
	}
}

// stock puts a grouping into informers.
func stock(t *rapid.T, factory informers.SharedInformerFactory, g grouping) {
	add := func(store clientcache.Store, obj any) {
		if err := store.Add(obj); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range g.namespaces {
		add(factory.Core().V1().Namespaces().Informer().GetStore(), n)
	}
	for _, b := range g.budgets {
		add(factory.Policy().V1().PodDisruptionBudgets().Informer().GetStore(), b)
	}
	for _, s := range g.services {
		add(factory.Core().V1().Services().Informer().GetStore(), s)
	}
	for _, s := range g.sets {
		add(factory.Apps().V1().ReplicaSets().Informer().GetStore(), s)
	}
	for _, s := range g.stateful {
		add(factory.Apps().V1().StatefulSets().Informer().GetStore(), s)
	}
	for _, s := range g.older {
		add(factory.Core().V1().ReplicationControllers().Informer().GetStore(), s)
	}
}

func describe(pod *corev1.Pod) string {
	return strings.ReplaceAll(fmt.Sprintf("%+v", pod.Spec), "\n", " ")
}

// theme keeps rules out of a cluster, so that others get to decide.
type theme struct {
	// roomy nodes have room for all, free ones neither taints nor cordons, and pods no wishes about nodes.
	roomy, free bool
	// alone are pods that ask nothing of other pods.
	alone bool
}

var themes = []theme{{}, {roomy: true}, {roomy: true, free: true}, {roomy: true, free: true}, {roomy: true, alone: true}}

// anyCluster has up to six nodes, pods on them, and pods that wait. Nodes are taken by name from a few
// zones; amounts are small, so that shortages and ties are common.
func anyCluster(t *rapid.T, waiting int) (nodes []*corev1.Node, assigned, pending []*corev1.Pod) {
	return anyClusterOf(t, rapid.SampledFrom(themes).Draw(t, "theme"), waiting)
}

func anyClusterOf(t *rapid.T, of theme, waiting int) (nodes []*corev1.Node, assigned, pending []*corev1.Pod) {
	for i := range rapid.SampledFrom([]int{0, 1, 2, 3, 4, 5, 6}).Draw(t, "nodes") {
		nodes = append(nodes, anyNode(t, of, fmt.Sprintf("n%d", i)))
	}
	if len(nodes) > 0 {
		for i := range rapid.SampledFrom([]int{0, 2, 4, 6, 8, 10}).Draw(t, "assigned") {
			pod := anyPod(t, of, fmt.Sprintf("assigned-%d", i))
			pod.Spec.NodeName = rapid.SampledFrom(nodes).Draw(t, "on").Name
			keepPortsApart(pod, assigned)
			pod.Status.StartTime = new(metav1.NewTime(now.Add(-time.Duration(i*7%10+1) * time.Minute))) // no two alike
			if i == 3 && rapid.Bool().Draw(t, "has not started") {
				pod.Status.StartTime = nil
			}
			if rapid.IntRange(0, 5).Draw(t, "leaves") == 0 {
				pod.DeletionTimestamp = new(metav1.NewTime(now))
				if rapid.Bool().Draw(t, "preempted") {
					pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler}}
				}
			}
			if rapid.IntRange(0, 4).Draw(t, "resized") == 0 {
				pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
					Name: "main", Resources: &corev1.ResourceRequirements{Requests: anyRequests(t)}, AllocatedResources: anyRequests(t),
				}}
				if rapid.Bool().Draw(t, "and what runs before") {
					pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "init-0", AllocatedResources: anyRequests(t)}}
				}
				if rapid.Bool().Draw(t, "and as a whole") {
					pod.Status.Resources, pod.Status.AllocatedResources = &corev1.ResourceRequirements{Requests: anyRequests(t)}, anyRequests(t)
				}
				if reason := rapid.SampledFrom([]string{"", corev1.PodReasonInfeasible, corev1.PodReasonDeferred}).Draw(t, "resize is"); reason != "" {
					pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: reason})
				}
			}
			assigned = append(assigned, pod)
		}
	}
	for i := range rapid.IntRange(1, waiting).Draw(t, "waiting") {
		pod := anyPod(t, of, fmt.Sprintf("waiting-%d", i))
		if len(nodes) > 0 && rapid.IntRange(0, 3).Draw(t, "is nominated") == 0 {
			pod.Status.NominatedNodeName = fmt.Sprintf("n%d", rapid.IntRange(0, len(nodes)).Draw(t, "nominee")) // or none that exists
			anyHope(t, i, pod)
		} else if rapid.IntRange(0, 15).Draw(t, "is gated") == 0 {
			pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "later"}}
		}
		pending = append(pending, pod)
	}
	return nodes, assigned, pending
}

// anyHope has a nominated pod have no turn, since it is gated, but not the first. One that goes away besides is not drawn without a gate:
// upstream's queue keeps the room of such a pod until its turn comes, and then one of the pods that the node may have.
func anyHope(t *rapid.T, at int, pod *corev1.Pod) {
	if at == 0 || rapid.Bool().Draw(t, "has a turn") {
		return
	}
	pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "later"}}
	pod.Spec.Priority = new(min(*pod.Spec.Priority, int32(rapid.IntRange(-1, 1).Draw(t, "at most"))))
	if rapid.Bool().Draw(t, "goes away") {
		pod.DeletionTimestamp = new(metav1.NewTime(now))
	}
}

// keepPortsApart takes the host ports off a pod that would share one with another pod of its node. No
// scheduler puts two such pods on a node; where it happens, upstream forgets the port with the first of
// them to leave, and core/scheduling with the last.
func keepPortsApart(pod *corev1.Pod, assigned []*corev1.Pod) {
	if len(allPorts(pod)) > 1 { // it may have one twice
		for i := range pod.Spec.InitContainers {
			pod.Spec.InitContainers[i].Ports = nil
		}
		for i := 1; i < len(pod.Spec.Containers); i++ {
			pod.Spec.Containers[i].Ports = nil
		}
	}
	for _, other := range assigned {
		if other.Spec.NodeName == pod.Spec.NodeName && len(allPorts(other)) > 0 {
			for i := range pod.Spec.InitContainers {
				pod.Spec.InitContainers[i].Ports = nil
			}
			for i := range pod.Spec.Containers {
				pod.Spec.Containers[i].Ports = nil
			}
		}
	}
}

func allPorts(pod *corev1.Pod) (out []corev1.ContainerPort) {
	for i := range pod.Spec.InitContainers {
		out = append(out, pod.Spec.InitContainers[i].Ports...)
	}
	for i := range pod.Spec.Containers {
		out = append(out, pod.Spec.Containers[i].Ports...)
	}
	return out
}

// anyAside are pods that upstream's scheduler never sees: those that have run to their end, those on nodes that are gone, and
// those of other schedulers that wait.
func anyAside(t *rapid.T, nodes []*corev1.Node) (out []*corev1.Pod) {
	for i := range rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "aside") {
		pod := anyPod(t, theme{}, fmt.Sprintf("aside-%d", i))
		on := "gone"
		if len(nodes) > 0 {
			on = rapid.SampledFrom(nodes).Draw(t, "aside on").Name
		}
		switch rapid.IntRange(0, 3).Draw(t, "is aside since") {
		case 0:
			pod.Spec.NodeName, pod.Status.Phase = on, corev1.PodSucceeded
		case 1:
			pod.Spec.NodeName, pod.Status.Phase = on, corev1.PodFailed
		case 2:
			pod.Spec.NodeName = "gone"
		default:
			pod.Spec.SchedulerName, pod.Status.NominatedNodeName = "other-scheduler", on
		}
		out = append(out, pod)
	}
	return out
}

func anyNode(t *rapid.T, of theme, name string) *corev1.Node {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelHostname: name, "zone": rapid.SampledFrom([]string{"x", "y"}).Draw(t, "zone"), "size": rapid.SampledFrom([]string{"1", "7", "12", "big"}).Draw(t, "size"),
		}},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			"cpu":               *resource.NewMilliQuantity(int64(rapid.IntRange(0, 8000).Draw(t, "cpu")), resource.DecimalSI),
			"memory":            *resource.NewQuantity(int64(rapid.IntRange(0, 8<<30).Draw(t, "memory")), resource.BinarySI),
			"ephemeral-storage": *resource.NewQuantity(int64(rapid.IntRange(0, 10).Draw(t, "storage")), resource.BinarySI),
			"pods":              *resource.NewQuantity(int64(rapid.IntRange(0, 8).Draw(t, "pods")), resource.DecimalSI),
			"example.com/gpu":   *resource.NewQuantity(int64(rapid.IntRange(0, 2).Draw(t, "gpu")), resource.DecimalSI),
		}},
	}
	for _, declared := range []string{"RestartAllContainersOnContainerExits", "UserNamespacesHostNetworkSupport", "Unknown"} { // in order, as kubelets do
		if rapid.IntRange(0, 3).Draw(t, "declares") != 0 {
			node.Status.DeclaredFeatures = append(node.Status.DeclaredFeatures, declared)
		}
	}
	for _, some := range []corev1.ResourceName{"hugepages-2Mi", "scheduling.kubernetes.io/slots", "attachable-volumes-disk", "requests.example.com/gpu", "unknown"} {
		if rapid.Bool().Draw(t, "has "+string(some)) {
			node.Status.Allocatable[some] = *resource.NewQuantity(int64(rapid.IntRange(0, 4).Draw(t, "of others"))<<21, resource.BinarySI)
		}
	}
	for _, name := range []corev1.ResourceName{"cpu", "memory", "ephemeral-storage", "pods", "example.com/gpu"} {
		if rapid.IntRange(0, 15).Draw(t, "tells nothing of") == 7 {
			delete(node.Status.Allocatable, name)
		}
	}
	if rapid.IntRange(0, 9).Draw(t, "has no host name") == 0 {
		delete(node.Labels, corev1.LabelHostname)
	}
	if rapid.IntRange(0, 3).Draw(t, "has a zone") != 0 {
		node.Labels[corev1.LabelTopologyZone] = rapid.SampledFrom([]string{"", "z1", "z2", "z3"}).Draw(t, "topology zone")
	}
	for _, image := range []string{"a:latest", "b:1", "example.com:5000/c:latest"} {
		if rapid.Bool().Draw(t, "has image") {
			node.Status.Images = append(node.Status.Images, corev1.ContainerImage{
				Names: []string{image, "other"}, SizeBytes: int64(rapid.SampledFrom([]int{1, 30, 300, 900, 3000}).Draw(t, "size")) << 20,
			})
		}
	}
	if of.roomy {
		for _, amount := range []string{"cpu=8000m", "memory=64Gi", "ephemeral-storage=1Gi", "pods=100", "example.com/gpu=100"} {
			resourceName, quantity, _ := strings.Cut(amount, "=")
			node.Status.Allocatable[corev1.ResourceName(resourceName)] = resource.MustParse(quantity)
		}
	}
	if of.free {
		return node
	}
	node.Spec.Unschedulable = rapid.IntRange(0, 9).Draw(t, "cordon") == 0
	for range rapid.IntRange(0, 2).Draw(t, "taints") {
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{
			Key: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key"), Value: rapid.SampledFrom([]string{"", "v", "7"}).Draw(t, "value"),
			Effect: rapid.SampledFrom([]corev1.TaintEffect{"PreferNoSchedule", "PreferNoSchedule", "NoSchedule", "NoExecute"}).Draw(t, "effect"),
		})
	}
	return node
}

func anyRequests(t *rapid.T) corev1.ResourceList {
	requests := corev1.ResourceList{}
	if rapid.Bool().Draw(t, "asks cpu") {
		requests["cpu"] = *resource.NewMilliQuantity(int64(rapid.SampledFrom([]int{0, 1, 100, 333, 1000, 3000}).Draw(t, "cpu")), resource.DecimalSI)
	}
	if rapid.Bool().Draw(t, "asks memory") {
		requests["memory"] = *resource.NewQuantity(int64(rapid.SampledFrom([]int{0, 1, 100 << 20, 1 << 30, 3 << 30}).Draw(t, "memory")), resource.BinarySI)
	}
	if rapid.IntRange(0, 4).Draw(t, "asks storage") == 0 {
		requests["ephemeral-storage"] = *resource.NewQuantity(int64(rapid.IntRange(0, 4).Draw(t, "storage")), resource.BinarySI)
	}
	if rapid.IntRange(0, 7).Draw(t, "asks huge pages") == 0 {
		requests["hugepages-2Mi"] = *resource.NewQuantity(int64(rapid.IntRange(0, 2).Draw(t, "huge pages"))<<21, resource.BinarySI)
	}
	if rapid.IntRange(0, 9).Draw(t, "asks others") == 0 {
		name := rapid.SampledFrom([]corev1.ResourceName{"scheduling.kubernetes.io/slots", "attachable-volumes-disk", "requests.example.com/gpu", "unknown"}).Draw(t, "other")
		requests[name] = *resource.NewQuantity(int64(rapid.IntRange(0, 2).Draw(t, "others")), resource.DecimalSI)
	}
	if rapid.IntRange(0, 4).Draw(t, "asks gpu") == 0 {
		requests["example.com/gpu"] = *resource.NewQuantity(int64(rapid.IntRange(0, 2).Draw(t, "gpu")), resource.DecimalSI)
	}
	return requests
}

func anyImage(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "a", "a:latest", "a:2", "b:1", "example.com:5000/c", "other"}).Draw(t, "image")
}

func anyPod(t *rapid.T, of theme, name string) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: rapid.SampledFrom([]string{"default", "default", "other"}).Draw(t, "namespace"), Name: name, UID: types.UID(name),
			Labels:            rapid.SampledFrom([]map[string]string{nil, {"app": "a"}, {"app": "b"}, {"app": "a", "v": "1"}, {"app": "a", "v": "2"}}).Draw(t, "labels"),
			CreationTimestamp: metav1.NewTime(now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "age")) * time.Second)),
		},
		Spec: corev1.PodSpec{
			SchedulerName: "default-scheduler", Priority: new(int32(rapid.IntRange(-1, 2).Draw(t, "priority"))),
			Containers: []corev1.Container{{Name: "main", Image: anyImage(t), Resources: corev1.ResourceRequirements{Requests: anyRequests(t)}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	if rapid.IntRange(0, 3).Draw(t, "has a second") == 0 {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
			Name: "second", Image: anyImage(t), Resources: corev1.ResourceRequirements{Requests: anyRequests(t)}, Ports: anyPorts(t),
		})
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "inits") {
		c := corev1.Container{Name: fmt.Sprintf("init-%d", i), Image: anyImage(t), Resources: corev1.ResourceRequirements{Requests: anyRequests(t)}}
		if rapid.Bool().Draw(t, "sidecar") {
			c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		}
		c.Ports = anyPorts(t) // of one that ends before the others begin, it is nothing to a node
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
	}
	if rapid.IntRange(0, 4).Draw(t, "overhead") == 0 {
		pod.Spec.Overhead = anyRequests(t)
	}
	if rapid.IntRange(0, 4).Draw(t, "pod level") == 0 {
		requests := anyRequests(t)
		for name := range requests {
			if name != "cpu" && name != "memory" && name != "hugepages-2Mi" {
				delete(requests, name)
			}
		}
		pod.Spec.Resources = &corev1.ResourceRequirements{Requests: requests}
	}
	if rapid.IntRange(0, 5).Draw(t, "restarts all") == 0 {
		pod.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestartAllContainers}}
	}
	if rapid.IntRange(0, 9).Draw(t, "has users") == 0 {
		pod.Spec.HostNetwork, pod.Spec.HostUsers = true, new(false)
	}
	if rapid.IntRange(0, 9).Draw(t, "never preempts") == 0 {
		pod.Spec.PreemptionPolicy = new(corev1.PreemptNever)
	}
	pod.Spec.Containers[0].Ports = anyPorts(t)
	if rapid.IntRange(0, 4).Draw(t, "mounts an image") == 0 {
		pod.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: anyImage(t)}}}}
	}
	pod.Spec.Affinity = &corev1.Affinity{}
	if !of.free {
		anyTolerations(t, pod)
		anyAffinity(t, pod)
	}
	if !of.alone {
		anySpreading(t, pod)
		anyNeighbours(t, pod)
	}
	if kind := rapid.SampledFrom([]string{"", "", "apps/v1/ReplicaSet", "apps/v1/StatefulSet", "v1/ReplicationController", "batch/v1/Job", "v1/ReplicaSet"}).Draw(t, "owner"); kind != "" {
		at := strings.LastIndex(kind, "/")
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: kind[:at], Kind: kind[at+1:], Name: "owner", Controller: new(true)}}
	}
	return pod
}

func anyPorts(t *rapid.T) []corev1.ContainerPort {
	if rapid.IntRange(0, 2).Draw(t, "listens") != 0 {
		return nil
	}
	return []corev1.ContainerPort{{
		HostPort: int32(rapid.IntRange(0, 2).Draw(t, "port")),
		HostIP:   rapid.SampledFrom([]string{"", "0.0.0.0", "10.0.0.1", "10.0.0.2"}).Draw(t, "ip"),
		Protocol: rapid.SampledFrom([]corev1.Protocol{"", "TCP", "UDP"}).Draw(t, "protocol"),
	}}
}

func anySpreading(t *rapid.T, pod *corev1.Pod) {
	for range rapid.SampledFrom([]int{0, 0, 1, 1, 2, 3}).Draw(t, "constraints") {
		c := corev1.TopologySpreadConstraint{
			MaxSkew:           int32(rapid.IntRange(1, 3).Draw(t, "skew")),
			TopologyKey:       rapid.SampledFrom([]string{corev1.LabelHostname, corev1.LabelTopologyZone, "zone", "size"}).Draw(t, "topology"),
			WhenUnsatisfiable: rapid.SampledFrom([]corev1.UnsatisfiableConstraintAction{corev1.DoNotSchedule, corev1.ScheduleAnyway}).Draw(t, "when"),
			LabelSelector: rapid.SampledFrom([]*metav1.LabelSelector{
				nil, {}, {MatchLabels: map[string]string{"app": "a"}}, {MatchLabels: map[string]string{"app": "b"}},
				{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "v", Operator: metav1.LabelSelectorOpDoesNotExist}}},
				{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpExists}}},
			}).Draw(t, "spreads"),
		}
		if c.LabelSelector != nil && rapid.IntRange(0, 3).Draw(t, "own labels") == 0 {
			c.MatchLabelKeys = []string{"v"}
		}
		if c.WhenUnsatisfiable == corev1.DoNotSchedule && rapid.IntRange(0, 3).Draw(t, "needs domains") == 0 {
			c.MinDomains = new(int32(rapid.IntRange(1, 4).Draw(t, "domains")))
		}
		policies := []*corev1.NodeInclusionPolicy{nil, new(corev1.NodeInclusionPolicyHonor), new(corev1.NodeInclusionPolicyIgnore)}
		c.NodeAffinityPolicy = rapid.SampledFrom(policies).Draw(t, "affinity policy")
		c.NodeTaintsPolicy = rapid.SampledFrom(policies).Draw(t, "taints policy")
		pod.Spec.TopologySpreadConstraints = append(pod.Spec.TopologySpreadConstraints, c)
	}
}

// anyNeighbours gives a pod affinities to other pods, or none.
func anyNeighbours(t *rapid.T, pod *corev1.Pod) {
	some := rapid.SampledFrom([]int{0, 0, 0, 1, 2})
	required := func() (out []corev1.PodAffinityTerm) {
		for range some.Draw(t, "required terms") {
			out = append(out, anyPodTerm(t))
		}
		return out
	}
	preferred := func() (out []corev1.WeightedPodAffinityTerm) {
		for range some.Draw(t, "preferred terms") {
			out = append(out, corev1.WeightedPodAffinityTerm{Weight: int32(rapid.IntRange(1, 100).Draw(t, "weight")), PodAffinityTerm: anyPodTerm(t)})
		}
		return out
	}
	if rapid.IntRange(0, 2).Draw(t, "has affinity") == 0 {
		pod.Spec.Affinity.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required(), PreferredDuringSchedulingIgnoredDuringExecution: preferred()}
	}
	if rapid.IntRange(0, 2).Draw(t, "has anti-affinity") == 0 {
		pod.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required(), PreferredDuringSchedulingIgnoredDuringExecution: preferred()}
	}
}

func anyPodTerm(t *rapid.T) corev1.PodAffinityTerm {
	return corev1.PodAffinityTerm{
		TopologyKey: rapid.SampledFrom([]string{corev1.LabelHostname, corev1.LabelTopologyZone, "zone", "none"}).Draw(t, "topology"),
		LabelSelector: rapid.SampledFrom([]*metav1.LabelSelector{
			nil, {}, {MatchLabels: map[string]string{"app": "a"}}, {MatchLabels: map[string]string{"app": "b"}}, {MatchLabels: map[string]string{"app": "c"}},
			{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"a"}}}},
		}).Draw(t, "pods"),
		Namespaces: rapid.SampledFrom([][]string{nil, nil, {"default"}, {"other"}, {"default", "other"}}).Draw(t, "namespaces"),
		NamespaceSelector: rapid.SampledFrom([]*metav1.LabelSelector{
			nil, nil, {}, {MatchLabels: map[string]string{"team": "x"}},
			{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "team", Operator: metav1.LabelSelectorOpDoesNotExist}}},
		}).Draw(t, "namespace selector"),
	}
}

func anyTolerations(t *rapid.T, pod *corev1.Pod) {
	for range rapid.IntRange(0, 2).Draw(t, "tolerations") {
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
			Key:      rapid.SampledFrom([]string{"", "a", "b", corev1.TaintNodeUnschedulable}).Draw(t, "key"),
			Operator: rapid.SampledFrom([]corev1.TolerationOperator{"", "Equal", "Exists", "Exists", "Gt", "Lt"}).Draw(t, "operator"),
			Value:    rapid.SampledFrom([]string{"", "v", "5"}).Draw(t, "value"),
			Effect:   rapid.SampledFrom([]corev1.TaintEffect{"", "NoSchedule", "PreferNoSchedule", "NoExecute"}).Draw(t, "effect"),
		})
	}
}

func anyAffinity(t *rapid.T, pod *corev1.Pod) {
	if rapid.IntRange(0, 4).Draw(t, "selects") == 0 {
		pod.Spec.NodeSelector = map[string]string{"zone": rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "zone")}
	}
	affinity := &corev1.NodeAffinity{}
	if rapid.IntRange(0, 4).Draw(t, "requires") == 0 {
		affinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{
			NodeSelectorTerms: rapid.SliceOfN(rapid.Custom(anyTerm), 1, 2).Draw(t, "terms"),
		}
	}
	for range rapid.IntRange(0, 2).Draw(t, "preferences") {
		affinity.PreferredDuringSchedulingIgnoredDuringExecution = append(affinity.PreferredDuringSchedulingIgnoredDuringExecution,
			corev1.PreferredSchedulingTerm{Weight: int32(rapid.IntRange(1, 100).Draw(t, "weight")), Preference: anyTerm(t)})
	}
	pod.Spec.Affinity.NodeAffinity = affinity
}

func anyTerm(t *rapid.T) corev1.NodeSelectorTerm {
	var term corev1.NodeSelectorTerm
	for range rapid.IntRange(0, 2).Draw(t, "expressions") {
		term.MatchExpressions = append(term.MatchExpressions, rapid.SampledFrom([]corev1.NodeSelectorRequirement{
			{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{"x"}},
			{Key: "zone", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"x"}},
			{Key: "size", Operator: corev1.NodeSelectorOpGt, Values: []string{"5"}},
			{Key: "size", Operator: corev1.NodeSelectorOpLt, Values: []string{"10"}},
			{Key: "none", Operator: corev1.NodeSelectorOpDoesNotExist},
			{Key: "none", Operator: corev1.NodeSelectorOpExists},
		}).Draw(t, "expression"))
	}
	for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "fields") {
		term.MatchFields = append(term.MatchFields, corev1.NodeSelectorRequirement{
			Key:      "metadata.name",
			Operator: rapid.SampledFrom([]corev1.NodeSelectorOperator{corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn}).Draw(t, "operator"),
			Values:   []string{rapid.SampledFrom([]string{"n0", "n1", "n9"}).Draw(t, "name")},
		})
	}
	return term
}
