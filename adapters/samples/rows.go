package samples

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/zeroplane/zeroplane/adapters/table"
	"github.com/zeroplane/zeroplane/core/samples"
)

// Group is the last part of the name of the partition, beside the groups of logs.
const Group = "metrics"

// Row keys of the partition. Functions/metrics keeps rows of its own in it.
const (
	nodeClass, nodeEnd = "n-", "n."
	externalClass      = "x-"
	// externalRows hold external metrics, each metric in the one that its name says: 8,000 series together.
	externalRows = 16
)

func nodeKey(node string) string { return nodeClass + node }

func externalKey(metric string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(metric)) // cannot fail
	return fmt.Sprintf("%s%02x", externalClass, h.Sum32()%externalRows)
}

// nodeRow is the value of a node's row.
type nodeRow struct {
	Node *usage   `json:"node,omitempty"`
	Pods []podRow `json:"pods,omitempty"`
}

type podRow struct {
	Namespace  string           `json:"ns"`
	Name       string           `json:"name"`
	Containers map[string]usage `json:"c"`
}

// usage is a sample: Unix nanoseconds of the end of the window, its length in nanoseconds, cores, bytes.
type usage struct {
	At     int64    `json:"t"`
	Window int64    `json:"w"`
	CPU    *float64 `json:"cpu,omitempty"`
	Memory *float64 `json:"mem,omitempty"`
}

// externalRow is the value of a row of external metrics.
type externalRow struct {
	Series []externalValue `json:"series"`
}

type externalValue struct {
	Namespace string            `json:"ns,omitempty"`
	Metric    string            `json:"name"`
	Labels    map[string]string `json:"labels,omitempty"`
	At        int64             `json:"t"`
	Window    int64             `json:"w,omitempty"`
	Value     string            `json:"v"`
}

// encode writes JSON without escapes for browsers, which would make a row longer than its bounds say.
func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding samples: %w", err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

func encodeNode(set samples.Set) ([]byte, error) {
	var row nodeRow
	pods := map[string]*podRow{}
	for id, s := range set {
		u := usage{At: s.Timestamp.UnixNano(), Window: int64(s.Window)}
		if cpu, ok := s.Usage[corev1.ResourceCPU]; ok {
			u.CPU = &cpu
		}
		if memory, ok := s.Usage[corev1.ResourceMemory]; ok {
			u.Memory = &memory
		}
		if id.Pod == "" {
			row.Node = &u
			continue
		}
		key := id.Namespace + "/" + id.Pod
		if pods[key] == nil {
			pods[key] = &podRow{Namespace: id.Namespace, Name: id.Pod, Containers: map[string]usage{}}
		}
		pods[key].Containers[id.Container] = u
	}
	for _, p := range pods {
		row.Pods = append(row.Pods, *p)
	}
	slices.SortFunc(row.Pods, func(a, b podRow) int { return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name) })
	return encode(row)
}

// decodeNode adds the samples of a row to a set. It fails with table.ErrCorrupt.
func decodeNode(row table.Row, set samples.Set) error {
	var r nodeRow
	if err := json.Unmarshal(row.Value, &r); err != nil {
		return fmt.Errorf("%w: row %q: %w", table.ErrCorrupt, row.Key, err)
	}
	node := strings.TrimPrefix(row.Key, nodeClass)
	add := func(id samples.Series, u usage) {
		s := samples.Sample{Series: id, Timestamp: time.Unix(0, u.At).UTC(), Window: time.Duration(u.Window), Usage: map[corev1.ResourceName]float64{}}
		if u.CPU != nil {
			s.Usage[corev1.ResourceCPU] = *u.CPU
		}
		if u.Memory != nil {
			s.Usage[corev1.ResourceMemory] = *u.Memory
		}
		set[id] = s
	}
	if r.Node != nil {
		add(samples.Series{Node: node}, *r.Node)
	}
	for _, p := range r.Pods {
		for name, u := range p.Containers {
			add(samples.Series{Node: node, Namespace: p.Namespace, Pod: p.Name, Container: name}, u)
		}
	}
	return nil
}

func encodeExternal(values samples.Values) ([]byte, error) {
	row := externalRow{Series: []externalValue{}}
	for _, v := range values {
		row.Series = append(row.Series, externalValue{
			Namespace: v.Namespace, Metric: v.Metric, Labels: v.Labels, At: v.Timestamp.UnixNano(), Window: int64(v.Window), Value: v.Value.String(),
		})
	}
	slices.SortFunc(row.Series, func(a, b externalValue) int { return strings.Compare(a.series(), b.series()) })
	return encode(row)
}

func (e externalValue) series() string {
	return samples.Value{Namespace: e.Namespace, Metric: e.Metric, Labels: e.Labels}.Series()
}

// decodeExternal fails with table.ErrCorrupt.
func decodeExternal(row table.Row) (samples.Values, error) {
	var r externalRow
	if err := json.Unmarshal(row.Value, &r); err != nil {
		return nil, fmt.Errorf("%w: row %q: %w", table.ErrCorrupt, row.Key, err)
	}
	out := samples.Values{}
	for _, e := range r.Series {
		quantity, err := resource.ParseQuantity(e.Value)
		if err != nil {
			return nil, fmt.Errorf("%w: row %q: %w", table.ErrCorrupt, row.Key, err)
		}
		v := samples.Value{
			Namespace: e.Namespace, Metric: e.Metric, Labels: e.Labels,
			Timestamp: time.Unix(0, e.At).UTC(), Window: time.Duration(e.Window), Value: quantity,
		}
		out[v.Series()] = v
	}
	return out, nil
}

// CheckRow returns why a row of the partition cannot be one of this package's, and whether its key is of one.
func CheckRow(row table.Row) (ours bool, err error) {
	switch {
	case strings.HasPrefix(row.Key, nodeClass):
		return true, decodeNode(row, samples.Set{})
	case strings.HasPrefix(row.Key, externalClass):
		values, err := decodeExternal(row)
		for _, v := range values {
			if want := externalKey(v.Metric); err == nil && want != row.Key {
				err = fmt.Errorf("the metric %q belongs into the row %q", v.Metric, want)
			}
		}
		return true, err
	}
	return false, nil
}
