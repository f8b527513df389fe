package nodeipam

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
)

var start = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// node was made so many seconds after start.
func node(name string, second int, cidrs ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: name, UID: types.UID("uid-" + name), CreationTimestamp: metav1.NewTime(start.Add(time.Duration(second) * time.Second)),
	}}
	if len(cidrs) > 0 {
		n.Spec.PodCIDR, n.Spec.PodCIDRs = cidrs[0], cidrs
	}
	return n
}

func going(n *corev1.Node) *corev1.Node {
	now := metav1.NewTime(start)
	n.DeletionTimestamp = &now
	return n
}

func told(t interface{ Fatal(...any) }, p plan.Plan) []string {
	var out []string
	for _, w := range p.Writes {
		var n corev1.Node
		if err := json.Unmarshal(w.PatchBody, &n); err != nil {
			t.Fatal(err)
		}
		if n.UID != w.UID || n.Spec.PodCIDR != n.Spec.PodCIDRs[0] {
			t.Fatal("the patch is ", string(w.PatchBody))
		}
		out = append(out, fmt.Sprint(w.Name, " ", n.Spec.PodCIDRs))
	}
	for _, n := range p.Notices {
		out = append(out, fmt.Sprintf("%s %s: %s", n.Type, n.Reason, n.Message))
	}
	return out
}

func TestNodesGetRangesThatNoOtherHas(t *testing.T) {
	all := map[string]bool{"a": true, "b": true, "c": true, "d": true}
	for name, c := range map[string]struct {
		ranges   string
		services string
		nodes    []*corev1.Node
		changed  map[string]bool
		want     []string
	}{
		"in the order in which they were made": {
			"10.42.0.0/16", "", []*corev1.Node{node("a", 3), node("b", 2), node("c", 2)}, all,
			[]string{"b [10.42.0.0/24]", "c [10.42.1.0/24]", "a [10.42.2.0/24]"},
		},
		"who has one keeps it":        {"10.42.0.0/16", "", []*corev1.Node{node("a", 1, "10.42.0.0/24"), node("b", 2)}, all, []string{"b [10.42.1.0/24]"}},
		"after the newest":            {"10.42.0.0/16", "", []*corev1.Node{node("a", 1, "10.42.7.0/24"), node("b", 2, "10.42.3.0/24"), node("c", 3)}, all, []string{"c [10.42.4.0/24]"}},
		"and around":                  {"10.42.0.0/16", "", []*corev1.Node{node("a", 1, "10.42.0.0/24"), node("b", 2, "10.42.255.0/24"), node("c", 3)}, all, []string{"c [10.42.1.0/24]"}},
		"one of each family":          {"fd00::/56,10.42.0.0/16", "", []*corev1.Node{node("a", 1)}, all, []string{"a [fd00::/64 10.42.0.0/24]"}},
		"a larger one takes them all": {"10.42.0.0/16", "", []*corev1.Node{node("a", 1, "10.42.0.0/22"), node("b", 2)}, all, []string{"b [10.42.4.0/24]"}},
		"one of somewhere else":       {"10.42.0.0/16", "", []*corev1.Node{node("a", 1, "10.128.0.0/23"), node("b", 2, "nonsense"), node("c", 2)}, all, []string{"c [10.42.0.0/24]"}},
		"not that of services":        {"10.96.0.0/11", "10.96.0.0/12", []*corev1.Node{node("a", 1)}, all, []string{"a [10.112.0.0/24]"}},
		"none is left": {
			"10.42.0.0/23", "", []*corev1.Node{node("a", 1), node("b", 2), node("c", 3), node("d", 4)}, map[string]bool{"c": true},
			[]string{"a [10.42.0.0/24]", "b [10.42.1.0/24]", "Normal CIDRNotAvailable: Node c status is now: CIDRNotAvailable"},
		},
		"who goes has it until it has gone": {"10.42.0.0/24", "", []*corev1.Node{going(node("a", 1, "10.42.0.0/24")), node("b", 2)}, nil, nil},
		"who goes gets none":                {"10.42.0.0/24", "", []*corev1.Node{going(node("a", 1))}, all, nil},
		"nothing to do":                     {"10.42.0.0/24", "", []*corev1.Node{node("a", 1, "10.42.0.0/24")}, all, nil},
	} {
		t.Run(name, func(t *testing.T) {
			ranges, err := Parse(c.ranges)
			if err != nil {
				t.Fatal(err)
			}
			in := Input{Ranges: ranges, Nodes: c.nodes, Changed: c.changed}
			if c.services != "" {
				in.Services = netip.MustParsePrefix(c.services)
			}
			p := Allocate(in)
			if diff := cmp.Diff(c.want, told(t, p)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if read := slices.ContainsFunc(p.Reads, func(r plan.Read) bool { return r.Ranged }); read != (len(p.Writes) > 0) {
				t.Errorf("the reads are %v", p.Reads)
			}
		})
	}
}

// TestNoRangeIsOfTwoNodes has nodes come with and without ranges, and go.
func TestNoRangeIsOfTwoNodes(t *testing.T) {
	ranges, err := Parse("10.42.0.0/20,fd00::/59")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		var nodes []*corev1.Node
		for i := range 60 {
			if len(nodes) > 0 && rapid.IntRange(0, 3).Draw(t, "goes") == 0 {
				at := rapid.IntRange(0, len(nodes)-1).Draw(t, "which")
				nodes = slices.Delete(nodes, at, at+1)
			} else {
				nodes = append(nodes, node(fmt.Sprint("n", i), i/2))
			}
			for _, w := range Allocate(Input{Ranges: ranges, Nodes: nodes}).Writes {
				n := nodes[slices.IndexFunc(nodes, func(n *corev1.Node) bool { return n.Name == w.Name })]
				if err := json.Unmarshal(w.PatchBody, n); err != nil {
					t.Fatal(err)
				}
			}
			holders, lacking := map[string]string{}, 0
			for _, n := range nodes {
				if Lacks(n) {
					lacking++
				}
				for _, cidr := range n.Spec.PodCIDRs {
					if other, taken := holders[cidr]; taken {
						t.Fatalf("%s and %s have %s", other, n.Name, cidr)
					}
					holders[cidr] = n.Name
				}
			}
			if has := len(nodes) - lacking; lacking > 0 && has < 16 {
				t.Fatalf("%d nodes lack ranges, and %d of 16 are taken", lacking, has)
			}
		}
	})
}
