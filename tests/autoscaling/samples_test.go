package autoscaling_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/rest"

	"github.com/zeroplane/zeroplane/events"
	"github.com/zeroplane/zeroplane/tests/local"
)

// outcomes are the server's counters of samples.
func (w *world) outcomes(t *testing.T) map[string]int {
	t.Helper()
	resp, err := w.client.Get(w.Config.Host + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: %s, %v", resp.Status, err)
	}
	out := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^zeroplane_samples_total\{outcome="([^"]+)"\} (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			out[m[1]] = int(n)
		}
	}
	return out
}

// difference is what has been counted since.
func difference(before, after map[string]int) map[string]int {
	out := maps.Clone(after)
	for outcome, n := range before {
		if out[outcome] -= n; out[outcome] == 0 {
			delete(out, outcome)
		}
	}
	return out
}

// runPod runs a pod with one container, "web".
func (w *world) runPod(t *testing.T, name string) {
	t.Helper()
	if _, problem := w.kubectl(t, "run", name, "--image=nginx", "--labels=app=web", `--overrides={"spec":{"containers":[{"name":"web","image":"nginx"}]}}`); problem != "" {
		t.Fatal(problem)
	}
	if _, problem := w.kubectl(t, "wait", "--for=condition=Ready", "pod/"+name, "--timeout=30s"); problem != "" {
		t.Fatal(problem)
	}
}

func TestABadSampleGetsItsAnswerAndChangesNothing(t *testing.T) {
	w := start(t)
	w.runPod(t, "web")
	if code, answer := w.send(t, report(func(s *events.Samples) { s.Pods = []events.PodSample{ofPod("web", 100)} }).Event()); code != http.StatusAccepted {
		t.Fatalf("%d: %s", code, answer)
	}
	const top = "web 100m 64Mi"
	if out, problem := w.kubectl(t, "top", "pods", "--no-headers"); squeezed(out) != top || problem != "" {
		t.Fatalf("kubectl top prints\n%s\n%s", out, problem)
	}
	// pod is a report of the pod, with its data as text that a test may spoil.
	pod := func(from, to string) cloudevents.Event {
		e := report(func(s *events.Samples) { s.Pods = []events.PodSample{ofPod("web", 777)} }).Event()
		data := strings.Replace(string(e.Data()), from, to, 1)
		if data == string(e.Data()) && from != to {
			t.Fatalf("%s has no %q", data, from)
		}
		e.DataEncoded = []byte(data)
		return e
	}
	made := func(change func(*events.Samples)) cloudevents.Event { return report(change).Event() }
	sample := func(change func(*events.PodSample)) cloudevents.Event {
		return made(func(s *events.Samples) {
			one := ofPod("web", 777)
			change(&one)
			s.Pods = []events.PodSample{one}
		})
	}
	tests := map[string]struct {
		event  cloudevents.Event
		code   int
		answer string
		counts map[string]int
	}{
		"NaN":                     {pod(`"777m"`, `"NaN"`), 400, "data.pods[0].containers[0].usage.cpu", nil},
		"infinite":                {pod(`"777m"`, `"Inf"`), 400, "data.pods[0].containers[0].usage.cpu", nil},
		"negative":                {pod(`"777m"`, `"-1"`), 400, "data.pods[0].containers[0].usage.cpu", nil},
		"more than is counted":    {pod(`"777m"`, `"10E"`), 400, "data.pods[0].containers[0].usage.cpu", nil},
		"a window of nothing":     {pod(`"windowSeconds":1`, `"windowSeconds":0`), 400, "data.pods[0].windowSeconds", nil},
		"no time":                 {pod(`"time":`, `"tide":`), 400, "data.pods[0].time", nil},
		"no data":                 {func() cloudevents.Event { e := pod("", ""); e.DataEncoded = []byte("{}"); return e }(), 400, "data", nil},
		"another cluster's":       {made(func(s *events.Samples) { s.Cluster = "other"; s.Pods = []events.PodSample{ofPod("web", 777)} }), 403, "cluster", nil},
		"from the future":         {sample(func(p *events.PodSample) { p.End = p.End.Add(2 * time.Minute) }), 202, "", map[string]int{"future": 1}},
		"older than is kept":      {sample(func(p *events.PodSample) { p.End = p.End.Add(-4 * time.Minute) }), 202, "", map[string]int{"stale": 1}},
		"older than the newest":   {sample(func(p *events.PodSample) { p.End = p.End.Add(-2 * time.Minute) }), 202, "", map[string]int{"superseded": 1}},
		"over an hour":            {sample(func(p *events.PodSample) { p.Seconds = 3600 }), 202, "", map[string]int{"malformed": 1}},
		"of an unknown pod":       {sample(func(p *events.PodSample) { p.Name = "gone" }), 202, "", map[string]int{"unknown": 1}},
		"of an unknown container": {sample(func(p *events.PodSample) { p.Containers[0].Name = "gone" }), 202, "", map[string]int{"unknown": 1}},
		"of an unknown node": {made(func(s *events.Samples) {
			s.Nodes = []events.NodeSample{{Name: "gone", Window: events.Window{End: time.Now(), Seconds: 1}, Usage: used(1)}}
		}), 202, "", map[string]int{"unknown": 1}},
		"of an unknown namespace": {made(func(s *events.Samples) {
			s.External = []events.ExternalSample{{Namespace: "gone", Name: "m", Window: events.Window{End: time.Now()}, Value: resource.MustParse("1")}}
		}), 202, "", map[string]int{"unknown": 1}},
		"more than fit in an event": {made(func(s *events.Samples) {
			for range events.MaxSamples + 1 {
				s.External = append(s.External, events.ExternalSample{Name: "m", Window: events.Window{End: time.Now()}, Value: resource.MustParse("1")})
			}
		}), 400, "data: has 5001 samples", nil},
		"more than a request may hold": {made(func(s *events.Samples) {
			for range events.MaxSamples {
				s.External = append(s.External, events.ExternalSample{Name: strings.Repeat("m", 250), Window: events.Window{End: time.Now()}, Value: resource.MustParse("1")})
			}
		}), 413, "1048576 bytes", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := w.outcomes(t)
			code, answer := w.send(t, test.event)
			if code != test.code || !strings.Contains(answer, test.answer) {
				t.Errorf("%d %s, want %d and %q", code, answer, test.code, test.answer)
			}
			want := test.counts
			if want == nil {
				want = map[string]int{}
			}
			if diff := cmp.Diff(want, difference(before, w.outcomes(t))); diff != "" {
				t.Errorf("counted (-want +got):\n%s", diff)
			}
		})
	}
	if out, problem := w.kubectl(t, "top", "pods", "--no-headers"); squeezed(out) != top || problem != "" {
		t.Errorf("after all of them kubectl top prints\n%s\n%s", out, problem)
	}
}

