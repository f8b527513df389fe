package nodes

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	restfake "k8s.io/client-go/rest/fake"
	nodetopology "k8s.io/component-helpers/node/topology"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/nodelifecycle"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/tests/controllers"
)

const (
	// outages is how many random outages are given to Kubernetes's own controller.
	outages = 16
	// calm is how long nothing happens after each change, longCalm where a zone is large: longer than it takes to taint all its nodes.
	calm, longCalm = 3 * time.Minute, 2 * time.Hour
	// period is how often upstream looks at nodes: never just when it taints, which is every tenth of a second. Else it would
	// taint a node before it has seen the state of its zone, and not see its own taints and taint the same node again in another's turn.
	period = 4733333 * time.Microsecond
	// lag is by how much upstream may be behind. It is ahead by a node's turn where nodes that are lost become ready or change
	// from silent to not ready (doc.go).
	lag = period + time.Second
)

// outageHistory is nodes and what becomes of their readiness, change by change.
type outageHistory struct {
	nodes   []*corev1.Node
	changes [][]corev1.ConditionStatus
	calm    time.Duration
}

// turn is how long the nodes of a zone wait for each other.
func (h outageHistory) turn() time.Duration {
	if h.calm == longCalm {
		return time.Duration(float64(time.Second) / secondaryEvictionRate)
	}
	return time.Duration(float64(time.Second)/evictionRate) + time.Second
}

// String tells what becomes of each zone, a letter for each node and a word for each change.
func (h outageHistory) String() string {
	var out strings.Builder
	for i, n := range h.nodes {
		if i == 0 || nodetopology.GetZoneKey(n) != nodetopology.GetZoneKey(h.nodes[i-1]) {
			fmt.Fprintf(&out, "\n%s", n.Name[:1])
			for range h.changes {
				out.WriteString(" ")
			}
		}
		out.WriteString(" ")
		for _, change := range h.changes {
			out.WriteString(string(change[i][0]))
		}
		if isExcluded(n) {
			out.WriteString("x")
		}
	}
	return out.String()
}

func drawOutage(t *rapid.T) outageHistory {
	h := outageHistory{calm: calm}
	for z := range rapid.IntRange(1, 3).Draw(t, "zones") {
		size := rapid.IntRange(1, 7).Draw(t, "size")
		if rapid.IntRange(1, 8).Draw(t, "large") == 1 {
			size, h.calm = rapid.IntRange(49, 53).Draw(t, "large size"), longCalm
		}
		for i := range size {
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
				Name: fmt.Sprintf("%c-%02d", 'a'+z, i), Labels: map[string]string{corev1.LabelTopologyZone: string(rune('a' + z))},
			}}
			if i > 0 && rapid.IntRange(1, 12).Draw(t, "excluded") == 1 {
				n.Labels[exclusionLabel] = ""
			}
			h.nodes = append(h.nodes, n)
		}
	}
	for range rapid.IntRange(1, 4).Draw(t, "changes") {
		// Of one change many are lost, or few: else the states between would hardly be seen.
		weight := rapid.IntRange(0, 10).Draw(t, "how many")
		var change []corev1.ConditionStatus
		for range h.nodes {
			status := corev1.ConditionTrue
			if rapid.IntRange(0, 9).Draw(t, "lost") < weight {
				status = rapid.SampledFrom([]corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionUnknown}).Draw(t, "status")
			}
			change = append(change, status)
		}
		h.changes = append(h.changes, change)
		h.steady()
	}
	return h
}

// steady keeps what nodes are lost for as it was when the last one is lost as well. Upstream exchanges their taints just then, takes
// off those that it still sees, and leaves the new ones for ever.
func (h outageHistory) steady() {
	last := len(h.changes) - 1
	for i, n := range h.nodes {
		if !isExcluded(n) && h.changes[last][i] == corev1.ConditionTrue {
			return
		}
	}
	for i := range h.nodes {
		if last > 0 && h.changes[last-1][i] != corev1.ConditionTrue {
			h.changes[last][i] = h.changes[last-1][i]
		}
	}
}

