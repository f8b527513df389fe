package samples

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func container(node, pod string) Series {
	return Series{Node: node, Namespace: "shop", Pod: pod, Container: "main"}
}

// sample is one of a window that ended some time ago.
func sample(of Series, ago time.Duration, cores float64) Sample {
	return Sample{Series: of, Timestamp: now.Add(-ago), Window: 15 * time.Second, Usage: map[corev1.ResourceName]float64{corev1.ResourceCPU: cores}}
}

func TestWhatIsTaken(t *testing.T) {
	web := container("n1", "web")
	kept := Set{web: sample(web, 30*time.Second, 1)}
	tests := map[string]struct {
		sample Sample
		known  func(Series) bool
		want   Reason
	}{
		"a newer window":             {sample: sample(web, 15*time.Second, 2)},
		"another container":          {sample: sample(container("n1", "api"), 0, 2)},
		"a node":                     {sample: sample(Series{Node: "n1"}, 0, 2)},
		"a clock a minute ahead":     {sample: sample(web, -time.Minute, 2)},
		"one more than a minute":     {sample: sample(web, -time.Minute-1, 2), want: Future},
		"the same window again":      {sample: sample(web, 30*time.Second, 1), want: Superseded},
		"an older window":            {sample: sample(web, 45*time.Second, 1), want: Superseded},
		"the oldest that counts":     {sample: sample(container("n1", "api"), TTL, 1)},
		"one that is older":          {sample: sample(container("n1", "api"), TTL+1, 1), want: Stale},
		"NaN":                        {sample: sample(web, 0, math.NaN()), want: NotANumber},
		"infinite":                   {sample: sample(web, 0, math.Inf(1)), want: NotANumber},
		"infinitely little":          {sample: sample(web, 0, math.Inf(-1)), want: NotANumber},
		"negative":                   {sample: sample(web, 0, -0.001), want: Negative},
		"of no node":                 {sample: sample(Series{Namespace: "shop", Pod: "web", Container: "main"}, 0, 1), want: Malformed},
		"of a pod without container": {sample: sample(Series{Node: "n1", Namespace: "shop", Pod: "web"}, 0, 1), want: Malformed},
		"without a time":             {sample: Sample{Series: web, Window: time.Second, Usage: map[corev1.ResourceName]float64{"cpu": 1}}, want: Malformed},
		"without a window":           {sample: Sample{Series: web, Timestamp: now, Usage: map[corev1.ResourceName]float64{"cpu": 1}}, want: Malformed},
		"without usage":              {sample: Sample{Series: web, Timestamp: now, Window: time.Second}, want: Malformed},
		"of another resource":        {sample: Sample{Series: web, Timestamp: now, Window: time.Second, Usage: map[corev1.ResourceName]float64{"gpu": 1}}, want: Malformed},
		"of a pod that is not there": {sample: sample(container("n1", "gone"), 0, 1), known: func(s Series) bool { return s.Pod == "web" }, want: Unknown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := maps.Clone(kept)
			got := Merge(Input{Kept: kept, Batch: []Sample{test.sample}, Known: test.known, Now: now})
			if diff := cmp.Diff(before, kept); diff != "" {
				t.Errorf("the input was altered:\n%s", diff)
			}
			if test.want == "" {
				before[test.sample.Series] = test.sample
				if got.Renewed != 1 || len(got.Dropped) != 0 {
					t.Errorf("%d renewed, %v dropped, want it taken", got.Renewed, got.Dropped)
				}
			} else if diff := cmp.Diff(map[Reason]int{test.want: 1}, got.Dropped); diff != "" {
				t.Errorf("dropped (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, got.Kept); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAFloodTakesNoPlaceAway(t *testing.T) {
	kept := Set{}
	for i := range 10 {
		of := container("n1", fmt.Sprintf("p%d", i))
		kept[of] = sample(of, 30*time.Second, 1)
	}
	var flood []Sample
	for i := range 100_000 {
		flood = append(flood, sample(container(fmt.Sprintf("n%d", i%100), fmt.Sprintf("flood%d", i)), 0, 1))
	}
	for of := range kept {
		flood = append(flood, sample(of, 0, 2))
	}
	got := Merge(Input{Kept: kept, Batch: flood, Now: now})
	if len(got.Kept) != MaxSeries || got.Dropped[ClusterFull] != 100_010-MaxSeries || got.Renewed != MaxSeries {
		t.Errorf("%d kept, %d renewed, %v dropped", len(got.Kept), got.Renewed, got.Dropped)
	}
	for of := range kept {
		if got.Kept[of].Usage[corev1.ResourceCPU] != 2 {
			t.Errorf("%v was not renewed", of)
		}
	}
	one := Merge(Input{Batch: floodOf("n1", 2*MaxSeriesOfNode), Now: now})
	if len(one.Kept) != MaxSeriesOfNode || one.Dropped[NodeFull] != MaxSeriesOfNode {
		t.Errorf("%d kept of one node, %v dropped", len(one.Kept), one.Dropped)
	}
}

func floodOf(node string, n int) []Sample {
	var out []Sample
	for i := range n {
		out = append(out, sample(container(node, fmt.Sprintf("p%d", i)), 0, 1))
	}
	return out
}

func TestWhatIsNotRenewedMakesRoom(t *testing.T) {
	full := Merge(Input{Batch: floodOf("n1", MaxSeriesOfNode), Now: now})
	later := now.Add(TTL + time.Second)
	fresh := sample(container("n1", "new"), 0, 1)
	fresh.Timestamp = later
	got := Merge(Input{Kept: full.Kept, Batch: []Sample{fresh}, Now: later})
	if got.Expired != MaxSeriesOfNode || len(got.Kept) != 1 || got.Renewed != 1 {
		t.Errorf("%d expired, %d kept, %d renewed", got.Expired, len(got.Kept), got.Renewed)
	}
}

func TestTheMeasuredPodsAndNodes(t *testing.T) {
	side := Series{Node: "n1", Namespace: "shop", Pod: "web", Container: "side"}
	memory := sample(side, 20*time.Second, 0.5)
	memory.Usage[corev1.ResourceMemory] = 64 << 20
	set := Merge(Input{Now: now, Batch: []Sample{
		sample(container("n1", "web"), 5*time.Second, 0.25), memory, sample(Series{Node: "n1"}, 0, 3),
		sample(container("n0", "moved"), 40*time.Second, 1), sample(container("n2", "moved"), 10*time.Second, 2),
		sample(Series{Node: "n1", Namespace: "other", Pod: "web", Container: "main"}, 0, 9),
	}}).Kept
	show := func(all map[string]Measured) map[string]string {
		out := map[string]string{}
		for name, m := range all {
			text := fmt.Sprintf("%s before", now.Sub(m.Timestamp))
			for _, c := range slices.Sorted(maps.Keys(m.Containers)) {
				usage := m.Containers[c]
				text += fmt.Sprintf(" %s:%s,%s", c, usage.Cpu(), usage.Memory())
			}
			out[name] = text
		}
		return out
	}
	if diff := cmp.Diff(map[string]string{"web": "20s before main:250m,0 side:500m,64Mi", "moved": "10s before main:2,0"}, show(set.Pods("shop", now))); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"n1": "0s before :3,0"}, show(set.Nodes(now))); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if got := set.Pods("shop", now.Add(TTL)); len(got) != 0 {
		t.Errorf("after %s there are %v", TTL, got)
	}
}

// TestTheOrderOfBatchesIsTheSame merges the samples of few series in any order and any batches: what is kept is the
// newest of each.
func TestTheOrderOfBatchesIsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Sample {
			ago := time.Duration(rapid.IntRange(-90, 240).Draw(t, "ago")) * time.Second
			return sample(container("n1", rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "pod")), ago, ago.Seconds()+100)
		}), 0, 30).Draw(t, "samples")
		want := Set{}
		for _, s := range all {
			if ago := now.Sub(s.Timestamp); ago > TTL || ago < -time.Minute {
				continue
			}
			if last, ok := want[s.Series]; !ok || s.Timestamp.After(last.Timestamp) {
				want[s.Series] = s
			}
		}
		kept, rest := Set{}, rapid.Permutation(all).Draw(t, "order")
		counted := 0
		for len(rest) > 0 {
			n := rapid.IntRange(1, len(rest)).Draw(t, "batch")
			got := Merge(Input{Kept: kept, Batch: rest[:n], Now: now})
			kept, rest = got.Kept, rest[n:]
			counted += got.Renewed
			for _, dropped := range got.Dropped {
				counted += dropped
			}
		}
		if diff := cmp.Diff(want, kept); diff != "" || counted != len(all) {
			t.Fatalf("%d of %d counted, kept (-want +got):\n%s", counted, len(all), diff)
		}
	})
}
