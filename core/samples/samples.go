// Package samples keeps the newest window of each series of usage, out of batches that may come late,
// twice, in any order, from anyone, and in any amount: [Merge] takes a batch to what is kept and says how
// many samples it dropped and why. [Set.Pods] and [Set.Nodes] are what metrics.k8s.io answers from that.
//
// A series that is known keeps its place: a flood of new ones, however large, takes none away. New ones are
// taken in the order of the batch, as long as there is room for them on their node and in the cluster. What
// is not renewed within [TTL] makes room.
package samples

import (
	"maps"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

const (
	// TTL is how long a window counts after its end: what the metrics server asks of kubelets every 15
	// seconds may be missing several times before a pod counts as not measured.
	TTL = 3 * time.Minute
	// maxAhead is how far the clock of a sender may be ahead.
	maxAhead = time.Minute
	// maxWindow is the longest window that still says something about now.
	maxWindow = 10 * time.Minute
	// MaxSeriesOfNode is how many series a node may have: 250 pods of four containers, and its own.
	MaxSeriesOfNode = 1001
	// MaxSeries is how many series a cluster may have, which keeps them within some 30 MB of memory.
	MaxSeries = 50_000
	// maxName is the longest name or namespace, in bytes, as Kubernetes has it.
	maxName = 253
)

// Series is what a sample is of: a container of a pod, or the node if there is no pod.
type Series struct {
	Node, Namespace, Pod, Container string
}

// Sample is the average usage over the Window that ends at Timestamp.
type Sample struct {
	Series    Series
	Timestamp time.Time
	Window    time.Duration
	// Usage of each resource in its unit: cores, bytes.
	Usage map[corev1.ResourceName]float64
}

// Set is the newest sample of each series.
type Set map[Series]Sample

// Reason is why a sample was dropped.
type Reason string

// The reasons, in the order in which they are looked for.
const (
	// Malformed: no series, no usage, a name that none may have, or a window that is none.
	Malformed Reason = "malformed"
	// NotANumber or infinite.
	NotANumber Reason = "not-a-number"
	// Negative usage.
	Negative Reason = "negative"
	// Future windows end more than a minute from now.
	Future Reason = "future"
	// Stale windows ended longer ago than TTL.
	Stale Reason = "stale"
	// Unknown series are of no pod or node that there is.
	Unknown Reason = "unknown"
	// Superseded by one of the series that is newer, or that is it.
	Superseded Reason = "superseded"
	// NodeFull and ClusterFull: there is no room for another series.
	NodeFull    Reason = "node-full"
	ClusterFull Reason = "cluster-full"
)

// Input is a batch and what it comes to.
type Input struct {
	// Kept is what was kept so far. It is not altered.
	Kept  Set
	Batch []Sample
	// Known reports whether what a series is of exists. nil takes every one for known.
	Known func(Series) bool
	Now   time.Time
}

// Result is what a batch made of what was kept.
type Result struct {
	Kept Set
	// Renewed counts the samples that were taken, Expired the series that were let go.
	Renewed, Expired int
	// Dropped counts the samples that were not taken.
	Dropped map[Reason]int
}

// Merge lets go what is older than TTL, or has ceased to be known, and takes the samples of a batch that are
// newer than what is kept. It costs as much as the batch and what is kept are long.
func Merge(in Input) Result {
	out := Result{Kept: make(Set, len(in.Kept)), Dropped: map[Reason]int{}}
	ofNode := map[string]int{}
	for series, sample := range in.Kept {
		if expired(sample, in.Now) || in.Known != nil && !in.Known(series) {
			out.Expired++
			continue
		}
		out.Kept[series] = sample
		ofNode[series.Node]++
	}
	for _, sample := range in.Batch {
		if reason := in.judge(sample, out.Kept, ofNode); reason != "" {
			out.Dropped[reason]++
			continue
		}
		if _, renewed := out.Kept[sample.Series]; !renewed {
			ofNode[sample.Series.Node]++
		}
		sample.Usage = maps.Clone(sample.Usage)
		out.Kept[sample.Series] = sample
		out.Renewed++
	}
	return out
}

func expired(s Sample, now time.Time) bool { return s.Timestamp.Before(now.Add(-TTL)) }

// judge is why a sample is not taken, empty if it is.
func (in Input) judge(s Sample, kept Set, ofNode map[string]int) Reason {
	if reason := invalid(s); reason != "" {
		return reason
	}
	switch {
	case s.Timestamp.After(in.Now.Add(maxAhead)):
		return Future
	case expired(s, in.Now):
		return Stale
	case in.Known != nil && !in.Known(s.Series):
		return Unknown
	}
	last, found := kept[s.Series]
	switch {
	case found && !s.Timestamp.After(last.Timestamp):
		return Superseded
	case !found && ofNode[s.Series.Node] >= MaxSeriesOfNode:
		return NodeFull
	case !found && len(kept) >= MaxSeries:
		return ClusterFull
	}
	return ""
}

// names reports whether a series is one: of a container of a pod, or of a node.
func (s Series) names() bool {
	pod := s.Pod != "" && s.Namespace != "" && s.Container != ""
	node := s.Pod == "" && s.Namespace == "" && s.Container == ""
	return s.Node != "" && (pod || node) && max(len(s.Node), len(s.Namespace), len(s.Pod), len(s.Container)) <= maxName
}

// invalid is why a sample can never be taken.
func invalid(s Sample) Reason {
	if !s.Series.names() || s.Timestamp.IsZero() || s.Window <= 0 || s.Window > maxWindow || len(s.Usage) == 0 {
		return Malformed
	}
	reason := Reason("")
	for name, value := range s.Usage {
		switch {
		case name != corev1.ResourceCPU && name != corev1.ResourceMemory:
			return Malformed
		case math.IsNaN(value) || math.IsInf(value, 0):
			reason = NotANumber
		case value < 0 && reason == "":
			reason = Negative
		}
	}
	return reason
}

// Measured is the usage of a pod by its containers, or of a node, over a window of time.
type Measured struct {
	// Timestamp and Window are those of the container whose window ended first.
	Timestamp time.Time
	Window    time.Duration
	// Containers of a pod by name; of a node there is one without a name.
	Containers map[string]corev1.ResourceList
}

// Pods are the pods of a namespace, by name, that have been measured within TTL.
func (s Set) Pods(namespace string, now time.Time) map[string]Measured {
	return s.measured(now, func(id Series) (string, bool) { return id.Pod, id.Pod != "" && id.Namespace == namespace })
}

// Nodes are the nodes, by name, that have been measured within TTL.
func (s Set) Nodes(now time.Time) map[string]Measured {
	return s.measured(now, func(id Series) (string, bool) { return id.Node, id.Pod == "" })
}

// measured gathers series by the name that they are of. If a container was seen on two nodes, since a pod of
// its name was made again elsewhere, the newer counts.
func (s Set) measured(now time.Time, of func(Series) (string, bool)) map[string]Measured {
	newest := map[string]map[string]Sample{}
	for id, sample := range s {
		name, ok := of(id)
		if !ok || expired(sample, now) {
			continue
		}
		if newest[name] == nil {
			newest[name] = map[string]Sample{}
		}
		if last, found := newest[name][id.Container]; !found || newer(sample, last) {
			newest[name][id.Container] = sample
		}
	}
	out := make(map[string]Measured, len(newest))
	for name, samples := range newest {
		m := Measured{Containers: map[string]corev1.ResourceList{}}
		for container, sample := range samples {
			m.Containers[container] = quantities(sample.Usage)
			if m.Timestamp.IsZero() || sample.Timestamp.Before(m.Timestamp) || sample.Timestamp.Equal(m.Timestamp) && sample.Window > m.Window {
				m.Timestamp, m.Window = sample.Timestamp, sample.Window
			}
		}
		out[name] = m
	}
	return out
}

func newer(a, b Sample) bool {
	return a.Timestamp.After(b.Timestamp) || a.Timestamp.Equal(b.Timestamp) && a.Series.Node > b.Series.Node
}

// quantities are usage as the metrics server writes it: billionths of cores, and bytes.
func quantities(usage map[corev1.ResourceName]float64) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, value := range usage {
		if name == corev1.ResourceCPU {
			out[name] = *resource.NewScaledQuantity(whole(value*1e9), resource.Nano)
		} else {
			out[name] = *resource.NewQuantity(whole(value), resource.BinarySI)
		}
	}
	return out
}

// whole rounds to a number that an int64 holds.
func whole(value float64) int64 {
	if value >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(math.Round(value))
}
