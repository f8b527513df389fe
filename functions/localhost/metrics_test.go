package localhost

import (
	"regexp"
	"strconv"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// metric is a line of the metrics: what the groups of a pattern found, and the value.
type metric struct {
	labels []string
	value  float64
}

// metricsLike are the metrics whose names, with labels, are as a pattern has them.
func metricsLike(t *testing.T, c kubernetes.Interface, pattern string) (out []metric) {
	t.Helper()
	text, err := c.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^`+pattern+` (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		last := len(m) - 1
		value, err := strconv.ParseFloat(m[last], 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, metric{m[1:last], value})
	}
	return out
}

func TestTheCacheIsAmongTheMetrics(t *testing.T) {
	store, c := counted(t, nil)
	read := func() map[string]float64 {
		out := map[string]float64{}
		for _, m := range metricsLike(t, c, `zeroplane_cache_(\w+)`) {
			out[m.labels[0]] = m.value
		}
		return out
	}
	before := read()
	queries := store.Queries()
	if _, err := c.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	after := read()
	if len(after) != 6 || after["loads_total"] == 0 || after["bytes"] == 0 || after["logs"] == 0 || after["hits_total"] <= before["hits_total"] {
		t.Errorf("%v", after)
	}
	if tails := after["tail_reads_total"] - before["tail_reads_total"]; tails != float64(store.Queries()-queries) {
		t.Errorf("%v tail reads while there were %d queries", tails, store.Queries()-queries)
	}
}

func TestWhatTheTableIsAskedForIsAmongTheMetrics(t *testing.T) {
	store, c := counted(t, nil)
	read := func() map[string]float64 {
		out := map[string]float64{}
		for _, m := range metricsLike(t, c, `zeroplane_table_(\w+)_total{partition="(\w+)"}`) {
			out[m.labels[0]] += m.value
			out[m.labels[0]+" "+m.labels[1]] = m.value
		}
		return out
	}
	before, queries := read(), store.Queries()
	if _, err := c.CoreV1().Pods("default").Create(t.Context(), countedPod("metered"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	asked := store.Queries() - queries
	after := read()
	if n := after["transactions pods"] - before["transactions pods"]; n != 1 {
		t.Errorf("a create made %v transactions on the log of pods", n)
	}
	// To read the metrics is a request, which asks for the log that its authorisation reads.
	if n := after["queries"] - before["queries"]; n < float64(asked) || n > float64(store.Queries()-queries) {
		t.Errorf("%v queries are counted, and %d to %d were made", n, asked, store.Queries()-queries)
	}
}
