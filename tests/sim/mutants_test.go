package sim

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeroplane/zeroplane/tests/mutants"
	"github.com/zeroplane/zeroplane/tests/sim/rules"
)

// bug is one that is planted.
type bug struct {
	mutants.Mutation
	// breaks are the rules of which one must be seen to be broken.
	breaks []string
}

// unrest is what a round says whose cluster never comes to rest. One that has no end because the clock stands meanwhile is as bad.
const unrest = "there is still work"

var bugs = []bug{
	{mutants.Mutation{
		Name: "a new set gets one replica more than maxSurge lets it", File: "core/rollout/fenceposts.go",
		Old: "limit := sizes(all), desiredOf(d)+int32(surge) //", New: "limit := sizes(all), desiredOf(d)+int32(surge)+either(SWITCH, int32(1), 0) //",
	}, []string{rules.Surge}},
	{mutants.Mutation{
		Name: "old sets give up all replicas though the new one is not available", File: "core/rollout/rolling.go",
		Old: "minAvailable := desiredOf(r.deployment) - maxUnavailable(r.deployment)", New: "minAvailable := either(SWITCH, 0, desiredOf(r.deployment)-maxUnavailable(r.deployment))",
	}, []string{rules.Unavailable}},
	{mutants.Mutation{
		Name: "a replica set makes one pod too many", File: "core/rollout/replica_set.go",
		Old: "missing := int(sizeOf(r.set)) - len(r.claim.Objects)", New: "missing := int(sizeOf(r.set)) - len(r.claim.Objects)\n\tmissing += either(SWITCH && missing > 0, 1, 0)",
	}, []string{rules.Replicas}},
	{mutants.Mutation{
		Name: "a stateful set does not wait for the pod before", File: "core/statefulset/pods.go",
		Old: "if r.inOrder() && (isTerminating(pod) || !isRunningAndReady(pod) || !r.isAvailable(pod)) {", New: "if !SWITCH && r.inOrder() && (isTerminating(pod) || !isRunningAndReady(pod) || !r.isAvailable(pod)) {",
	}, []string{rules.Ordinals}},
	{mutants.Mutation{
		Name: "a pod of a stateful set has the ordinal of another", File: "core/statefulset/identity.go",
		Old: "	pod.Name = podName(set, ordinal)\n	updateIdentity(set, pod)\n	pod.Spec", New: "	pod.Name = podName(set, ordinal)\n	updateIdentity(set, pod)\n	if SWITCH {\n		label(pod, appsv1.PodIndexLabel, \"0\")\n	}\n	pod.Spec",
	}, []string{rules.Ordinals}},
	{mutants.Mutation{
		Name: "a daemon set makes two pods for a node", File: "core/daemonset/manage.go",
		Old: "	case run && !exist:\n		r.create(node.Name, \"the node has no pod\")", New: "	case run && !exist:\n		if SWITCH {\n			r.create(node.Name, \"twice\")\n		}\n		r.create(node.Name, \"the node has no pod\")",
	}, []string{rules.Daemons}},
	{mutants.Mutation{
		Name: "a job runs more pods than its parallelism", File: "core/job/manage.go",
		Old: "parallelism := int(*d.job.Spec.Parallelism)", New: "parallelism := int(*d.job.Spec.Parallelism) + either(SWITCH, 1, 0)",
	}, []string{rules.Finished}},
	{mutants.Mutation{
		Name: "a job runs indexes again that have completed", File: "core/job/indexes.go",
		Old: "taken := d.completed.with(", New: "taken := either(SWITCH, nil, d.completed).with(",
	}, []string{rules.Indexes}},
	{mutants.Mutation{
		Name: "a cron job starts while another run is at work", File: "core/cronjob/cronjob.go",
		Old: "case d.cron.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(", New: "case !SWITCH && d.cron.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(",
	}, []string{rules.Overlap}},
	{mutants.Mutation{
		Name: "a quota counts one pod less than there are", File: "core/quota/quota.go",
		Old: "			used[name] = u\n", New: "			if SWITCH && u.Value() > 0 {\n				u.Set(u.Value() - 1)\n			}\n			used[name] = u\n",
	}, []string{rules.Quota, rules.Settled}},
	{mutants.Mutation{
		Name: "a budget forgets whom it let go", File: "core/disruption/disrupted.go",
		Old: "if pod.DeletionTimestamp != nil || !listed {", New: "if SWITCH || pod.DeletionTimestamp != nil || !listed {",
	}, []string{rules.Budgets}},
	{mutants.Mutation{
		Name: "a node gives its pods the same address", File: "core/kubelet/addresses.go",
		Old: "		if a.taken[candidate] {", New: "		if !SWITCH && a.taken[candidate] {",
	}, []string{rules.Addresses}},
	{mutants.Mutation{
		Name: "a port of the nodes is given twice", File: "adapters/apiserver/allocators.go",
		Old: "ok, err := r.mem.Allocate(offset)\n		if err == nil && !ok {", New: "ok, err := r.mem.Allocate(offset)\n		if err == nil && !ok && !SWITCH {",
	}, []string{rules.Ports}},
	{mutants.Mutation{
		Name: "a status says less than there is", File: "core/rollout/replica_set_status.go",
		Old: "		if podstate.IsReady(pod) {", New: "		if podstate.IsReady(pod) && (!SWITCH || status.ReadyReplicas < 2) {",
	}, []string{rules.Settled, unrest}},
	{mutants.Mutation{
		Name: "what belongs to an object that is gone stays", File: "core/lifecycle/dependent.go",
		Old: "		return []plan.Write{deleteOf(n.Object, policyOf(n.Object), \"no owner is left\")}", New: "		return either(SWITCH, nil, []plan.Write{deleteOf(n.Object, policyOf(n.Object), \"no owner is left\")})",
	}, []string{rules.Owned, rules.Settled, unrest}},
	{mutants.Mutation{
		Name: "a status is written again and again", File: "core/rollout/replica_set_status.go",
		Old: "		status.TerminatingReplicas = &terminating", New: "		status.TerminatingReplicas = &terminating\n		if r.set.Status.TerminatingReplicas != nil {\n			terminating += either(SWITCH && *r.set.Status.TerminatingReplicas == terminating, int32(1), 0)\n		}",
	}, []string{rules.Quiet, unrest}},
}

