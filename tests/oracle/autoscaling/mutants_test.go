package autoscaling_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	coreDir   = "core/autoscaling"
	mutantEnv = "ZEROPLANE_AUTOSCALING_MUTANT"
	// mutantSeeds is with how many seeds a mutant may survive.
	mutantSeeds = 5
)

// mutation is a rule of the core that is broken. All are compiled into one binary, and the environment says
// which one is in force, as SWITCH in the new text.
type mutation struct {
	// file of the core, in which old is there exactly once.
	file, old, new string
}

var mutations = map[string]mutation{
	"the tolerance ends below its bound":               {"calculator.go", "1-t.Down <= ratio", "(1-t.Down < ratio || 1-t.Down == ratio && !SWITCH)"},
	"the tolerance of the autoscaler is ignored":       {"calculator.go", "if behavior == nil {", "if behavior == nil || SWITCH {"},
	"up and down have one tolerance":                   {"calculator.go", "t.Up = rules.Tolerance", "if SWITCH {\n\t\t\tt.Down = rules.Tolerance.AsApproximateFloat64()\n\t\t}\n\t\tt.Up = rules.Tolerance"},
	"missing pods are idle on the way down":            {"calculator.go", "case ratio < 1:", "case ratio < 1 && !SWITCH:"},
	"missing pods are left out on the way up":          {"calculator.go", "case ratio > 1:", "case ratio > 1 && !SWITCH:"},
	"missing pods use 100% at most":                    {"calculator.go", "int64(max(100, target))", "int64(either(SWITCH, 100, max(100, target)))"},
	"unready pods are left out on the way up":          {"calculator.go", "	if ratio > 1 {", "	if ratio > 1 && !SWITCH {"},
	"a change may turn round":                          {"calculator.go", "if after < 1 && replicas > current || after > 1 && replicas < current {", "if !SWITCH && (after < 1 && replicas > current || after > 1 && replicas < current) {"},
	"replicas are rounded down":                        {"calculator.go", "return int32(math.Ceil(n))", "if SWITCH {\n\t\treturn int32(n)\n\t}\n\treturn int32(math.Ceil(n))"},
	"sums run over":                                    {"calculator.go", "if value > 0 && total > math.MaxInt64-value {", "if !SWITCH && value > 0 && total > math.MaxInt64-value {"},
	"pods that go are counted":                         {"pods.go", "case pod.DeletionTimestamp != nil ||", "case pod.DeletionTimestamp != nil && !SWITCH ||"},
	"pending pods are missing":                         {"pods.go", "case pod.Status.Phase == corev1.PodPending:", "case pod.Status.Phase == corev1.PodPending && !SWITCH:"},
	"pods start for half as long":                      {"pods.go", "began.Add(cpuInitialization)", "began.Add(either(SWITCH, cpuInitialization/2, cpuInitialization))"},
	"a window may have begun before the pod was ready": {"pods.go", "sample.Timestamp.Before(changed.Add(sample.Window))", "(!SWITCH && sample.Timestamp.Before(changed.Add(sample.Window)))"},
	"pods that were ready count as starting":           {"pods.go", "return unready && began", "return unready && SWITCH || unready && began"},
	"memory waits for readiness too":                   {"pods.go", "case name == corev1.ResourceCPU &&", "case (name == corev1.ResourceCPU || SWITCH) &&"},
	"sidecars request nothing":                         {"pods.go", "if c.RestartPolicy != nil &&", "if !SWITCH && c.RestartPolicy != nil &&"},
	"pod-level requests are ignored":                   {"pods.go", `if container == "" &&`, `if !SWITCH && container == "" &&`},
	"pods that do not run are ready":                   {"pods.go", "pod.Status.Phase == corev1.PodRunning &&", "(pod.Status.Phase == corev1.PodRunning || SWITCH) &&"},
	"some invalid metrics take replicas away":          {"metrics.go", "most.replicas < d.in.Scale.SpecReplicas)", "most.replicas < d.in.Scale.SpecReplicas && !SWITCH)"},
	"the last metric counts":                           {"metrics.go", "if most.replicas == 0 ||", "if SWITCH || most.replicas == 0 ||"},
	"memory is written in decimal":                     {"metrics.go", "if name == corev1.ResourceMemory {", "if name == corev1.ResourceMemory && !SWITCH {"},
	"a selector may be another's":                      {"selector.go", "if len(found) == 0 {", "if len(found) == 0 || SWITCH {"},
	"a new autoscaler remembers nothing":               {"state.go", "if len(s.Recommendations) == 0 {", "if len(s.Recommendations) == 0 && !SWITCH {"},
	"scalings are not remembered":                      {"state.go", "case behavior == nil:", "case behavior == nil || SWITCH:"},
	"scalings that count are replaced":                 {"state.go", "if list[i].At.Before(cutoff) {", "if list[i].At.Before(cutoff) || SWITCH {"},
	"the window is shorter":                            {"limits.go", "now.Add(-downscaleStabilization)", "now.Add(-either(SWITCH, downscaleStabilization-45*time.Second, downscaleStabilization))"},
	"the window leaves out its first moment":           {"limits.go", "if r.At.Before(cutoff) {", "if r.At.Before(cutoff) || SWITCH && r.At.Equal(cutoff) {"},
	"there is no limit of a step":                      {"limits.go", "; most > limit {", "; most > limit && !SWITCH {"},
	"windows of behavior include their first moment":   {"behavior.go", "if r.At.After(downCutoff) {", "if r.At.After(downCutoff) || SWITCH && r.At.Equal(downCutoff) {"},
	"the window up is ignored":                         {"behavior.go", "if r.At.After(upCutoff) {", "if r.At.After(upCutoff) && !SWITCH {"},
	"percentages are rounded down":                     {"behavior.go", "int32(math.Ceil(float64(start) * (1 + float64(policy.Value)/100)))", "int32(math.Ceil(float64(start)*(1+float64(policy.Value)/100)) - either(SWITCH, 1.0, 0))"},
	"policies forget scalings the other way":           {"behavior.go", " + changes(s.ScaleDowns, cutoff)", " + either(SWITCH, 0, changes(s.ScaleDowns, cutoff))"},
	"policies include the first moment of a period":    {"behavior.go", "if s.At.After(cutoff) {", "if s.At.After(cutoff) || SWITCH && s.At.Equal(cutoff) {"},
	"what is disabled may grow":                        {"behavior.go", "choose, out := larger, int32(math.MinInt32)\n	switch *rules.SelectPolicy {\n	case autoscalingv2.DisabledPolicySelect:\n		return l.current", "choose, out := larger, int32(math.MinInt32)\n	switch *rules.SelectPolicy {\n	case autoscalingv2.DisabledPolicySelect:\n		if SWITCH {\n\t\t\treturn l.current + 1\n\t\t}\n		return l.current"},
	"what sleeps never wakes":                          {"decide.go", "(!asleep ||", "(!asleep || SWITCH ||"},
	"what was put to sleep wakes":                      {"decide.go", "asleep := scaledToZero(d.in.Autoscaler)", "asleep := scaledToZero(d.in.Autoscaler) || SWITCH"},
	"the scale time is kept":                           {"status.go", "	if rescaled {", "	if rescaled && !SWITCH {"},
	"the generation is not observed":                   {"status.go", "ObservedGeneration: &generation,", "ObservedGeneration: either(SWITCH, nil, &generation),"},
	"transition times move with the message":           {"status.go", "	if c.Status != status {", "	if c.Status != status || SWITCH && c.Message != message {"},
}

