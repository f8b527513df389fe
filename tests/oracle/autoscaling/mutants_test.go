package autoscaling_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/zeroplane/zeroplane/tests/mutants"
)

// mutantSeeds is with how many seeds a mutant may survive.
const mutantSeeds = 5

// mutations are rules of the core that are broken: the file in core/autoscaling, and the old and the new text.
var mutations = map[string][3]string{
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
	if mutants.Running() {
		t.Skip("this is a mutant")
	}
	list := make([]mutants.Mutation, 0, len(mutations))
	for name, m := range mutations {
		list = append(list, mutants.Mutation{Name: name, File: "core/autoscaling/" + m[0], Old: m[1], New: m[2]})
	}
	slices.SortFunc(list, func(a, b mutants.Mutation) int { return strings.Compare(a.Name, b.Name) })
	binary := mutants.Build(t, "tests/oracle/autoscaling", list)
	if out, err := runMutant(t, binary, "", 1); err != nil {
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
	cmd := mutants.Command(t, binary, name, "-test.failfast", "-test.timeout=5m", fmt.Sprintf("-autoscaling.seed=%d", seed))
	cmd.Env = append(cmd.Env, "ZEROPLANE_LONG=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
