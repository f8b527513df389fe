package schedulers_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/zeroplane/zeroplane/tests/mutants"
	"github.com/zeroplane/zeroplane/tests/schedulers/rules"
)

// mutation is something that plans are held to, which is left out.
type mutation struct {
	mutants.Mutation
	// breaks are the rules of which one must be seen to be broken.
	breaks []string
	// turn that shows it.
	turn turn
}

var mutations = []mutation{
	{
		Mutation: mutants.Mutation{
			Name: "a plan is not held to what is on the nodes it goes to", File: "core/scheduling/write.go",
			Old: "	for _, node := range slices.Sorted(maps.Keys(nodes)) {",
			New: "	for _, node := range slices.Sorted(maps.Keys(either(SWITCH, nil, nodes))) {",
		},
		breaks: []string{rules.Room, rules.HostPorts}, turn: ports,
	},
	{
		Mutation: mutants.Mutation{
			Name: "a plan is not held to what is on other nodes", File: "core/scheduling/write.go",
			Old: "Read{Resource: plan.Pods, Assigned: true}", New: "Read{Resource: plan.Pods, Assigned: !SWITCH, Node: either(SWITCH, \"none\", \"\")}",
		},
		breaks: []string{rules.Spread, rules.Apart, rules.KeptOff, rules.Near}, turn: zone,
	},
	{
		Mutation: mutants.Mutation{
			Name: "no plan is held to anything", File: "adapters/tablelog/commit.go",
			Old: "if sub.guard == nil {", New: "if sub.guard == nil || SWITCH {",
		},
		breaks: []string{rules.Room, rules.HostPorts, rules.Apart, rules.Spread, rules.KeptOff, rules.Near}, turn: zone,
	},
}

const (
	// mutantAttempts at a mutation, and how long each is at most: it ends when a rule is broken.
	mutantAttempts = 3
	mutantLength   = 3 * time.Minute
	// mutantClients are few, so that plans are about few pods, and not about the same.
	mutantClients = 4
	// mutantKillEvery is seldom: more is decided where fewer start.
	mutantKillEvery = 10 * time.Second
)

// TestWhatPlansAreHeldToIsNeeded is for the long form: it takes some hundred bindings until two plans meet in such a way.
func TestWhatPlansAreHeldToIsNeeded(t *testing.T) {
	if os.Getenv("ZEROPLANE_LONG") == "" {
		t.Skip("for the long form")
	}
	list := make([]mutants.Mutation, 0, len(mutations))
	for _, m := range mutations {
		list = append(list, m.Mutation)
	}
	binary := mutants.BuildProgram(t, "functions/zeroplane", list)
	t.Setenv("ZEROPLANE_BIN", binary)
	for _, m := range mutations {
		t.Run(m.Name, func(t *testing.T) {
			t.Setenv(mutants.Env, m.Name)
			for attempt := range mutantAttempts {
				if m.caught(t, uint64(1+attempt)) {
					return
				}
			}
			t.Error("it survives")
		})
	}
}

func (m *mutation) caught(t *testing.T, seed uint64) (yes bool) {
	t.Helper()
	t.Run("attempt", func(t *testing.T) {
		p := startPlatform(t, seed)
		began := time.Now()
		p.work(&load{choose: p.choose, seed: seed, clients: mutantClients, turns: []turn{m.turn}}, mutantLength, mutantKillEvery)
		if len(p.log.history.Violations) == 0 {
			t.Logf("not in %d bindings, %d kills, %d stale plans", p.log.history.Bound, p.kills, p.stale)
			return
		}
		v := p.log.history.Violations[0]
		t.Logf("caught after %.1f s and %d bindings: %v", time.Since(began).Seconds(), p.log.history.Bound, v)
		yes = true
		if !slices.Contains(m.breaks, v.Rule) {
			t.Errorf("it breaks another rule than expected")
		}
	})
	return yes
}
