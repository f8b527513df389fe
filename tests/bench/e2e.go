package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/zeroplane/zeroplane/tests/schedulerperf"
	"github.com/zeroplane/zeroplane/tests/upstream"
	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

const (
	// e2eRatio is what the plain workload is asked for: three times upstream's pods per second.
	e2eRatio = 1.0 / 3
	// e2eShare of our own plain workload's pods per second is what the others are asked for.
	e2eShare = 0.8
)

// e2eWorkloads are those of upstream's scheduler_perf that both sides run, the plain one first, each in its full and its quick size.
var e2eWorkloads = [][2]string{
	{"SchedulingBasic/5000Nodes_10000Pods", "SchedulingBasic/500Nodes"},
	{"TopologySpreading/5000Nodes_5000Pods", "TopologySpreading/500Nodes"},
	{"PreferredTopologySpreading/5000Nodes_5000Pods", "PreferredTopologySpreading/500Nodes"},
	{"SchedulingPodAffinity/5000Nodes_5000Pods", "SchedulingPodAffinity/500Nodes"},
	{"SchedulingPodAntiAffinity/5000Nodes_2000Pods", "SchedulingPodAntiAffinity/500Nodes"},
}

// measureE2E is upstream's own benchmark of scheduling, from the creation of pods to the events that give them nodes.
func measureE2E(ctx context.Context, p platform, s sizes) ([]value, error) {
	root, err := schedulerperf.Find(ctx)
	if err != nil {
		return nil, err
	}
	all, err := schedulerperf.Load(root)
	if err != nil {
		return nil, err
	}
	var values []value
	asked := ask{ratio: e2eRatio}
	for i, ids := range e2eWorkloads {
		w, err := schedulerperf.Select(all, ids[s.e2e])
		if err != nil {
			return nil, err
		}
		progress("%s: e2e: %s", p.name(), w.ID())
		got, err := p.schedulerPerf(ctx, root, w, false)
		if err != nil {
			return nil, err
		}
		values = append(values,
			value{name: w.ID(), unit: "pods/s", amount: got.PodsPerSecond(), more: true, ask: asked},
			value{name: w.ID() + ": first created to last bound", unit: "pods/s", amount: got.Overall, more: true})
		if i > 0 || p.name() != target.Zeroplane {
			continue
		}
		// What the others are asked for is known now; only we have to answer for it.
		asked = ask{amount: math.Round(e2eShare * got.PodsPerSecond())}
		if got, err = p.schedulerPerf(ctx, root, w, true); err != nil {
			return nil, err
		}
		values = append(values, value{name: w.ID() + ": creation alone", unit: "pods/s", amount: got.Created, more: true})
	}
	return values, nil
}

func (p *zeroplanePlatform) schedulerPerf(
	ctx context.Context, _ string, w *schedulerperf.Workload, createOnly bool,
) (got schedulerperf.Throughput, err error) {
	err = schedulerperf.OnServer(ctx, target.ServerOptions{Binary: p.binary}, "", func(kubeconfig string) error {
		results, err := schedulerperf.Run(ctx, w, schedulerperf.Options{Kubeconfig: kubeconfig, CreateOnly: createOnly})
		if err == nil && len(results) != 1 {
			err = fmt.Errorf("%s measured %d times", w.ID(), len(results))
		}
		if err == nil {
			got = results[0]
		}
		return err
	})
	return got, err
}

// schedulerPerf runs upstream's benchmark binary, which starts etcd, and has API server and scheduler in itself.
func (p *upstreamPlatform) schedulerPerf(
	ctx context.Context, root string, w *schedulerperf.Workload, _ bool,
) (got schedulerperf.Throughput, err error) {
	name := "scheduler_perf." + w.Folder()
	binaries, err := upstream.Binaries(ctx, upstream.Etcd, name)
	if err != nil {
		return got, err
	}
	dir, err := os.MkdirTemp("", "bench-e2e-")
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// It reads its definitions and templates from where it runs, and would write there.
	if err := copyTree(root, filepath.Join(dir, "scheduler_perf")); err != nil {
		return got, err
	}
	data := filepath.Join(dir, "data")
	log, err := os.Create(filepath.Join(dir, "log")) // #nosec G304 -- in our own folder
	if err != nil {
		return got, err
	}
	defer func() { _ = log.Close() }()
	testCase, workload, _ := strings.Cut(w.ID(), "/")
	command := exec.CommandContext(ctx, filepath.Join(binaries, name), // #nosec G204 -- what was built
		"-test.run=^$", "-test.benchtime=1x", "-test.timeout=1h",
		fmt.Sprintf("-test.bench=^BenchmarkPerfScheduling$/^%s$/^%s$", regexp.QuoteMeta(testCase), regexp.QuoteMeta(workload)),
		"-perf-scheduling-label-filter=", "-data-items-dir="+data)
	command.Dir = filepath.Join(dir, "scheduler_perf", w.Folder())
	command.Env = append(os.Environ(),
		"PATH="+binaries+string(os.PathListSeparator)+os.Getenv("PATH"), "TMPDIR="+dir, "KUBE_CACHE_MUTATION_DETECTOR=false")
	command.Stdout, command.Stderr = log, log
	// etcd is to end with it.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	if err := command.Run(); err != nil {
		return got, fmt.Errorf("%s: %w\n%s", w.ID(), err, lastOf(log.Name()))
	}
	return readDataItems(data, w)
}

// readDataItems reads what upstream's collectors wrote.
func readDataItems(dir string, w *schedulerperf.Workload) (got schedulerperf.Throughput, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) != 1 {
		return got, errors.Join(err, fmt.Errorf("%s left %d files of figures", w.ID(), len(files)))
	}
	content, err := os.ReadFile(files[0]) // #nosec G304 -- in our own folder
	if err != nil {
		return got, err
	}
	var figures struct {
		DataItems []struct {
			Data   map[string]float64
			Labels map[string]string
		}
	}
	if err := json.Unmarshal(content, &figures); err != nil {
		return got, fmt.Errorf("figures of %s: %w", w.ID(), err)
	}
	for _, item := range figures.DataItems {
		switch item.Labels["Metric"] {
		case "SchedulingThroughput":
			got.Samples, got.Average = 1, item.Data["Average"]
		case "SchedulingDuration":
			pods, _ := w.Params["measurePods"].(float64)
			got.Overall = pods / item.Data["Duration"]
		}
	}
	if got.Overall == 0 {
		return got, fmt.Errorf("%s has no figures", w.ID())
	}
	return got, nil
}

// copyTree copies files that may be read-only into a folder that is not.
func copyTree(from, to string) error {
	source := os.DirFS(from)
	return fs.WalkDir(source, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, path), 0o700)
		}
		content, err := fs.ReadFile(source, path)
		if err != nil {
			return err
		}
		if entry.Name() == "performance-config.yaml" {
			content = threshold.ReplaceAll(content, []byte("threshold: 0"))
		}
		return os.WriteFile(filepath.Join(to, path), content, 0o600)
	})
}

// threshold is what upstream asks of a workload on its own machines: on a slower one its benchmark would fail.
var threshold = regexp.MustCompile(`threshold: [0-9.]+`)

// lastOf is how a log ends.
func lastOf(path string) string {
	const most = 4000
	f, err := os.Open(path) // #nosec G304 -- in our own folder
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	content, _ := io.ReadAll(f)
	return string(content)
}
