package samples_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	keeper "github.com/zeroplane/zeroplane/adapters/samples"
	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/adapters/table/contract"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/kubelet"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/core/samples"
	"github.com/zeroplane/zeroplane/events"
)

var start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const partition = "c.00000000|metrics"

// fixture is a cluster's keeper over a store that counts, at a time that the test sets.
type fixture struct {
	*keeper.Keeper
	store *contract.Counting
	logs  kubestorage.Logs
	now   time.Time
}

func newFixture(t *testing.T, store table.Store) *fixture {
	t.Helper()
	f := &fixture{store: contract.NewCounting(store), now: start}
	f.logs = kubestorage.NewLogs(f.store, "c.00000000", func(string) tablelog.Options { return tablelog.Options{SoleWriter: true} })
	f.Keeper = f.another()
	f.put(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
	return f
}

// another is a keeper in another instance.
func (f *fixture) another() *keeper.Keeper {
	return keeper.New(keeper.Options{
		Store: f.store, Partition: "c.00000000", Logs: f.logs, Decoder: apiserver.NewDecoder(nil), Now: func() time.Time { return f.now },
	})
}

func (f *fixture) put(t *testing.T, objects ...runtime.Object) {
	t.Helper()
	byGroup := map[string][]tablelog.Change{}
	for _, obj := range objects {
		gvr := plan.Pods
		switch obj.(type) {
		case *corev1.Node:
			gvr = plan.Nodes
		case *corev1.Namespace:
			gvr = plan.Namespaces
		}
		meta := obj.(metav1.Object)
		value, err := apiserver.Encode(gvr.GroupVersion(), obj)
		if err != nil {
			t.Fatal(err)
		}
		gr := gvr.GroupResource()
		group := kubestorage.GroupOf(gr)
		change := tablelog.Change{Key: kubestorage.KeyOf(gr, meta.GetNamespace(), meta.GetName()), Value: value}
		state, err := f.logs[group].Current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if e := state.Get(change.Key); e != nil {
			change.Expect = e.Rev
		}
		byGroup[group] = append(byGroup[group], change)
	}
	for group, changes := range byGroup {
		for len(changes) > 0 {
			n := min(len(changes), table.MaxOps/2)
			if _, _, err := f.logs[group].Commit(t.Context(), changes[:n], nil); err != nil {
				t.Fatal(err)
			}
			changes = changes[n:]
		}
	}
}

func node(name string, annotations ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}}}
	if len(annotations) > 0 {
		n.Annotations = map[string]string{annotations[0]: annotations[1]}
	}
	return n
}

// pod is one that runs and is ready.
func pod(name, node string, containers ...string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: node},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{
			Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(start.Add(-time.Minute)),
		}}},
	}
	for _, c := range containers {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c})
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		})
	}
	return p
}

func used(cpu string) events.Usage {
	return events.Usage{CPU: resource.MustParse(cpu), Memory: resource.MustParse("64Mi")}
}

func until(at time.Time) events.Window { return events.Window{End: at, Seconds: 15} }

func podSample(name string, at time.Time, cpu ...string) events.PodSample {
	s := events.PodSample{Namespace: "shop", Name: name, Window: until(at)}
	for i, c := range cpu {
		s.Containers = append(s.Containers, events.ContainerSample{Name: fmt.Sprintf("c%d", i), Usage: used(c)})
	}
	return s
}

