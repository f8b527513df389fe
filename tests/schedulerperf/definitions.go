package schedulerperf

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// configName is the name of the file of definitions in each of upstream's folders.
const configName = "performance-config.yaml"

// TestCase is a template of operations and the workloads that fill it in.
//
// Upstream: testCase in scheduler_perf.go.
type TestCase struct {
	Name                   string
	FeatureGates           map[string]bool
	WorkloadTemplate       []json.RawMessage
	Workloads              []*Workload
	SchedulerConfigPath    string
	DefaultPodTemplatePath string
	Labels                 []string
	// What says which of kube-scheduler's metrics are collected, and compared: not looked at.
	MetricsCollectorConfig         json.RawMessage
	DefaultThresholdMetricSelector json.RawMessage
}

// Workload is one set of parameters of a test case.
//
// Upstream: Workload in scheduler_perf.go.
type Workload struct {
	Name         string
	Params       map[string]any
	Labels       []string
	FeatureGates map[string]bool
	// Threshold is what upstream asks of its own machines: not looked at.
	Threshold               json.RawMessage
	ThresholdMetricSelector json.RawMessage

	testCase *TestCase
	// folder is upstream's, relative to scheduler_perf; dir is the same on this machine.
	folder, dir string
}

// ID is the name by which upstream's benchmarks know the workload.
func (w *Workload) ID() string { return w.testCase.Name + "/" + w.Name }

// Folder is that of the definition, "misc" or "dra/devicetaints", which is the package of upstream's benchmark.
func (w *Workload) Folder() string { return w.folder }

// Has reports whether the workload, or its test case, has a label.
func (w *Workload) Has(label string) bool {
	return slices.Contains(w.Labels, label) || slices.Contains(w.testCase.Labels, label)
}

// AllLabels are the labels of the workload and its test case.
func (w *Workload) AllLabels() []string {
	return slices.Sorted(slices.Values(append(slices.Clone(w.testCase.Labels), w.Labels...)))
}

// Gates are the feature gates that the workload sets, those of its test case included.
func (w *Workload) Gates() map[string]bool {
	gates := maps.Clone(w.testCase.FeatureGates)
	if gates == nil {
		gates = map[string]bool{}
	}
	maps.Copy(gates, w.FeatureGates)
	return gates
}

// Find gives upstream's folder of definitions, in the module cache.
func Find(ctx context.Context) (string, error) {
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	list.Env = append(os.Environ(), "GOFLAGS=")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return "", fmt.Errorf("finding k8s.io/kubernetes: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "test", "integration", "scheduler_perf"), nil
}

// Load reads every definition below a folder, in the order of their paths.
func Load(root string) ([]*Workload, error) {
	var all []*Workload
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != configName {
			return err
		}
		found, err := loadFile(root, path)
		all = append(all, found...)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no %s below %s", configName, root)
	}
	return all, nil
}

func loadFile(root, path string) ([]*Workload, error) {
	content, err := os.ReadFile(path) // #nosec G304 -- upstream's
	if err != nil {
		return nil, err
	}
	var cases []*TestCase
	if err := yaml.UnmarshalStrict(content, &cases); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	folder, err := filepath.Rel(root, filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	var all []*Workload
	for _, tc := range cases {
		for _, w := range tc.Workloads {
			w.testCase, w.folder, w.dir = tc, folder, filepath.Dir(path)
			all = append(all, w)
		}
	}
	return all, nil
}

// Select gives the one workload of that name.
func Select(all []*Workload, id string) (*Workload, error) {
	for _, w := range all {
		if w.ID() == id {
			return w, nil
		}
	}
	return nil, fmt.Errorf("no workload is called %s", id)
}

// Matches applies a filter of labels as upstream's: comma-separated, each that must be there, or must not with a "-" before it.
//
// Upstream: enabled in label_selector.go.
func (w *Workload) Matches(filter string) bool {
	for label := range strings.SplitSeq(filter, ",") {
		name, without := strings.CutPrefix(strings.TrimPrefix(label, "+"), "-")
		if name != "" && w.Has(name) == without {
			return false
		}
	}
	return true
}
