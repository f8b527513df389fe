package servicecidrs

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/klog/v2"
	upstream "k8s.io/kubernetes/pkg/controller/servicecidrs"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/tests/controllers"
)

// worlds is how many random worlds are given to Kubernetes's own controller.
const worlds = 60

type world struct {
	ranges    []*networkingv1.ServiceCIDR
	addresses []*networkingv1.IPAddress
}

func drawWorld(t *rapid.T) world {
	var w world
	for i := range rapid.IntRange(1, 4).Draw(t, "ranges") {
		base := rapid.SampledFrom([]string{"10.0.0.0", "10.0.1.0", "10.0.128.0"}).Draw(t, "base")
		cidrs := []string{netip.PrefixFrom(netip.MustParseAddr(base), rapid.SampledFrom([]int{16, 17, 24, 28}).Draw(t, "bits")).Masked().String()}
		if rapid.Bool().Draw(t, "dual") {
			cidrs = append(cidrs, netip.PrefixFrom(netip.MustParseAddr("fd00::"), rapid.SampledFrom([]int{112, 120}).Draw(t, "bits6")).String())
		}
		r := ranged(fmt.Sprint("r", i), cidrs...)
		r.UID = types.UID(r.Name)
		if rapid.IntRange(0, 3).Draw(t, "unprotected") == 0 {
			unprotected(r)
		}
		if rapid.Bool().Draw(t, "going") {
			going(r)
		}
		if rapid.Bool().Draw(t, "ready") {
			saying(r, "True", "", "Kubernetes Service CIDR is ready")
		}
		w.ranges = append(w.ranges, r)
	}
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.15", "10.0.0.255", "10.0.1.7", "10.0.200.3", "10.1.0.1"}), 0, 3, rapid.ID).Draw(t, "addresses") {
		w.addresses = append(w.addresses, address(name, "IPv4", rapid.SampledFrom([]string{allocator, allocator, "me"}).Draw(t, "by")))
	}
	if rapid.Bool().Draw(t, "IPv6") {
		w.addresses = append(w.addresses, address("fd00::9", "IPv6", allocator))
	}
	return w
}

// said is what is compared of a range.
type said struct {
	Finalizers []string
	Conditions []metav1.Condition
}

func saidBy(ranges []*networkingv1.ServiceCIDR) map[string]said {
	out := map[string]said{}
	for _, r := range ranges {
		s := said{Conditions: slices.Clone(r.Status.Conditions)}
		s.Finalizers = append(s.Finalizers, r.Finalizers...)
		for i := range s.Conditions {
			s.Conditions[i].LastTransitionTime = metav1.Time{}
		}
		out[r.Name] = s
	}
	return out
}

// TestTheControllerOfKubernetesDoesTheSame gives the same random worlds to Kubernetes's own controller, over a fake API server and by a
// virtual clock, and to this package, and compares finalizers and conditions when the time of those that go is over.
func TestTheControllerOfKubernetesDoesTheSame(t *testing.T) {
	klog.SetLogger(klog.Logger{})
	t.Cleanup(klog.ClearLogger)
	for seed := range worlds {
		w := rapid.Custom(drawWorld).Example(seed)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, r := range w.ranges {
					if r.DeletionTimestamp != nil {
						at := metav1.NewTime(time.Now())
						r.DeletionTimestamp = &at
					}
				}
				want := saidBy(theirs(t, w))
				if diff := cmp.Diff(want, saidBy(ours(t, w))); diff != "" {
					t.Errorf("(-upstream +ours):\n%s", diff)
				}
			})
		})
	}
}

func theirs(t *testing.T, w world) []*networkingv1.ServiceCIDR {
	ctx, cancel := context.WithCancel(t.Context())
	client := fake.NewClientset()
	for _, a := range w.addresses {
		if _, err := client.NetworkingV1().IPAddresses().Create(ctx, a, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range w.ranges {
		if _, err := client.NetworkingV1().ServiceCIDRs().Create(ctx, r.DeepCopy(), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	c := upstream.NewController(ctx, factory.Networking().V1().ServiceCIDRs(), factory.Networking().V1().IPAddresses(), client)
	wait := controllers.Run(ctx, factory, func(ctx context.Context) { c.Run(ctx, 2) })
	time.Sleep(2 * deletionGracePeriod)
	cancel()
	wait()
	list, err := client.NetworkingV1().ServiceCIDRs().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out []*networkingv1.ServiceCIDR
	for i := range list.Items {
		out = append(out, &list.Items[i])
	}
	return out
}

// ours decides all ranges until nothing more is to be done. The virtual clock shows the end.
func ours(t *testing.T, w world) []*networkingv1.ServiceCIDR {
	for range 4 {
		for i, r := range w.ranges {
			for _, write := range Reconcile(Input{Range: r, Ranges: w.ranges, Addresses: w.addresses, Now: time.Now()}).Writes {
				w.ranges[i] = patched(t, r, write)
			}
		}
	}
	return w.ranges
}

func patched(t *testing.T, r *networkingv1.ServiceCIDR, write plan.Write) *networkingv1.ServiceCIDR {
	out := &networkingv1.ServiceCIDR{}
	if write.Verb == plan.Apply {
		var applied networkingv1.ServiceCIDR
		if err := json.Unmarshal(write.PatchBody, &applied); err != nil {
			t.Fatal(err)
		}
		r.DeepCopyInto(out)
		meta.SetStatusCondition(&out.Status.Conditions, applied.Status.Conditions[0])
		return out
	}
	before, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	after, err := strategicpatch.StrategicMergePatch(before, write.PatchBody, networkingv1.ServiceCIDR{})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(after, out); err != nil {
		t.Fatal(err)
	}
	return out
}