func (f *fixture) take(t *testing.T, s events.Samples) keeper.Taken {
	t.Helper()
	s.Cluster, s.Reporter = "c.00000000", "n1"
	taken, err := f.Take(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return taken
}

func (f *fixture) rows(t *testing.T) (keys []string) {
	t.Helper()
	err := table.All(t.Context(), f.store, partition, table.Query{From: " ", To: "\x7f"}, func(row table.Row) bool {
		keys = append(keys, row.Key)
		if ours, err := keeper.CheckRow(row); !ours || err != nil {
			t.Errorf("row %q: ours %t, %v", row.Key, ours, err)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// top is what metrics.k8s.io has of pods and nodes, in millicores.
func (f *fixture) top(t *testing.T) string {
	t.Helper()
	var out []string
	pods, err := f.PodMetrics(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pods {
		line := p.Namespace + "/" + p.Name
		for _, c := range p.Containers {
			line += fmt.Sprintf(" %s=%s", c.Name, c.Usage.Cpu())
		}
		out = append(out, line)
	}
	nodes, err := f.NodeMetrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		out = append(out, fmt.Sprintf("%s %s", n.Name, n.Usage.Cpu()))
	}
	return strings.Join(out, "\n")
}

func TestAReportIsServedUntilItsTimeIsOver(t *testing.T) {
	f := newFixture(t, memory.New())
	f.put(t, node("n1"), node("n2"), pod("a", "n1", "c0", "c1"), pod("b", "n2", "c0"), pod("unmeasured", "n1", "c0"))
	if got := f.top(t); got != "" {
		t.Fatalf("before anything came there is\n%s", got)
	}
	taken := f.take(t, events.Samples{
		Nodes: []events.NodeSample{{Name: "n1", Window: until(start), Usage: used("2")}},
		Pods:  []events.PodSample{podSample("a", start, "100m", "200m"), podSample("b", start, "300m")},
	})
	if diff := cmp.Diff(keeper.Taken{Renewed: 4, Dropped: map[samples.Reason]int{}, Pods: []string{"shop"}}, taken); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	want := "shop/a c0=100m c1=200m\nshop/b c0=300m\nn1 2"
	if diff := cmp.Diff(want, f.top(t)); diff != "" {
		t.Errorf("served (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"n-n1", "n-n2"}, f.rows(t)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	f.now = start.Add(samples.TTL)
	if diff := cmp.Diff(want, f.top(t)); diff != "" {
		t.Errorf("after %v (-want +got):\n%s", samples.TTL, diff)
	}
	f.now = start.Add(samples.TTL + 1)
	if got := f.top(t); got != "" {
		t.Errorf("after more than %v there is\n%s", samples.TTL, got)
	}
}

func TestAReportOfANodeCostsOneReadAndOneTransaction(t *testing.T) {
	f := newFixture(t, memory.New())
	f.put(t, node("n1"))
	report := events.Samples{Nodes: []events.NodeSample{{Name: "n1", Usage: used("2")}}}
	for i := range 250 {
		name := fmt.Sprint("p", i)
		f.put(t, pod(name, "n1", "c0"))
		report.Pods = append(report.Pods, podSample(name, start, "100m"))
	}
	for i := range 3 {
		f.now = start.Add(time.Duration(i) * 15 * time.Second)
		report.Nodes[0].Window = until(f.now)
		for j := range report.Pods {
			report.Pods[j].Window = until(f.now)
		}
		queries, transactions := f.store.Queries(), f.store.Commits.Load()
		if taken := f.take(t, report); taken.Renewed != 251 {
			t.Fatalf("report %d: %+v", i, taken)
		}
		if i > 0 && (f.store.Queries()-queries != 1 || f.store.Commits.Load()-transactions != 1) {
			t.Errorf("report %d took %d queries and %d transactions, want 1 and 1", i, f.store.Queries()-queries, f.store.Commits.Load()-transactions)
		}
	}
}

func TestTheSameReportTwiceIsWrittenOnce(t *testing.T) {
	f := newFixture(t, memory.New())
	f.put(t, node("n1"), pod("a", "n1", "c0"))
	report := events.Samples{Pods: []events.PodSample{podSample("a", start, "100m")}}
	f.take(t, report)
	transactions := f.store.Commits.Load()
	again := f.take(t, report)
	if again.Renewed != 0 || again.Dropped[samples.Superseded] != 1 || f.store.Commits.Load() != transactions {
		t.Errorf("%+v, %d more transactions", again, f.store.Commits.Load()-transactions)
	}
	if len(again.Pods) != 1 {
		t.Error("what the first may not have caused is not caused by the second")
	}
}

func TestSamplesThatDoNotCountAreDropped(t *testing.T) {
	tests := map[string]struct {
		samples events.Samples
		want    samples.Reason
	}{
		"of a pod that is not there":        {events.Samples{Pods: []events.PodSample{podSample("gone", start, "1")}}, samples.Unknown},
		"of a pod without a node":           {events.Samples{Pods: []events.PodSample{podSample("pending", start, "1")}}, samples.Unknown},
		"of a container that the pod lacks": {events.Samples{Pods: []events.PodSample{podSample("b", start, "1")}}, samples.Unknown},
		"of a node that is not there":       {events.Samples{Nodes: []events.NodeSample{{Name: "n9", Window: until(start), Usage: used("1")}}}, samples.Unknown},
		"from the future":                   {events.Samples{Pods: []events.PodSample{podSample("a", start.Add(time.Minute+1), "1")}}, samples.Future},
		"older than what is kept":           {events.Samples{Pods: []events.PodSample{podSample("a", start.Add(-samples.TTL-1), "1")}}, samples.Stale},
		"over more than ten minutes": {events.Samples{Nodes: []events.NodeSample{{
			Name: "n1", Window: events.Window{End: start, Seconds: 601}, Usage: used("1"),
		}}}, samples.Malformed},
		"external, of a namespace that is not there": {events.Samples{External: []events.ExternalSample{{
			Namespace: "gone", Name: "m", Window: events.Window{End: start}, Value: resource.MustParse("1"),
		}}}, samples.Unknown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, memory.New())
			f.put(t, node("n1"), pod("a", "n1", "c0"), pod("b", "n1", "other"), pod("pending", "", "c0"))
			transactions := f.store.Commits.Load()
			taken := f.take(t, test.samples)
			if diff := cmp.Diff(keeper.Taken{Dropped: map[samples.Reason]int{test.want: 1}}, taken); diff != "" {
				t.Errorf("taken (-want +got):\n%s", diff)
			}
			if n := f.store.Commits.Load() - transactions; n != 0 {
				t.Errorf("%d transactions for nothing", n)
			}
		})
	}
}

func TestAFloodOfSeriesLeavesABoundedNumberOfRows(t *testing.T) {
	f := newFixture(t, memory.New())
	f.put(t, node("n1"), pod("a", "n1", "c0"))
	f.take(t, events.Samples{Pods: []events.PodSample{podSample("a", start, "100m")}})
	dropped := 0
	for batch := range 20 {
		var flood events.Samples
		for i := range 2500 {
			name := fmt.Sprintf("flood-%d-%d", batch, i)
			flood.Pods = append(flood.Pods, podSample(name, start, "1"))
			flood.External = append(flood.External, events.ExternalSample{Name: "m" + name, Window: events.Window{End: start}, Value: resource.MustParse("1")})
		}
		taken := f.take(t, flood)
		if taken.Dropped[samples.Unknown] != 2500 {
			t.Fatalf("batch %d: %+v", batch, taken)
		}
		dropped += taken.Dropped[samples.ClusterFull]
	}
	const rows, each = 16, samples.MaxExternal
	if want := 50_000 - rows*each; dropped != want {
		t.Errorf("%d external series are dropped, want %d", dropped, want)
	}
	if keys := f.rows(t); len(keys) != rows+1 {
		t.Errorf("%d rows, want %d: %v", len(keys), rows+1, keys)
	}
	if got := f.top(t); got != "shop/a c0=100m" {
		t.Errorf("after the flood there is\n%s", got)
	}
}

func TestARowOfTheLongestNamesFits(t *testing.T) {
	long := strings.Repeat("n", 253)
	f := newFixture(t, memory.New())
	f.put(t, node(long))
	report := events.Samples{Nodes: []events.NodeSample{{Name: long, Window: until(start), Usage: used("1234567.123456789")}}}
	for i := range samples.MaxSeriesOfNode {
		p := pod(fmt.Sprintf("%s%04d", long[:249], i), long, strings.Repeat("c", 63))
		p.Namespace = strings.Repeat("s", 63)
		f.put(t, p)
		report.Pods = append(report.Pods, events.PodSample{Namespace: p.Namespace, Name: p.Name, Window: until(start), Containers: []events.ContainerSample{
			{Name: p.Spec.Containers[0].Name, Usage: used("1234567.123456789")},
		}})
	}
	taken := f.take(t, report)
	if taken.Renewed != samples.MaxSeriesOfNode || taken.Dropped[samples.NodeFull] != 1 {
		t.Errorf("%+v", taken)
	}
	var external events.Samples
	for i := range samples.MaxExternal {
		// The shortest labels take most in JSON, and quotes are doubled.
		x := events.ExternalSample{Namespace: "shop", Name: strings.Repeat(`"`, 253), Labels: map[string]string{}, Window: events.Window{End: start}, Value: resource.MustParse("0.123456789")}
		for j := range 50 {
			x.Labels[fmt.Sprintf("%c%c", 'a'+j/10, 'a'+j%10)] = ""
		}
		x.Labels["zz"] = fmt.Sprint(i)
		external.External = append(external.External, x)
	}
	if taken := f.take(t, external); taken.Renewed != samples.MaxExternal {
		t.Errorf("%d external values are taken, dropped %v", taken.Renewed, taken.Dropped)
	}
	const most = 500 << 10 // docs/autoscaling.md
	err := table.All(t.Context(), f.store, partition, table.Query{From: " ", To: "\x7f"}, func(row table.Row) bool {
		if t.Logf("%.5s... has %d KiB", row.Key, len(row.Value)>>10); len(row.Value) > most {
			t.Errorf("a row has %d bytes", len(row.Value))
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhoAddsARowRemovesThoseWhoseTimeIsOver(t *testing.T) {
	f := newFixture(t, memory.New())
	for i := range 5 {
		f.put(t, node(fmt.Sprint("n", i)))
	}
	report := func(name string) {
		f.take(t, events.Samples{Nodes: []events.NodeSample{{Name: name, Window: until(f.now), Usage: used("1")}}})
	}
	for i := range 4 {
		report(fmt.Sprint("n", i))
		f.now = f.now.Add(time.Minute)
	}
	report("n4") // n0's time is over
	if diff := cmp.Diff([]string{"n-n1", "n-n2", "n-n3", "n-n4"}, f.rows(t)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	f.now = f.now.Add(time.Hour)
	report("n4") // not a new row
	report("n0")
	if diff := cmp.Diff([]string{"n-n0", "n-n4"}, f.rows(t)); diff != "" {
		t.Errorf("an hour later, rows (-want +got):\n%s", diff)
	}
}

func TestTwoInstancesMergeIntoTheSameRow(t *testing.T) {
	f := newFixture(t, memory.New())
	f.put(t, node("n1"))
	var reports [8]events.Samples
	for i := range reports {
		name := fmt.Sprint("p", i)
		f.put(t, pod(name, "n1", "c0"))
		reports[i] = events.Samples{Cluster: "c.00000000", Reporter: name, Pods: []events.PodSample{podSample(name, start, "1")}}
	}
	failed := make(chan error, len(reports))
	for i := range reports {
		k := f.another()
		go func() {
			_, err := k.Take(t.Context(), reports[i])
			failed <- err
		}()
	}
	for range reports {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if got := strings.Count(f.top(t), "shop/"); got != len(reports) {
		t.Errorf("%d of %d pods are measured", got, len(reports))
	}
}

func TestAPodOfTheSameNameHasNothingOfTheOneBefore(t *testing.T) {
	f := newFixture(t, memory.New())
	f.put(t, node("n1"), node("n2"), pod("moved", "n1", "c0"), pod("again", "n1", "c0"))
	f.take(t, events.Samples{Pods: []events.PodSample{podSample("moved", start, "1"), podSample("again", start, "1")}})
	again := pod("again", "n1", "c0")
	again.CreationTimestamp = metav1.NewTime(start.Add(time.Second))
	f.now = start.Add(2 * time.Second)
	f.put(t, pod("moved", "n2", "c0"), again)
	if got := f.top(t); got != "" {
		t.Errorf("there is\n%s", got)
	}
}

func TestSimulatedNodesAreMeasuredWithoutARow(t *testing.T) {
	f := newFixture(t, memory.New())
	busy := pod("busy", "sim", "c0", "c1")
	busy.Annotations = map[string]string{kubelet.CPUUsage: "1", kubelet.MemoryUsage: "1Gi"}
	f.put(t, node("sim", kubelet.Simulated, "true"), node("real"), busy, pod("lazy", "sim", "c0"), pod("real", "real", "c0"))
	transactions := f.store.Commits.Load()
	if diff := cmp.Diff("shop/busy c0=500m c1=500m\nshop/lazy c0=0\nsim 1", f.top(t)); diff != "" {
		t.Errorf("served (-want +got):\n%s", diff)
	}
	f.now = start.Add(24 * time.Hour)
	if diff := cmp.Diff("shop/busy c0=500m c1=500m\nshop/lazy c0=0\nsim 1", f.top(t)); diff != "" {
		t.Errorf("a day later (-want +got):\n%s", diff)
	}
	if n := f.store.Commits.Load() - transactions; n != 0 {
		t.Errorf("%d transactions", n)
	}
	f.take(t, events.Samples{Pods: []events.PodSample{podSample("busy", f.now, "2", "3")}})
	if diff := cmp.Diff("shop/busy c0=2 c1=3\nshop/lazy c0=0\nsim 1", f.top(t)); diff != "" {
		t.Errorf("what was measured comes first (-want +got):\n%s", diff)
	}
}

func TestOneObjectIsReadFromItsNodesRow(t *testing.T) {
	f := newFixture(t, memory.New())
	f.put(t, node("n1"), pod("a", "n1", "c0"), pod("quiet", "n1", "c0"))
	f.take(t, events.Samples{
		Nodes: []events.NodeSample{{Name: "n1", Window: until(start), Usage: used("2")}}, Pods: []events.PodSample{podSample("a", start, "1")},
	})
	queries := f.store.Queries()
	m, exists, err := f.PodMetricsOf(t.Context(), "shop", "a")
	if err != nil || !exists || m.Containers[0].Usage.Cpu().Value() != 1 || m.Window.Duration != 15*time.Second || m.Labels["app"] != "web" {
		t.Errorf("a: %+v, %t, %v", m, exists, err)
	}
	if n := f.store.Queries() - queries; n != 1 {
		t.Errorf("%d queries", n)
	}
	if m, exists, err := f.PodMetricsOf(t.Context(), "shop", "quiet"); m != nil || !exists || err != nil {
		t.Errorf("quiet: %+v, %t, %v", m, exists, err)
	}
	if m, exists, err := f.PodMetricsOf(t.Context(), "shop", "gone"); m != nil || exists || err != nil {
		t.Errorf("gone: %+v, %t, %v", m, exists, err)
	}
	if m, exists, err := f.NodeMetricsOf(t.Context(), "n1"); err != nil || !exists || m.Usage.Cpu().Value() != 2 {
		t.Errorf("n1: %+v, %t, %v", m, exists, err)
	}
	if m, exists, err := f.NodeMetricsOf(t.Context(), "n9"); m != nil || exists || err != nil {
		t.Errorf("n9: %+v, %t, %v", m, exists, err)
	}
}

func TestExternalMetricsAreReadBack(t *testing.T) {
	f := newFixture(t, memory.New())
	value := func(namespace, queue, v string) events.ExternalSample {
		return events.ExternalSample{
			Namespace: namespace, Name: "queue_length", Labels: map[string]string{"queue": queue}, Window: events.Window{End: start}, Value: resource.MustParse(v),
		}
	}
	taken := f.take(t, events.Samples{External: []events.ExternalSample{value("shop", "orders", "30"), value("", "mails", "500m")}})
	if diff := cmp.Diff(keeper.Taken{Renewed: 2, Dropped: map[samples.Reason]int{}, External: []string{"", "shop"}}, taken); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	values, err := f.External(t.Context(), "queue_length")
	if err != nil {
		t.Fatal(err)
	}
	got := values.Select("shop", "queue_length", labels.Everything(), start)
	if len(got) != 2 || got[0].String() != "500m" || got[1].String() != "30" {
		t.Errorf("values %v", got)
	}
	if values, err := f.External(t.Context(), "another"); err != nil || len(values.Select("shop", "another", labels.Everything(), start)) != 0 {
		t.Errorf("another metric has %v, %v", values, err)
	}
}

func TestADamagedRowIsSaidToBe(t *testing.T) {
	f := newFixture(t, memory.New())
	f.put(t, node("n1"))
	if err := f.store.Commit(t.Context(), partition, []table.Op{{Kind: table.Insert, Key: "n-n1", Value: []byte("{")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.NodeMetrics(t.Context()); !errors.Is(err, table.ErrCorrupt) {
		t.Errorf("reading: %v", err)
	}
	_, err := f.Take(t.Context(), events.Samples{Nodes: []events.NodeSample{{Name: "n1", Window: until(start), Usage: used("1")}}})
	if !errors.Is(err, table.ErrCorrupt) {
		t.Errorf("storing: %v", err)
	}
}
