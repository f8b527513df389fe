package sim

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/zeroplane/zeroplane/tests/mutants"
)

// sceneBug is one that is planted for a scene.
type sceneBug struct {
	mutants.Mutation
	// scene is the scene's test, and says what it then says.
	scene, says string
}

var sceneBugs = []sceneBug{
	{mutants.Mutation{
		Name: "who was deleted is told by name", File: "functions/lifecycle/garbage.go",
		Old: "		b.gone = append(b.gone, *before)", New: "		if now, _ := g.at(ev.Key); SWITCH && now != nil {\n			before = now\n		}\n		b.gone = append(b.gone, *before)",
	}, "StaleView/a deletion that is seen again takes nothing from the namesake", "there were"},
	{mutants.Mutation{
		Name: "a node is new for whoever sees it made", File: "core/nodes/registered.go",
		Old: "	if Annotated(node) && !Annotated(created) {", New: "	if !SWITCH && Annotated(node) && !Annotated(created) {",
	}, "StaleView/of a node that looks new again people are told once", "people were told [RegisteredNode RegisteredNode]"},
	{mutants.Mutation{
		Name: "a revision that is taken is written over", File: "adapters/tablelog/commit.go",
		Old: "	if err := l.send(ctx, ops, s.Rev+1, id); err != nil {",
		New: "	for i := range ops {\n		if SWITCH && ops[i].Kind == table.Insert {\n			ops[i].Kind = table.Put\n		}\n	}\n	if err := l.send(ctx, ops, s.Rev+1, id); err != nil {",
	}, "StaleView/what has an old view ends no pod of the same name", "on an old view: there were"},
	{mutants.Mutation{
		Name: "nobody asks what a plan was decided on", File: "adapters/tablelog/commit.go",
		Old: "	if sub.guard == nil {", New: "	if SWITCH || sub.guard == nil {",
	}, "StaleView/two that see too few pods make them once", "and have been 10"},
	{mutants.Mutation{
		Name: "a function that fell behind looks at nothing", File: "functions/lifecycle/lifecycle.go",
		Old: "func (b *batch) everything() error {\n", New: "func (b *batch) everything() error {\n	if SWITCH {\n		return nil\n	}\n",
	}, "UnobservedState/a deletion of which nothing is left takes what belonged to the object", "there are"},
	{mutants.Mutation{
		Name: "who waits for dependents is looked at when he begins to", File: "core/lifecycle/affects.go",
		Old: "Owner: startsWaiting(nil, after)}", New: "Owner: !SWITCH && startsWaiting(nil, after)}",
	}, "UnobservedState/an owner goes whose last dependent went unseen", "there are"},
	{mutants.Mutation{
		Name: "a node that was deleted is gone", File: "functions/nodes/nodes.go",
		Old: `		node, found, err := consumer.Get[*corev1.Node](s, nodeResource, "", name)`,
		New: `		node, found, err := consumer.Get[*corev1.Node](s, nodeResource, "", name)
		for _, ev := range b.Changes {
			if SWITCH && ev.Entry == nil && ev.Key == kubestorage.KeyOf(nodeResource, "", name) {
				found, in.QuarantineOver = false, true
			}
		}`,
	}, "UnobservedState/a node that was away for a while keeps its pods", "there were"},
	{mutants.Mutation{
		Name: "a claim that is there belongs to somebody else", File: "core/statefulset/claims.go",
		Old: "		case there != nil && there.DeletionTimestamp != nil:", New: "		case SWITCH && there != nil && pod.UID == \"\", there != nil && there.DeletionTimestamp != nil:",
	}, "IntermediateState/a claim without its pod", "there are the pods map[]"},
	{mutants.Mutation{
		Name: "only pods that are there are counted", File: "core/job/track.go",
		Old: "	gone := func(uid types.UID) bool { return !waiting.Has(uid) }",
		New: "	gone := func(uid types.UID) bool {\n		there := slices.ContainsFunc(d.pods, func(p *corev1.Pod) bool { return p.UID == uid })\n		return !waiting.Has(uid) && (there || !SWITCH)\n	}",
	}, "IntermediateState/a pod that is let go and not counted", "pods were counted"},
	{mutants.Mutation{
		Name: "a set that lacks pods makes them all", File: "core/rollout/replica_set.go",
		Old: "missing := int(sizeOf(r.set)) - len(r.claim.Objects)", New: "missing := int(sizeOf(r.set)) - len(r.claim.Objects)\n	missing += either(SWITCH && missing > 0, len(r.claim.Objects), 0)",
	}, "IntermediateState/some of the pods of a set", "and have been"},
}

// TestPlantedBugsFailTheirScenes has each scene fail for a bug of ours.
func TestPlantedBugsFailTheirScenes(t *testing.T) {
	if mutants.Running() {
		t.Skip("this is a mutant")
	}
	if os.Getenv("ZEROPLANE_LONG") == "" {
		t.Skip("for the long form: the program is built once more")
	}
	list := make([]mutants.Mutation, len(sceneBugs))
	for i := range sceneBugs {
		list[i] = sceneBugs[i].Mutation
	}
	binary := mutants.Build(t, "tests/sim", list)
	for _, b := range sceneBugs {
		t.Run(b.Name, func(t *testing.T) {
			test, scene, _ := strings.Cut(b.scene, "/")
			run := fmt.Sprintf("-test.run=^TestSieve%s$/^%s$", test, strings.ReplaceAll(scene, " ", "_"))
			if out, err := mutants.Command(t, binary, "", run, "-test.v").CombinedOutput(); err != nil || !strings.Contains(string(out), "    --- PASS") {
				t.Fatalf("without a bug: %v\n%s", err, out)
			}
			out, err := mutants.Command(t, binary, b.Name, run, "-test.v", fmt.Sprintf("-test.timeout=%s", mutantLength)).CombinedOutput()
			if exit := new(exec.ExitError); !errors.As(err, &exit) || !strings.Contains(string(out), b.says) {
				t.Errorf("with the bug: %v\n%s", err, out)
			}
		})
	}
}