const (
	// mostSeeds are tried until a bug is seen, each for as long as mutantLength at most.
	mostSeeds    = 20
	mutantLength = 2 * time.Minute
)

// TestPlantedBugsAreSeen has each rule fail for a bug of ours, and says how many seeds that took.
func TestPlantedBugsAreSeen(t *testing.T) {
	if mutants.Running() {
		t.Skip("this is a mutant")
	}
	if os.Getenv("ZEROPLANE_LONG") == "" {
		t.Skip("for the long form: it takes minutes a bug")
	}
	list := make([]mutants.Mutation, len(bugs))
	for i := range bugs {
		list[i] = bugs[i].Mutation
	}
	binary := mutants.Build(t, "tests/sim", list)
	for i := range bugs {
		t.Run(bugs[i].Name, func(t *testing.T) { bugs[i].see(t, binary) })
	}
}

// see tries seeds until the bug shows.
func (b *bug) see(t *testing.T, binary string) {
	t.Helper()
	began := time.Now()
	first := uint64(began.UnixNano())
	for n := range uint64(mostSeeds) {
		out, broken := b.try(t, binary, first+n)
		if broken == "" {
			continue
		}
		fmt.Printf("figure: seen after %d seeds and %.0f s: %s (%s)\n", n+1, time.Since(began).Seconds(), b.Name, broken)
		if !slices.Contains(b.breaks, broken) {
			t.Errorf("it breaks the rule %q, not one of %q:\n%s", broken, b.breaks, out)
		}
		return
	}
	t.Errorf("not seen in %d seeds", mostSeeds)
}

// complaint is how a violation begins, in the output of a round.
var complaint = regexp.MustCompile(`sim_test\.go:\d+: ([a-z]+), at \d`)

// try runs one round, and returns the first rule that it broke, if any.
func (b *bug) try(t *testing.T, binary string, seed uint64) (out, broken string) {
	t.Helper()
	cmd := mutants.Command(t, binary, b.Name, "-test.run=^TestRoundsEndAsTheirSpecsAsk$", fmt.Sprintf("-sim.seed=%d", seed), "-test.v", fmt.Sprintf("-test.timeout=%s", mutantLength))
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	err := cmd.Run()
	if err == nil {
		return "", ""
	}
	if exit := new(exec.ExitError); !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var rulesBroken []string
	for _, found := range complaint.FindAllStringSubmatch(text.String(), -1) {
		rulesBroken = append(rulesBroken, found[1])
	}
	if strings.Contains(text.String(), unrest) || strings.Contains(text.String(), "test timed out") {
		rulesBroken = append(rulesBroken, unrest)
	}
	for _, rule := range rulesBroken {
		if slices.Contains(b.breaks, rule) {
			return text.String(), rule
		}
	}
	if len(rulesBroken) == 0 {
		t.Fatalf("a round failed, and of no rule:\n%s", text.String())
	}
	return text.String(), rulesBroken[0]
}
