package nodes_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/nodes"
)

// fleet is nodes of zones: "a: r r n" is zone a with two nodes that are ready and one that is not.
type fleet []*corev1.Node

// in adds nodes to a zone, one for each letter: r is ready, n is not, u is silent, x is ready and not counted. All have been
// what they are since start.
func (f fleet) in(zone, letters string) fleet {
	for _, letter := range letters {
		status := map[rune]corev1.ConditionStatus{'r': "True", 'n': "False", 'u': "Unknown", 'x': "True"}[letter]
		f = append(f, node(posting("Ready", status), func(n *corev1.Node) {
			n.Name = fmt.Sprintf("%s-%02d", zone, len(f))
			n.UID = "" // of which the patches would speak
			if zone != "" {
				n.Labels[corev1.LabelTopologyZone] = zone
			}
			if letter == 'x' {
				n.Labels["node.kubernetes.io/exclude-disruption"] = "true"
			}
		}))
	}
	return f
}

// with changes one node.
func (f fleet) with(i int, change ...func(*corev1.Node)) fleet {
	for _, c := range change {
		c(f[i])
	}
	return f
}

func readyAt(at time.Time) func(*corev1.Node) {
	return func(n *corev1.Node) {
		for i := range n.Status.Conditions {
			if n.Status.Conditions[i].Type == corev1.NodeReady {
				n.Status.Conditions[i].LastTransitionTime = metav1.NewTime(at)
			}
		}
	}
}

func evicting(at time.Time) func(*corev1.Node) {
	stamp := metav1.NewTime(at)
	return tainted("node.kubernetes.io/unreachable", "NoExecute", &stamp)
}

// tainting is what a plan makes of taints: of which nodes, and when the next one comes.
type tainting struct {
	Tainted, Cleared []string
	Next             time.Time
}

func zones(t interface {
	Helper()
	Fatal(...any)
}, f fleet, now time.Time) tainting {
	t.Helper()
	p := nodes.Zones(f, now)
	var out tainting
	for _, w := range p.Writes {
		var patched corev1.Node
		if err := json.Unmarshal(w.PatchBody, &patched); err != nil {
			t.Fatal(err)
		}
		for _, n := range f {
			if n.Name == w.Name {
				n.Spec.Taints = patched.Spec.Taints
			}
		}
		if slices.ContainsFunc(patched.Spec.Taints, func(t corev1.Taint) bool { return t.Effect == "NoExecute" }) {
			out.Tainted = append(out.Tainted, w.Name)
		} else {
			out.Cleared = append(out.Cleared, w.Name)
		}
	}
	for _, l := range p.Later {
		out.Next = l.At
	}
	if (len(p.Writes) > 0) != (len(p.Reads) > 0) {
		t.Fatal("what is written is not what was read", p.Reads)
	}
	return out
}

