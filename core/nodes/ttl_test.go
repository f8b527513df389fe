package nodes_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/nodes"
	"github.com/zeroplane/zeroplane/core/plan"
)

const ttl = "node.alpha.kubernetes.io/ttl"

func annotated(value string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Annotations[ttl] = value }
}

// written is what a plan writes into the node's annotation, empty for nothing.
func written(t interface{ Fatalf(string, ...any) }, p plan.Plan) string {
	if len(p.Writes) == 0 {
		return ""
	}
	var body struct {
		Metadata struct{ Annotations map[string]string }
	}
	if err := json.Unmarshal(p.Writes[0].PatchBody, &body); err == nil && len(body.Metadata.Annotations) == 1 {
		return body.Metadata.Annotations[corev1.ObjectTTLAnnotationKey]
	}
	t.Fatalf("the patch is %s", p.Writes[0].PatchBody)
	return ""
}

func TestTheSizeOfTheClusterAnnotatesNodes(t *testing.T) {
	for claim, tc := range map[string]struct {
		// has is the node's annotation, empty for none.
		has   string
		count int
		want  string
	}{
		"the first node":    {"", 1, "0"},
		"100 are still few": {"", 100, "0"},
		"101 are more":      {"", 101, "15"},
		"of two steps a new node gets the lower one": {"", 95, "0"},
		"a huge cluster":                                          {"", 5000, "300"},
		"nothing is to do":                                        {"0", 3, ""},
		"it grows beyond its step":                                {"0", 101, "15"},
		"it grows by more than a step":                            {"0", 5000, "300"},
		"it shrinks, but not below its step":                      {"15", 90, ""},
		"it shrinks below its step":                               {"15", 89, "0"},
		"it shrinks below the highest step, where two others do":  {"300", 950, "60"},
		"it grows beyond the lowest step, to where two others do": {"0", 950, "30"},
		"what is no step is put right":                            {"7", 3, "0"},
		"what is no number is put right":                          {"soon", 450, "15"},
		"a number that is written otherwise stays":                {"015", 120, ""},
	} {
		t.Run(claim, func(t *testing.T) {
			n := node()
			if tc.has != "" {
				annotated(tc.has)(n)
			}
			if got := written(t, nodes.TTL(n, tc.count)); got != tc.want {
				t.Errorf("%d nodes, annotated %q: %q is written, not %q", tc.count, tc.has, got, tc.want)
			}
		})
	}
	want := plan.Plan{
		Writes: []plan.Write{{
			Verb: plan.Patch, Resource: plan.Nodes, Name: "a", UID: "uid-a", PatchType: types.StrategicMergePatchType,
			PatchBody: []byte(`{"metadata":{"annotations":{"node.alpha.kubernetes.io/ttl":"0"},"resourceVersion":"5"}}`), Reason: "the size of the cluster asks for it",
		}},
	}
	if diff := cmp.Diff(want, nodes.TTL(node(), 1)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

// TestANodeThatIsAlwaysLookedAtHasUpstreamsStep has a cluster grow and shrink node by node, as addNode and deleteNode of
// pkg/controller/ttl/ttl_controller.go count, whose step is in memory.
func TestANodeThatIsAlwaysLookedAtHasUpstreamsStep(t *testing.T) {
	steps := []struct {
		fewest, most int
		seconds      string
	}{{0, 100, "0"}, {90, 500, "15"}, {450, 1000, "30"}, {900, 2000, "60"}, {1800, 1 << 30, "300"}}
	rapid.Check(t, func(t *rapid.T) {
		n, count, step := node(), 0, 0
		for _, run := range rapid.SliceOfN(rapid.IntRange(-600, 900), 1, 8).Draw(t, "runs") {
			for range max(run, -run) {
				if run > 0 {
					if count++; count > steps[step].most {
						step++
					}
				} else if count > 1 {
					if count--; count < steps[step].fewest {
						step--
					}
				}
				if value := written(t, nodes.TTL(n, count)); value != "" {
					annotated(value)(n)
				}
				if n.Annotations[ttl] != steps[step].seconds {
					t.Fatalf("%d nodes: the annotation is %q, and upstream's %q", count, n.Annotations[ttl], steps[step].seconds)
				}
			}
		}
	})
}

func TestPeopleAreToldOfNodesThatComeAndGo(t *testing.T) {
	notice := func(reason, message string) plan.Notice {
		return plan.Notice{
			Regarding: corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: "a", UID: "uid-a"},
			Type:      corev1.EventTypeNormal, Reason: reason, Message: message, Component: "node-controller",
		}
	}
	registered := notice("RegisteredNode", "Node a event: Registered Node a in Controller")
	for claim, tc := range map[string]struct {
		node, created *corev1.Node
		// with says that the notice goes with the annotation, and alone that nothing is written.
		with, alone bool
	}{
		"with its first annotation":                        {node: node(), created: node(), with: true},
		"not once it has that, though it looks new":        {node: node(annotated("0")), created: node()},
		"nor when the cluster's size asks for another":     {node: node(annotated("300")), created: node()},
		"alone of one that came with the annotation":       {node: node(annotated("0")), created: node(annotated("0")), alone: true},
		"with the annotation of one that came with others": {node: node(annotated("60")), created: node(annotated("60")), with: true},
		"not of one that has changed":                      {node: node()},
		"not of another of its name":                       {node: node(), created: node(func(n *corev1.Node) { n.UID = "uid-before" })},
	} {
		t.Run(claim, func(t *testing.T) {
			p := nodes.Changed(tc.node, tc.created, 3)
			var with []plan.Notice
			for _, w := range p.Writes {
				if w.OnSuccess != nil {
					with = append(with, *w.OnSuccess)
				}
			}
			for _, of := range []struct {
				what string
				want bool
				got  []plan.Notice
			}{{"with a write", tc.with, with}, {"alone", tc.alone, p.Notices}} {
				var want []plan.Notice
				if of.want {
					want = []plan.Notice{registered}
				}
				if diff := cmp.Diff(want, of.got); diff != "" {
					t.Errorf("notices %s (-want +got):\n%s", of.what, diff)
				}
			}
		})
	}
	want := plan.Plan{Notices: []plan.Notice{notice("RemovingNode", "Node a event: Removing Node a from Controller")}}
	if diff := cmp.Diff(want, nodes.Removed(node())); diff != "" {
		t.Errorf("plan for one that is gone (-want +got):\n%s", diff)
	}
}