// taintTimes is when nodes were tainted so that pods leave, by zone, in order, and which nodes have been.
type taintTimes struct {
	Tainted map[string]string
	Times   map[string][]time.Time
}

func taintTimesOf(all []*corev1.Node) taintTimes {
	out := taintTimes{Tainted: map[string]string{}, Times: map[string][]time.Time{}}
	for _, n := range all {
		for _, taint := range n.Spec.Taints {
			if evictsForHealth(taint) {
				zone := nodetopology.GetZoneKey(n)
				out.Tainted[n.Name] += taint.Key
				out.Times[zone] = append(out.Times[zone], taint.TimeAdded.Time)
			}
		}
	}
	for _, times := range out.Times {
		slices.SortFunc(times, time.Time.Compare)
	}
	return out
}

// become gives a node a status, as its kubelet or whoever notices its silence does.
func become(n *corev1.Node, status corev1.ConditionStatus, now time.Time) {
	if c := condition(n, corev1.NodeReady); c == nil || c.Status != status {
		n.Status.Conditions = []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: status, LastHeartbeatTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now),
		}}
	}
}

// TestTheControllerOfKubernetesTaintsTheSameNodesAsSoon gives the same outages to Kubernetes's own controller, over a fake API server
// and by a virtual clock, and to this package, and compares which nodes are tainted when all is calm, and when the first of each zone was.
func TestTheControllerOfKubernetesTaintsTheSameNodesAsSoon(t *testing.T) {
	klog.SetLogger(klog.Logger{})
	t.Cleanup(klog.ClearLogger)
	for seed := range outages {
		h := rapid.Custom(drawOutage).Example(seed)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { compareOutage(t, h) })
		})
	}
}