func TestZonesLimitHowManyNodesLosePods(t *testing.T) {
	many := func(letter string, n int) string { return string(slices.Repeat([]byte(letter), n)) }
	for name, c := range map[string]struct {
		nodes fleet
		now   time.Time
		want  tainting
	}{
		"nothing is lost":                   {fleet{}.in("", "rrr"), after(100), tainting{}},
		"one of three":                      {fleet{}.in("", "rrn"), after(100), tainting{Tainted: []string{"-02"}}},
		"two of three, one after the other": {fleet{}.in("", "rnu"), after(100), tainting{Tainted: []string{"-01"}, Next: after(110)}},
		"who was lost first comes first": {
			fleet{}.in("", "rnn").with(1, readyAt(after(9))), after(100), tainting{Tainted: []string{"-02"}, Next: after(110)},
		},
		"the next one waits for ten seconds": {fleet{}.in("", "rrrunu").with(3, evicting(after(95))), after(100), tainting{Next: after(105)}},
		"the next one":                       {fleet{}.in("", "rrrunu").with(3, evicting(after(95))), after(105), tainting{Tainted: []string{"-04"}, Next: after(115)}},
		"zones do not wait for each other":   {fleet{}.in("a", "rn").in("b", "rnn"), after(100), tainting{Tainted: []string{"a-01", "b-03"}, Next: after(110)}},
		"most of a small zone":               {fleet{}.in("a", "rrnnn").in("b", "rn"), after(100), tainting{Tainted: []string{"b-06"}}},
		"half of a zone":                     {fleet{}.in("", "rrrnnn"), after(100), tainting{Tainted: []string{"-03"}, Next: after(110)}},
		"two are not many":                   {fleet{}.in("", "rnn"), after(100), tainting{Tainted: []string{"-01"}, Next: after(110)}},
		"most of a large zone":               {fleet{}.in("", many("r", 20)+many("n", 31)), after(200), tainting{Tainted: []string{"-20"}, Next: after(300)}},
		"most of one that is almost large":   {fleet{}.in("", many("r", 20)+many("n", 30)), after(200), tainting{}},
		"all of one zone of two":             {fleet{}.in("a", "nnn").in("b", "r"), after(100), tainting{Tainted: []string{"a-00"}, Next: after(110)}},
		"all of all zones":                   {fleet{}.in("a", "nnn").in("b", "u").with(1, evicting(after(10))), after(100), tainting{Cleared: []string{"a-01"}}},
		"the only node":                      {fleet{}.in("", "u"), after(100), tainting{}},
		"who is not counted does not save":   {fleet{}.in("a", "nn").in("b", "x"), after(100), tainting{}},
		"a node of which nothing is known":   {fleet{}.in("", "rr").with(1, unposted), after(100), tainting{}},
		"all are lost but for one that is back": {
			fleet{}.in("a", "rn").in("b", "n").with(0, readyAt(after(98))), after(100), tainting{Next: after(108)},
		},
		"many are lost, and not so many any more": {
			fleet{}.in("", "rrrnnn").with(2, readyAt(after(98))), after(100), tainting{Next: after(108)},
		},
		"not many were lost before": {fleet{}.in("", "rrrn").with(2, readyAt(after(98))), after(100), tainting{Tainted: []string{"-03"}}},
		"a taint of others":         {fleet{}.in("", "rrn").with(2, tainted("mine", "NoExecute", nil)), after(100), tainting{Tainted: []string{"-02"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, zones(t, c.nodes, c.now)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestZonesAreNeverEmptiedFasterThanTheirRates calls it as often as anything changes, at any time, while nodes come back and go.
func TestZonesAreNeverEmptiedFasterThanTheirRates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := fleet{}.in("a", "rrrrr").in("b", "rrrr")
		last := map[string]time.Time{}
		now := after(1000)
		for range 40 {
			i := rapid.IntRange(0, len(f)-1).Draw(t, "node")
			status := rapid.SampledFrom([]corev1.ConditionStatus{"False", "Unknown"}).Draw(t, "status")
			f.with(i, posting("Ready", status), readyAt(now)) // none comes back, so no taint is forgotten
			now = now.Add(time.Duration(rapid.IntRange(0, 12).Draw(t, "seconds")) * time.Second)
			out := zones(t, f, now)
			for _, name := range out.Tainted {
				zone := name[:1]
				if since := now.Sub(last[zone]); since < 10*time.Second {
					t.Fatalf("%s is tainted %v after the one before", name, since)
				}
				last[zone] = now
			}
			lost := 0
			for _, n := range f {
				if c := n.Status.Conditions[3]; c.Status != corev1.ConditionTrue {
					lost++
				}
			}
			if lost == len(f) && slices.ContainsFunc(f, func(n *corev1.Node) bool { return len(n.Spec.Taints) > 0 }) {
				t.Fatal("all nodes are lost, and some tainted")
			}
			if !out.Next.IsZero() && !out.Next.After(now) {
				t.Fatalf("it is %v, and the next turn is at %v", now, out.Next)
			}
		}
	})
}

func TestOnlyWhatMattersToZonesMovesThem(t *testing.T) {
	beat := node(func(n *corev1.Node) { n.Status.Conditions[3].LastHeartbeatTime = metav1.NewTime(after(30)) })
	for name, c := range map[string]struct {
		before, after *corev1.Node
		want          bool
	}{
		"a heartbeat":       {node(), beat, false},
		"a new node":        {nil, node(), true},
		"a node that goes":  {node(), nil, true},
		"a node is lost":    {node(), node(posting("Ready", "Unknown")), true},
		"a node is tainted": {node(posting("Ready", "Unknown")), node(posting("Ready", "Unknown"), evicting(start)), true},
		"a cordon":          {node(), node(func(n *corev1.Node) { n.Spec.Unschedulable = true }), false},
		"another zone":      {node(), node(func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = "b" }), true},
		"not counted":       {node(), node(func(n *corev1.Node) { n.Labels["node.kubernetes.io/exclude-disruption"] = "" }), true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := nodes.MovesZones(c.before, c.after); got != c.want {
				t.Errorf("moves is %t", got)
			}
		})
	}
}
