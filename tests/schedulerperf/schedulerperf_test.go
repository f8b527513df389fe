package schedulerperf

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

const (
	// shortFilter chooses what upstream runs in its short integration tests: integration-test,-performance and +short
	// (RunIntegrationPerfScheduling in scheduler_perf.go).
	shortFilter = "integration-test,-performance,short"
	// longFilter is that of its integration tests.
	longFilter = "integration-test,-performance"
	// podTimeout bounds each wait for pods; the workloads need a second or two.
	podTimeout = 2 * time.Minute
)

func definitions(t *testing.T) []*Workload {
	t.Helper()
	root, err := Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestPodsAreScheduledInEveryWorkloadThatCanRun runs upstream's workloads of the size of its integration tests, each on a new
// cluster. In short: one of a test case whose workloads differ in feature gates alone.
func TestPodsAreScheduledInEveryWorkloadThatCanRun(t *testing.T) {
	filter := shortFilter
	if os.Getenv("ZEROPLANE_LONG") != "" {
		filter = longFilter
	}
	binary, err := target.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var runnable []*Workload
	seen := map[string]bool{}
	err = WithChecker(t.Context(), func(c *Checker) error {
		for _, w := range definitions(t) {
			if !w.Matches(filter) || filter == shortFilter && seen[w.sameAs()] {
				continue
			}
			seen[w.sameAs()] = true
			lacks, err := c.Lacks(t.Context(), w)
			if err != nil {
				return err
			}
			if len(lacks) > 0 {
				t.Logf("%s lacks %s", w.ID(), strings.Join(lacks, "; "))
				continue
			}
			runnable = append(runnable, w)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// The plain ones need nothing but nodes and pods: if the checks say otherwise, the checks are wrong.
	if len(runnable) == 0 || !strings.Contains(names(runnable), "SchedulingBasic/") {
		t.Fatalf("can run only %q", names(runnable))
	}
	for _, w := range runnable {
		t.Run(w.ID(), func(t *testing.T) {
			t.Parallel()
			run(t, binary, w)
		})
	}
}

func run(t *testing.T, binary string, w *Workload) {
	err := OnServer(t.Context(), target.ServerOptions{Binary: binary}, "", func(kubeconfig string) error {
		got, err := Run(t.Context(), w, Options{Kubeconfig: kubeconfig, Timeout: podTimeout})
		if err == nil && len(got) == 0 {
			t.Error("nothing was measured")
		}
		for _, measured := range got {
			if measured.Pods == 0 {
				t.Errorf("no pod of %s was seen to get a node", measured.Name)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// sameAs is equal for workloads that differ in nothing that reaches a server.
func (w *Workload) sameAs() string {
	var out strings.Builder
	out.WriteString(w.testCase.Name)
	for _, key := range sortedKeys(w.Params) {
		text, _ := toJSON(w.Params[key])
		out.WriteString(" " + key + "=" + text)
	}
	return out.String()
}

func names(all []*Workload) string {
	var out []string
	for _, w := range all {
		out = append(out, w.ID())
	}
	return strings.Join(out, " ")
}

// What upstream has and we do not know yet is to be seen when its version is raised.
func TestEveryOperationOfUpstreamIsKnown(t *testing.T) {
	for _, w := range definitions(t) {
		ops, err := w.operations()
		switch {
		case err == nil && len(ops) == 0:
			t.Errorf("%s has no operations", w.ID())
		case err != nil && (strings.Contains(err.Error(), "is unknown") || strings.Contains(err.Error(), "unknown field")):
			t.Errorf("%s: %v", w.ID(), err)
		}
	}
}

func TestParametersAreFilledIn(t *testing.T) {
	w := &Workload{Name: "w", Params: map[string]any{"pods": 7.0, "sets": 2.0, "cpu": "100m"}, testCase: &TestCase{Name: "t"}}
	for _, op := range []string{
		`{"opcode":"createPodSets","countParam":"$sets","namespacePrefix":"ns","createPodsOp":{"opcode":"createPods","countParam":"$pods"}}`,
		`{"opcode":"createAny","templatePath":"x","templateParams":{"cpu":"$cpu","memory":"$memory|1Gi","n":"$n|3"}}`,
	} {
		w.testCase.WorkloadTemplate = append(w.testCase.WorkloadTemplate, []byte(op))
	}
	got, err := w.operations()
	if err != nil {
		t.Fatal(err)
	}
	pods := func(namespace string) *createPods {
		return &createPods{code: code{"createPods"}, Count: 7, CountMultiplier: 1, Namespace: &namespace}
	}
	want := []operation{pods("ns-0"), pods("ns-1"), &createAny{
		code: code{"createAny"}, TemplatePath: "x", Count: 1, TemplateParams: map[string]any{"cpu": "100m", "memory": "1Gi", "n": 3.0},
	}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(createPods{}, createAny{})); diff != "" {
		t.Error(diff)
	}
}

func TestWrongDefinitionsAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ op, want string }{
		"an operation":       {`{"opcode":"createMoons"}`, `operation "createMoons" is unknown`},
		"a field":            {`{"opcode":"sleep","depth":1}`, `unknown field "depth"`},
		"a parameter":        {`{"opcode":"createPods","countParam":"$pods"}`, "parameter pods is not given"},
		"one too many":       {`{"opcode":"barrier"}`, `no operation asks for the parameters ["left"]`},
		"a template's value": {`{"opcode":"createAny","templateParams":{"a":"$b"}}`, "parameter b is not given"},
	} {
		w := &Workload{Params: map[string]any{}, testCase: &TestCase{WorkloadTemplate: nil}}
		w.testCase.WorkloadTemplate = append(w.testCase.WorkloadTemplate, []byte(c.op))
		if name == "one too many" {
			w.Params["left"] = 1.0
		}
		if _, err := w.operations(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestSamplesAreTakenAsUpstreamDoes(t *testing.T) {
	start := time.Unix(1000, 0)
	var s sampler
	// Nothing; the one that only begins; 100 in a second; two seconds without any, then 300 over three.
	for second, count := range []int{0, 50, 150, 150, 150, 450} {
		s.take(start.Add(time.Duration(second)*time.Second), count)
	}
	want := Throughput{Samples: 4, Average: 100, Perc50: 100, Perc90: 100, Perc95: 100, Perc99: 100}
	if diff := cmp.Diff(want, s.summary()); diff != "" {
		t.Error(diff)
	}
}

func TestLabelsAreFilteredAsUpstreamDoes(t *testing.T) {
	w := &Workload{Labels: []string{"short"}, testCase: &TestCase{Labels: []string{"integration-test"}}}
	for filter, want := range map[string]bool{
		"": true, "short": true, "+short,integration-test": true, "performance": false, "-performance": true, "-short": false,
		"integration-test,-short": false,
	} {
		if got := w.Matches(filter); got != want {
			t.Errorf("%q: %v, want %v", filter, got, want)
		}
	}
}

func TestAFieldThatAServerDropsIsFound(t *testing.T) {
	sent := map[string]any{
		"spec": map[string]any{"a": int64(1), "empty": map[string]any{}, "zero": int64(0), "list": []any{map[string]any{"b": "x", "c": "y"}}},
	}
	got := map[string]any{"spec": map[string]any{"a": "1", "list": []any{map[string]any{"b": "x"}, map[string]any{}}}}
	if path := missing("", sent, got); path != "spec.list[].c" {
		t.Errorf("found %q", path)
	}
	got["spec"].(map[string]any)["list"] = []any{map[string]any{"b": "x", "c": "z", "d": "w"}}
	if path := missing("", sent, got); path != "" {
		t.Errorf("found %q where nothing is missing", path)
	}
}

func pod(name, node, reason string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{"app": "x"}}}
	p.Spec.NodeName = node
	if reason != "" {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: reason}}
	}
	return p
}

func TestAWatcherCountsPodsByStage(t *testing.T) {
	w := newWatcher()
	var placed []string
	stop := w.onPlaced(func(p *corev1.Pod) { placed = append(placed, p.Name) })
	w.set(pod("a", "", ""))
	w.set(pod("b", "", ""))
	w.set(pod("b", "", "no node has room"))
	w.set(pod("c", "n", ""))
	w.set(pod("c", "n", "")) // as an update that changes nothing
	w.set(pod("a", "n", ""))
	counts, pending := w.count("ns", nil)
	if diff := cmp.Diff([3]int{attempted: 1, scheduled: 2}, counts); diff != "" {
		t.Error(diff)
	}
	if pending != "b: no node has room" {
		t.Errorf("pending is %q", pending)
	}
	w.remove(pod("b", "", ""))
	stop()
	w.set(pod("d", "n", ""))
	if diff := cmp.Diff([]string{"c", "a"}, placed); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.awaitScheduled(ctx, time.Minute, "ns", map[string]string{"app": "x"}, 3); err != nil {
		t.Error(err)
	}
}