// TestEveryMutantIsCaught shows that agreement means something: with any one rule broken, a comparison fails.
func TestEveryMutantIsCaught(t *testing.T) {
	if os.Getenv(mutantEnv) != "" {
		t.Skip("this is a mutant")
	}
	binary := buildMutants(t)
	if out, err := runMutant(t, binary, "none", 1); err != nil {
		t.Fatalf("without a mutation: %v\n%s", err, out)
	}
	for name := range mutations {
		t.Run(name, func(t *testing.T) {
			for s := range mutantSeeds {
				out, err := runMutant(t, binary, name, 1+s)
				if err == nil {
					continue
				}
				if !strings.Contains(out, "-upstream +core") {
					t.Fatalf("it failed otherwise: %v\n%.2000s", err, out)
				}
				t.Logf("caught with seed %d", 1+s)
				return
			}
			t.Error("it survives")
		})
	}
}

// runMutant runs both comparisons with a mutation in force.
func runMutant(t *testing.T, binary, name string, seed int) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, "-test.failfast", "-test.timeout=5m", fmt.Sprintf("-autoscaling.seed=%d", seed))
	cmd.Env = append(os.Environ(), mutantEnv+"="+name, "ZEROPLANE_LONG=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// buildMutants compiles this package's tests over a core that has all mutations, none of which is in the source.
func buildMutants(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	put := func(file, text string) {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(root, coreDir, file)] = path
	}
	for file, text := range mutated(t, filepath.Join(root, coreDir)) {
		put(file, text)
	}
	put("mutant.go", fmt.Sprintf("package autoscaling\n\nimport \"os\"\n\nvar inForce = os.Getenv(%q)\n\nfunc mutant(name string) bool { return inForce == name }\n\nfunc either[T any](first bool, a, b T) T {\n\tif first {\n\t\treturn a\n\t}\n\treturn b\n}\n", mutantEnv))
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlayFile, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "autoscaling.test")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay="+overlayFile, "-o", binary, "./tests/oracle/autoscaling")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the mutants: %v\n%s", err, out)
	}
	return binary
}

// mutated returns the files that mutations change, with all of these in them.
func mutated(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for name, m := range mutations {
		text, ok := files[m.file]
		if !ok {
			data, err := os.ReadFile(filepath.Join(dir, m.file))
			if err != nil {
				t.Fatal(err)
			}
			text = string(data)
		}
		if n := strings.Count(text, m.old); n != 1 {
			t.Fatalf("%q: %s has the text %q %d times, want once: the source has changed, and the mutation must", name, m.file, m.old, n)
		}
		files[m.file] = strings.Replace(text, m.old, strings.ReplaceAll(m.new, "SWITCH", fmt.Sprintf("mutant(%q)", name)), 1)
	}
	return files
}
