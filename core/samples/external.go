package samples

import (
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
)

const (
	// MaxExternal is how many series of external metrics a [Values] holds.
	MaxExternal = 500
	// MaxExternalBytes bounds the names and labels of a series, so that MaxExternal of them fit in a row of 960
	// KiB however they are written.
	MaxExternalBytes = 512
)

// Value is one of an external metric, as external.metrics.k8s.io has it.
type Value struct {
	// Namespace is the one that may use the metric; all may if it is empty.
	Namespace string
	Metric    string
	Labels    map[string]string
	Timestamp time.Time
	// Window is 0 when the value is of an instant.
	Window time.Duration
	Value  resource.Quantity
}

// Values is the newest value of each series, by [Value.Series].
type Values map[string]Value

// Series tells the series of a value from others, as text.
func (v Value) Series() string {
	parts := []string{v.Namespace, v.Metric}
	for _, key := range slices.Sorted(maps.Keys(v.Labels)) {
		parts = append(parts, key, v.Labels[key])
	}
	return strings.Join(parts, "\x00")
}

// Allowed reports whether those of a namespace may use the value.
func (v Value) Allowed(namespace string) bool { return v.Namespace == "" || v.Namespace == namespace }

// ValuesInput is a batch of values and what it comes to.
type ValuesInput struct {
	// Kept is what was kept so far. It is not altered.
	Kept  Values
	Batch []Value
	// Known reports whether a namespace exists.
	Known func(namespace string) bool
	Now   time.Time
}

// ValuesResult is what a batch made of what was kept. The counts are those of [Result].
type ValuesResult struct {
	Kept             Values
	Renewed, Expired int
	Dropped          map[Reason]int
}

// MergeValues does with external metrics what [Merge] does with usage.
func MergeValues(in ValuesInput) ValuesResult {
	out := ValuesResult{Kept: make(Values, len(in.Kept)), Dropped: map[Reason]int{}}
	for series, value := range in.Kept {
		if in.stale(value) || !in.known(value) {
			out.Expired++
			continue
		}
		out.Kept[series] = value
	}
	for _, value := range in.Batch {
		if reason := in.judge(value, out.Kept); reason != "" {
			out.Dropped[reason]++
			continue
		}
		out.Kept[value.Series()] = value
		out.Renewed++
	}
	return out
}

func (in ValuesInput) stale(v Value) bool { return v.Timestamp.Before(in.Now.Add(-TTL)) }

func (in ValuesInput) known(v Value) bool { return v.Namespace == "" || in.Known(v.Namespace) }

// judge is why a value is not taken, empty if it is.
func (in ValuesInput) judge(v Value, kept Values) Reason {
	series := v.Series()
	switch {
	case v.Metric == "" || v.Timestamp.IsZero() || v.Window < 0 || v.Window > maxWindow || len(series) > MaxExternalBytes:
		return Malformed
	case v.Value.Sign() < 0:
		return Negative
	case v.Timestamp.After(in.Now.Add(maxAhead)):
		return Future
	case in.stale(v):
		return Stale
	case !in.known(v):
		return Unknown
	}
	last, found := kept[series]
	switch {
	case found && !v.Timestamp.After(last.Timestamp):
		return Superseded
	case !found && len(kept) >= MaxExternal:
		return ClusterFull
	}
	return ""
}

// Select returns the values of a metric that those of a namespace may use and that a selector matches, in the
// order of their series. Those that are older than TTL are left out.
func (s Values) Select(namespace, metric string, selector labels.Selector, now time.Time) []resource.Quantity {
	var out []resource.Quantity
	for _, series := range slices.Sorted(maps.Keys(s)) {
		v := s[series]
		if v.Metric == metric && v.Allowed(namespace) && !v.Timestamp.Before(now.Add(-TTL)) && selector.Matches(labels.Set(v.Labels)) {
			out = append(out, v.Value)
		}
	}
	return out
}