func compareOutage(t *testing.T, h outageHistory) {
	ctx, cancel := context.WithCancel(t.Context())
	client := fake.NewClientset()
	var ours []*corev1.Node
	for i, n := range h.nodes {
		n = n.DeepCopy()
		become(n, corev1.ConditionTrue, time.Now())
		if _, err := client.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		ours = append(ours, n)
		h.nodes[i] = n
	}
	stop := runUpstream(ctx, t, client)
	defer func() { cancel(); stop() }()
	time.Sleep(h.calm)
	for i, change := range h.changes {
		begin := time.Now()
		for k, status := range change {
			become(ours[k], status, begin)
			n, err := client.CoreV1().Nodes().Get(ctx, ours[k].Name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			become(n, status, begin)
			if _, err := client.CoreV1().Nodes().UpdateStatus(ctx, n, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		live(t, ours, begin, begin.Add(h.calm))
		time.Sleep(h.calm)
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var theirs []*corev1.Node
		for k := range list.Items {
			theirs = append(theirs, &list.Items[k])
		}
		got, want := taintTimesOf(ours), taintTimesOf(theirs)
		if diff := cmp.Diff(want.Tainted, got.Tainted); diff != "" {
			t.Fatalf("change %d of %s, tainted (-upstream +ours):\n%s", i, h, diff)
		}
		for zone, times := range want.Times {
			for k := range times {
				if times[k].Before(begin) {
					continue // compared before
				}
				if ahead := times[k].Sub(got.Times[zone][k]); ahead < -h.turn() || ahead > lag {
					t.Fatalf("change %d of %s, zone %q: upstream tainted at %v, this at %v", i, h, zone, since(begin, times), since(begin, got.Times[zone]))
				}
			}
		}
	}
}

func since(begin time.Time, times []time.Time) []string {
	var out []string
	for _, at := range times {
		out = append(out, at.Sub(begin).Round(100*time.Millisecond).String())
	}
	return out
}

// live does what this package says from one time to another.
func live(t *testing.T, all []*corev1.Node, now, end time.Time) {
	for now.Before(end) {
		plans := []plan.Plan{}
		for _, n := range all {
			plans = append(plans, Check(Input{Name: n.Name, Node: n, Expiry: plan.Later{At: now.Add(time.Hour)}, Now: now}))
		}
		wrote := apply(t, all, plans...)
		zones := Zones(all, now)
		if apply(t, all, zones) || wrote {
			continue
		}
		if len(zones.Later) == 0 {
			return
		}
		now = zones.Later[0].At
	}
}

func apply(t *testing.T, all []*corev1.Node, plans ...plan.Plan) bool {
	wrote := false
	for _, p := range plans {
		for _, w := range p.Writes {
			if w.Verb != plan.Patch {
				continue
			}
			wrote = true
			n := all[slices.IndexFunc(all, func(n *corev1.Node) bool { return n.Name == w.Name })]
			n.Spec.Taints = nil
			if err := json.Unmarshal(w.PatchBody, n); err != nil {
				t.Fatal(err)
			}
		}
	}
	return wrote
}

// withEvents has what a controller says of nodes be heard by nobody: the fake has no client for it.
type withEvents struct{ kubernetes.Interface }

func (c withEvents) CoreV1() corev1client.CoreV1Interface {
	return coreWithEvents{c.Interface.CoreV1()}
}

type coreWithEvents struct{ corev1client.CoreV1Interface }

func (coreWithEvents) RESTClient() rest.Interface {
	return &restfake.RESTClient{
		NegotiatedSerializer: scheme.Codecs.WithoutConversion(), GroupVersion: corev1.SchemeGroupVersion, VersionedAPIPath: "/api/v1",
		Client: restfake.CreateHTTPClient(func(*http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: http.StatusCreated, Header: http.Header{"Content-Type": {"application/json"}},
				Body: io.NopCloser(strings.NewReader(`{"kind":"Event","apiVersion":"v1","metadata":{"name":"e"}}`)),
			}, nil
		}),
	}
}

// runUpstream runs Kubernetes's controller, to which no node is silent: who is lost, the test says.
func runUpstream(ctx context.Context, t *testing.T, client kubernetes.Interface) (stop func()) {
	factory := informers.NewSharedInformerFactory(client, 0)
	const patience = 1000 * time.Hour
	nc, err := nodelifecycle.NewNodeLifecycleController(
		ctx, factory.Coordination().V1().Leases(), factory.Core().V1().Pods(), factory.Core().V1().Nodes(), factory.Apps().V1().DaemonSets(),
		withEvents{client}, period, patience, patience, evictionRate, secondaryEvictionRate, largeClusterSize, unhealthyZoneThreshold,
	)
	if err != nil {
		t.Fatal(err)
	}
	return controllers.Run(ctx, factory, nc.Run)
}

// TestZonesAreInTheStatesOfKubernetes compares the state of every small zone with what Kubernetes's own function makes of it.
func TestZonesAreInTheStatesOfKubernetes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	factory := informers.NewSharedInformerFactory(fake.NewClientset(), 0)
	nc, err := nodelifecycle.NewNodeLifecycleController(
		ctx, factory.Coordination().V1().Leases(), factory.Core().V1().Pods(), factory.Core().V1().Nodes(), factory.Apps().V1().DaemonSets(),
		fake.NewClientset(), time.Second, time.Second, time.Second, evictionRate, secondaryEvictionRate, largeClusterSize, unhealthyZoneThreshold,
	)
	if err != nil {
		t.Fatal(err)
	}
	for ready := range 70 {
		for notReady := range 70 {
			var conditions []*corev1.NodeCondition
			for range ready {
				conditions = append(conditions, &corev1.NodeCondition{Status: corev1.ConditionTrue})
			}
			for i := range notReady {
				conditions = append(conditions, []*corev1.NodeCondition{nil, {Status: corev1.ConditionFalse}, {Status: corev1.ConditionUnknown}}[i%3])
			}
			_, state := nc.ComputeZoneState(conditions)
			rate := nc.HealthyQPSFunc(len(conditions))
			if string(state) == string(partialDisruption) {
				rate = nc.ReducedQPSFunc(len(conditions))
			}
			if got := stateOf(ready, notReady); string(got) != string(state) {
				t.Errorf("%d ready and %d not are %s, upstream %s", ready, notReady, got, state)
			}
			if got := rateOf(ready, notReady); float32(got) != rate {
				t.Errorf("%d ready and %d not have the rate %v, upstream %v", ready, notReady, got, rate)
			}
		}
	}
}
