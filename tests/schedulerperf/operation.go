package schedulerperf

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// operation is a step of a workload with its parameters filled in. The fields of each kind are those of upstream's
// (operations.go, update.go, dra.go and executor.go of scheduler_perf), by the same names in the files.
type operation interface {
	run(ctx context.Context, e *executor, index int) error
	// objects are examples of what the operation makes, the first of each kind.
	objects(w *Workload) ([]runtime.Object, error)
}

// kinds are the operations that are known.
var kinds = map[string]func() operation{
	"allocResourceClaims":    func() operation { return &allocResourceClaims{} },
	"barrier":                func() operation { return &barrier{} },
	"churn":                  func() operation { return &churn{} },
	"createAny":              func() operation { return &createAny{Count: 1} },
	"createNamespaces":       func() operation { return &createNamespaces{} },
	"createNodes":            func() operation { return &createNodes{} },
	"createPodGroups":        func() operation { return &createPodGroups{} },
	"createPods":             func() operation { return &createPods{CountMultiplier: 1} },
	"createResourceClaims":   func() operation { return &createResourceClaims{} },
	"deletePods":             func() operation { return &deletePods{} },
	"sleep":                  func() operation { return &sleep{} },
	"startCollectingMetrics": func() operation { return &startCollecting{} },
	"stopCollectingMetrics":  func() operation { return &stopCollecting{} },
	"updateAny":              func() operation { return &updateAny{Count: 1} },
}

// operations fills the workload's parameters into its test case's template. It fails, among others, when an operation or one
// of its fields is unknown, a parameter is not given, or one is given that no operation asks for.
//
// Upstream: unrollWorkloadTemplate and the end of runWorkload in scheduler_perf.go.
func (w *Workload) operations() ([]operation, error) {
	used := map[string]bool{}
	var all []operation
	for i, raw := range w.testCase.WorkloadTemplate {
		var fields map[string]any
		if err := json.Unmarshal(raw, &fields); err != nil {
			return nil, fmt.Errorf("operation %d: %w", i, err)
		}
		expanded, err := w.expand(fields, used)
		if err != nil {
			return nil, fmt.Errorf("operation %d: %w", i, err)
		}
		all = append(all, expanded...)
	}
	if unused := slices.DeleteFunc(slices.Sorted(maps.Keys(w.Params)), func(name string) bool { return used[name] }); len(unused) > 0 {
		return nil, fmt.Errorf("no operation asks for the parameters %q: they are for code of upstream's test", unused)
	}
	return all, nil
}

// expand makes the operations that one of the template stands for: one, or several of createPodSets.
func (w *Workload) expand(fields map[string]any, used map[string]bool) ([]operation, error) {
	fields, err := w.fill(fields, used)
	if err != nil {
		return nil, err
	}
	if fields["opcode"] != "createPodSets" {
		op, err := decode(fields)
		return []operation{op}, err
	}
	var sets struct {
		Opcode          string
		Count           int
		NamespacePrefix string
		CreatePodsOp    map[string]any
	}
	if err := strictly(fields, &sets); err != nil {
		return nil, err
	}
	var all []operation
	for i := range sets.Count {
		each := maps.Clone(sets.CreatePodsOp)
		each["namespace"] = fmt.Sprintf("%s-%d", sets.NamespacePrefix, i)
		op, err := decode(each)
		if err != nil {
			return nil, err
		}
		all = append(all, op)
	}
	return all, nil
}

// fill puts the value of a parameter in the place of each field countParam, durationParam, ..., and of each of templateParams
// that names one.
func (w *Workload) fill(fields map[string]any, used map[string]bool) (map[string]any, error) {
	out := map[string]any{}
	for name, value := range fields {
		text, isText := value.(string)
		nested, isMap := value.(map[string]any)
		var err error
		switch plain, isParam := strings.CutSuffix(name, "Param"); {
		case isParam && isText && strings.HasPrefix(text, "$"):
			name = plain
			value, err = w.parameter(text, used)
		case name == "templateParams" && isMap:
			value, err = w.templateParameters(nested, used)
		case name == "createPodsOp" && isMap:
			value, err = w.fill(nested, used)
		}
		if err != nil {
			return nil, err
		}
		out[name] = value
	}
	return out, nil
}

func (w *Workload) parameter(reference string, used map[string]bool) (any, error) {
	name := strings.TrimPrefix(reference, "$")
	value, given := w.Params[name]
	if !given {
		return nil, fmt.Errorf("parameter %s is not given", name)
	}
	used[name] = true
	return value, nil
}

// templateParameters resolves "$name" and "$name|default", the default being YAML.
//
// Upstream: resolveTemplateParams in operations.go.
func (w *Workload) templateParameters(params map[string]any, used map[string]bool) (map[string]any, error) {
	out := maps.Clone(params)
	for key, value := range params {
		text, isText := value.(string)
		if !isText || !strings.HasPrefix(text, "$") {
			continue
		}
		reference, preset, hasPreset := strings.Cut(text, "|")
		resolved, err := w.parameter(reference, used)
		if err != nil && hasPreset {
			if err := yaml.Unmarshal([]byte(preset), &resolved); err != nil {
				return nil, fmt.Errorf("default of %s: %w", text, err)
			}
		} else if err != nil {
			return nil, err
		}
		out[key] = resolved
	}
	return out, nil
}

func decode(fields map[string]any) (operation, error) {
	code, _ := fields["opcode"].(string)
	kind, known := kinds[code]
	if !known {
		return nil, fmt.Errorf("operation %q is unknown", code)
	}
	op := kind()
	if err := strictly(fields, op); err != nil {
		return nil, fmt.Errorf("%s: %w", code, err)
	}
	return op, nil
}

// strictly decodes as upstream does, refusing fields that are not known.
func strictly(fields map[string]any, into any) error {
	raw, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// code is embedded in every operation: the field that says which it is.
type code struct{ Opcode string }

func (code) objects(*Workload) ([]runtime.Object, error) { return nil, nil }

// sleep lets time pass.
type sleep struct {
	code
	Duration metav1.Duration
}

func (o *sleep) run(ctx context.Context, _ *executor, _ int) error {
	return pause(ctx, o.Duration.Duration)
}