func TestWhoMayNotPostSamplesIsRefused(t *testing.T) {
	w := start(t)
	header := http.Header{"Content-Type": {cloudevents.ApplicationCloudEventsJSON}}
	body, err := report(func(s *events.Samples) {
		s.Nodes = []events.NodeSample{{Name: "node-0", Window: events.Window{End: time.Now(), Seconds: 1}, Usage: used(900)}}
	}).Event().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if _, problem := w.kubectl(t, "create", "serviceaccount", "agent"); problem != "" {
		t.Fatal(problem)
	}
	token, _ := w.kubectl(t, "create", "token", "agent")
	as := func(token string) *http.Client {
		config := rest.AnonymousClientConfig(w.Config)
		config.BearerToken = token
		client, err := rest.HTTPClientFor(config)
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	for name, test := range map[string]struct {
		token string
		want  int
	}{"nobody": {"", http.StatusForbidden}, "a forged token": {"forged", http.StatusUnauthorized}, "who has no right": {token, http.StatusForbidden}} {
		if code, answer := w.post(t, as(test.token), header, body); code != test.want {
			t.Errorf("%s: %d %s, want %d", name, code, answer, test.want)
		}
	}
	for _, arguments := range [][]string{
		{"create", "clusterrole", "agent", "--verb=post", "--non-resource-url=/events,/events/" + events.SamplesType},
		{"create", "clusterrolebinding", "agent", "--clusterrole=agent", "--serviceaccount=default:agent"},
	} {
		if _, problem := w.kubectl(t, arguments...); problem != "" {
			t.Fatal(problem)
		}
	}
	if out, _ := w.kubectl(t, "top", "node", "node-0", "--no-headers"); !strings.Contains(out, " 0m ") {
		t.Errorf("after what was refused kubectl top prints %s", out)
	}
	if code, answer := w.post(t, as(token), header, body); code != http.StatusAccepted {
		t.Errorf("with the right it is answered %d %s", code, answer)
	}
	if out, _ := w.kubectl(t, "top", "node", "node-0", "--no-headers"); !strings.Contains(out, " 900m ") {
		t.Errorf("kubectl top prints %s", out)
	}
}

// flood is how many series come at once, half of pods that do not exist and half external.
const flood = 100_000

func TestAFloodOfSeriesIsBounded(t *testing.T) {
	w := start(t)
	w.runPod(t, "web")
	before := w.ResidentMegabytes(t)
	const each = 2000
	began := time.Now()
	for batch := range flood / 2 / each {
		e := report(func(s *events.Samples) {
			s.Pods = []events.PodSample{ofPod("web", 100)}
			for i := range each {
				name := fmt.Sprintf("flood-%d-%d", batch, i)
				s.Pods = append(s.Pods, ofPod(name, 100))
				s.External = append(s.External, events.ExternalSample{Name: name, Window: events.Window{End: time.Now()}, Value: resource.MustParse("1")})
			}
		})
		if code, answer := w.send(t, e.Event()); code != http.StatusAccepted {
			t.Fatalf("batch %d: %d %s", batch, code, answer)
		}
	}
	counts := w.outcomes(t)
	t.Logf("%d series in %v: %v; resident memory %.0f MB before, %.0f MB after", flood, time.Since(began).Round(time.Millisecond), counts, before, w.ResidentMegabytes(t))
	if counts["unknown"] != flood/2 || counts["cluster-full"] != flood/2-8000 || counts["taken"] != 8000+flood/2/each {
		t.Errorf("counted %v", counts)
	}
	if out, problem := w.kubectl(t, "top", "pods", "--no-headers"); !strings.HasPrefix(out, "web ") || problem != "" {
		t.Errorf("kubectl top prints\n%s\n%s", out, problem)
	}
	w.Stop(t)
	rows := 0
	for partition, n := range local.Rows(t, w.Dir) {
		if strings.HasPrefix(partition, "default.") && strings.HasSuffix(partition, "|metrics") {
			rows += n
		}
	}
	// 16 of external metrics, and one of the node.
	if rows != 17 {
		t.Errorf("%d rows are left, want 17", rows)
	}
	if r := local.Run(t, "store", "check", "--data", local.DataDir(w.Dir)); r.Code != 0 {
		t.Errorf("store check: %s%s", r.Stdout, r.Stderr)
	}
}
