package nodeipam

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/nodeipam/ipam"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/tests/controllers"
)

// histories is how many random histories of nodes are given to Kubernetes's own allocator.
const histories = 40

// step is a node that comes, or goes.
type step struct {
	name string
	goes bool
}

type history struct {
	ranges, services string
	steps            []step
}

func drawHistory(t *rapid.T) history {
	h := history{
		ranges:   rapid.SampledFrom([]string{"10.42.0.0/21", "10.42.0.0/22,fd00::/62", "fd00::/61"}).Draw(t, "ranges"),
		services: rapid.SampledFrom([]string{"10.96.0.0/12", "10.42.2.0/24", "10.42.0.0/23"}).Draw(t, "services"),
	}
	var there []string
	for i := range rapid.IntRange(1, 16).Draw(t, "steps") {
		if len(there) > 0 && rapid.IntRange(0, 2).Draw(t, "goes") == 0 {
			at := rapid.IntRange(0, len(there)-1).Draw(t, "which")
			h.steps = append(h.steps, step{name: there[at], goes: true})
			there = slices.Delete(there, at, at+1)
			continue
		}
		h.steps = append(h.steps, step{name: fmt.Sprintf("n%02d", i)})
		there = append(there, h.steps[len(h.steps)-1].name)
	}
	return h
}

// TestTheAllocatorOfKubernetesGivesTheSameRanges gives the same nodes, one after the other, to Kubernetes's own allocator, over a fake API
// server and by a virtual clock, and to this package, and compares which node has which ranges.
func TestTheAllocatorOfKubernetesGivesTheSameRanges(t *testing.T) {
	klog.SetLogger(klog.Logger{})
	t.Cleanup(klog.ClearLogger)
	for seed := range histories {
		h := rapid.Custom(drawHistory).Example(seed)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { compareHistory(t, h) })
		})
	}
}

func compareHistory(t *testing.T, h history) {
	ranges, err := Parse(h.ranges)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	client := fake.NewClientset()
	stop := runUpstream(ctx, t, client, ranges, h.services)
	defer func() { cancel(); stop() }()
	services := netip.MustParsePrefix(h.services)
	var ours []*corev1.Node
	for _, s := range h.steps {
		if s.goes && s.name == newest(ours) {
			continue // upstream knows what it gave last, here that node tells it
		}
		if s.goes {
			ours = slices.DeleteFunc(ours, func(n *corev1.Node) bool { return n.Name == s.name })
			if err := client.CoreV1().Nodes().Delete(ctx, s.name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		} else {
			n := node(s.name, 0)
			n.CreationTimestamp = metav1.NewTime(time.Now())
			ours = append(ours, n)
			if _, err := client.CoreV1().Nodes().Create(ctx, n.DeepCopy(), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		for _, w := range Allocate(Input{Ranges: ranges, Services: services, Nodes: ours}).Writes {
			if err := json.Unmarshal(w.PatchBody, ours[slices.IndexFunc(ours, func(n *corev1.Node) bool { return n.Name == w.Name })]); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour) // upstream tries again by and by
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want, got := map[string]string{}, map[string]string{}
		for _, n := range list.Items {
			want[n.Name] = fmt.Sprint(n.Spec.PodCIDR, n.Spec.PodCIDRs)
		}
		for _, n := range ours {
			got[n.Name] = fmt.Sprint(n.Spec.PodCIDR, n.Spec.PodCIDRs)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("after %+v of %+v (-upstream +ours):\n%s", s, h, diff)
		}
	}
}

// newest is the name of the last node that has ranges.
func newest(nodes []*corev1.Node) string {
	for _, n := range slices.Backward(nodes) {
		if len(n.Spec.PodCIDRs) > 0 {
			return n.Name
		}
	}
	return ""
}

func runUpstream(ctx context.Context, t *testing.T, client *fake.Clientset, ranges []Range, services string) (stop func()) {
	factory := informers.NewSharedInformerFactory(client, 0)
	var params ipam.CIDRAllocatorParams
	for _, r := range ranges {
		_, cidr, err := net.ParseCIDR(r.cluster.String())
		if err != nil {
			t.Fatal(err)
		}
		params.ClusterCIDRs = append(params.ClusterCIDRs, cidr)
		params.NodeCIDRMaskSizes = append(params.NodeCIDRMaskSizes, r.mask)
	}
	_, cidr, err := net.ParseCIDR(services)
	if err != nil {
		t.Fatal(err)
	}
	params.ServiceCIDR = cidr
	allocator, err := ipam.NewCIDRRangeAllocator(ctx, client, factory.Core().V1().Nodes(), params, nil)
	if err != nil {
		t.Fatal(err)
	}
	return controllers.Run(ctx, factory, allocator.Run)
}
