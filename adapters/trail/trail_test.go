package trail

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table/memory"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// fixture is the logs of a cluster that nobody reads.
type fixture struct {
	Reader
	codec runtime.Encoder
}

func newFixture() *fixture {
	logs := kubestorage.NewLogs(memory.New(), "c.1", func(string) tablelog.Options { return tablelog.Options{} })
	return &fixture{
		Reader: Reader{Logs: logs, Decoder: apiserver.NewDecoder(nil)},
		codec:  apiserver.Codecs.LegacyCodec(corev1.SchemeGroupVersion),
	}
}

// write puts an object, or deletes it if there is none, for a cause.
func (f *fixture) write(t *testing.T, resource, name string, obj runtime.Object, cause *tablelog.Cause) {
	t.Helper()
	gr := schema.GroupResource{Resource: resource}
	log := f.Logs[kubestorage.GroupOf(gr)]
	c := tablelog.Change{Key: kubestorage.KeyOf(gr, "default", name), Cause: cause, Delete: obj == nil}
	state, err := log.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if e := state.Get(c.Key); e != nil {
		c.Expect = e.Rev
	}
	if obj != nil {
		if c.Value, err = runtime.Encode(f.codec, obj); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := log.Commit(t.Context(), []tablelog.Change{c}, nil); err != nil {
		t.Fatal(err)
	}
}

func because(n, span, parent byte, by string) *tablelog.Cause {
	c := &tablelog.Cause{Trace: trace.TraceID{n}, Span: trace.SpanID{span}, By: by}
	if parent != 0 {
		c.Parent = trace.SpanID{parent}
	}
	return c
}

func pod(name, node string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: corev1.PodSpec{NodeName: node}}
}

func config(value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "default"}, Data: map[string]string{"k": value}}
}

func secret(value string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "default"}, StringData: map[string]string{"k": value}}
}

// lines are what steps say, without times.
func lines(steps []Step) []string {
	var out []string
	for _, s := range steps {
		out = append(out, fmt.Sprintf("%s@%d %s %s %s<%s %v", s.Log, s.Revision, s.By, s.Type, s.Span[:2], (s.Parent + "--")[:2], s.Changes))
	}
	return out
}

func TestAllChangesOfTheLastTraceAreFollowedThroughAllLogs(t *testing.T) {
	f := newFixture()
	f.write(t, "pods", "a", pod("a", ""), because(1, 1, 0, "kubectl"))
	f.write(t, "pods", "other", pod("other", ""), because(3, 9, 0, "kubectl"))
	f.write(t, "pods", "a", pod("a", "n1"), because(1, 2, 1, "scheduler"))
	f.write(t, "pods", "unknown", pod("unknown", ""), nil)
	f.write(t, "configmaps", "c", config("before"), nil)
	f.write(t, "secrets", "s", secret("before"), nil)
	f.write(t, "pods", "a", pod("a", "n2"), because(2, 3, 0, "curl"))
	f.write(t, "configmaps", "c", config("after"), because(2, 4, 3, "controller"))
	f.write(t, "secrets", "s", secret("after"), because(2, 5, 4, "controller"))
	f.write(t, "pods", "a", nil, because(2, 6, 4, "collector"))

	q := Query{Resource: schema.GroupResource{Resource: "pods"}, Namespace: "default", Name: "a"}
	got, err := f.Follow(t.Context(), q)
	if err != nil || got.Truncated {
		t.Fatal(got, err)
	}
	want := []string{
		"pods@6 curl updated 03<-- [spec.nodeName: n1 -> n2]",
		"objects@4 controller updated 04<03 [data.k]",
		"objects@5 controller updated 05<04 [stringData.k]",
		"pods@7 collector deleted 06<04 []",
	}
	sorted := cmpopts.SortSlices(strings.Compare) // times have milliseconds
	if diff := cmp.Diff(want, lines(got.Steps), sorted); diff != "" {
		t.Error(diff)
	}
	if len(got.Traces) != 2 || got.Traces[0].Trace != got.Trace || got.Traces[1].By != "scheduler" {
		t.Errorf("the traces are %+v", got.Traces)
	}
	q.Trace = got.Traces[1].Trace
	if got, err = f.Follow(t.Context(), q); err != nil || len(got.Steps) != 2 || got.Steps[0].By != "kubectl" {
		t.Errorf("the trace before: %q, %v", lines(got.Steps), err)
	}
}

func TestWhatHasNoTraceIsNotFound(t *testing.T) {
	f := newFixture()
	f.write(t, "pods", "unknown", pod("unknown", ""), nil)
	for _, q := range []Query{{Name: "unknown"}, {Name: "none"}, {Name: "unknown", Trace: trace.TraceID{1}.String()}} {
		q.Resource, q.Namespace = schema.GroupResource{Resource: "pods"}, "default"
		if _, err := f.Follow(t.Context(), q); !errors.Is(err, ErrNotFound) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

func TestATrailIsServed(t *testing.T) {
	f := newFixture()
	f.write(t, "pods", "a", pod("a", ""), because(1, 1, 0, "kubectl"))
	known := Query{Resource: schema.GroupResource{Resource: "pods"}, Namespace: "default", Name: "a"}
	gone := known
	gone.Name = "gone"
	for target, want := range map[string]int{
		"GET " + known.Address():           200,
		"GET " + gone.Address():            404,
		"GET " + Path + "?name=a":          400,
		"GET " + Path + "?resource=pods":   400,
		"POST " + known.Address():          405,
		"GET " + Path + "?resource=x&name": 400,
	} {
		w := httptest.NewRecorder()
		method, path, _ := strings.Cut(target, " ")
		f.Handler(apiserver.Codecs).ServeHTTP(w, httptest.NewRequest(method, path, nil))
		if w.Code != want {
			t.Errorf("%s: %d %s, want %d", target, w.Code, w.Body, want)
		}
	}
}
