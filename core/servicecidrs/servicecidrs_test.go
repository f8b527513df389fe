package servicecidrs

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

var start = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

func after(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

func ranged(name string, cidrs ...string) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: "u", Finalizers: []string{finalizer}}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs},
	}
}

func going(r *networkingv1.ServiceCIDR) *networkingv1.ServiceCIDR {
	at := metav1.NewTime(start)
	r.DeletionTimestamp = &at
	return r
}

func saying(r *networkingv1.ServiceCIDR, status metav1.ConditionStatus, reason, message string) *networkingv1.ServiceCIDR {
	r.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: status, Reason: reason, Message: message}}
	return r
}

func unprotected(r *networkingv1.ServiceCIDR) *networkingv1.ServiceCIDR {
	r.Finalizers = nil
	return r
}

func address(name, family, by string) *networkingv1.IPAddress {
	return &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: map[string]string{networkingv1.LabelIPAddressFamily: family, networkingv1.LabelManagedBy: by},
	}}
}

func told(p plan.Plan) []string {
	var out []string
	for _, w := range p.Writes {
		out = append(out, fmt.Sprintf("%s %s%s %s", w.Verb, w.Name, w.Subresource, w.PatchBody))
	}
	for _, l := range p.Later {
		out = append(out, fmt.Sprintf("%s in %v", l.Kind, l.At.Sub(start)))
	}
	return out
}

func TestRangesAreReadyUntilTheyGoAndGoWithTheirLastAddress(t *testing.T) {
	const blocked = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
	applied := func(status, reason, message string) []string {
		return []string{`apply astatus {"apiVersion":"networking.k8s.io/v1","kind":"ServiceCIDR","metadata":{"name":"a","uid":"u"},"status":{"conditions":[` +
			`{"type":"Ready","status":"` + status + `","lastTransitionTime":"2026-09-01T12:00:10Z","reason":"` + reason + `","message":"` + message + `"}]}}`}
	}
	removed := []string{`patch a {"metadata":{"$deleteFromPrimitiveList/finalizers":["networking.k8s.io/service-cidr-finalizer"],"uid":"u"}}`}
	cases := map[string]struct {
		ranged    *networkingv1.ServiceCIDR
		others    []*networkingv1.ServiceCIDR
		addresses []*networkingv1.IPAddress
		now       time.Time
		want      []string
	}{
		"a new one is protected": {
			ranged: unprotected(ranged("a", "10.0.0.0/24")), want: []string{`patch a {"metadata":{"finalizers":["networking.k8s.io/service-cidr-finalizer"],"uid":"u"}}`},
		},
		"one that is protected is ready": {ranged: ranged("a", "10.0.0.0/24"), want: applied("True", "", "Kubernetes Service CIDR is ready")},
		"one that is ready":              {ranged: saying(ranged("a", "10.0.0.0/24"), "True", "", "Kubernetes Service CIDR is ready")},
		"one that was not to go any more": {
			ranged: saying(ranged("a", "10.0.0.0/24"), "False", "Terminating", blocked), want: applied("True", "", "Kubernetes Service CIDR is ready"),
		},
		"an address keeps it": {
			ranged: going(ranged("a", "10.0.0.0/24")), addresses: []*networkingv1.IPAddress{address("10.0.0.9", "IPv4", allocator)}, want: applied("False", "Terminating", blocked),
		},
		"an address keeps it, as it says": {
			ranged: saying(going(ranged("a", "10.0.0.0/24")), "False", "Terminating", blocked), addresses: []*networkingv1.IPAddress{address("10.0.0.9", "IPv4", allocator)},
		},
		"an address of somebody else does not": {
			ranged: going(ranged("a", "10.0.0.0/24")), addresses: []*networkingv1.IPAddress{address("10.0.0.9", "IPv4", "me")}, want: removed,
		},
		"one of elsewhere does not": {
			ranged: going(ranged("a", "10.0.0.0/24")), addresses: []*networkingv1.IPAddress{address("10.0.1.9", "IPv4", allocator)}, want: removed,
		},
		"the last address of the range does not": {
			ranged: going(ranged("a", "10.0.0.0/24")), addresses: []*networkingv1.IPAddress{address("10.0.0.255", "IPv4", allocator)}, want: removed,
		},
		"an address of another range as well": {
			ranged: going(ranged("a", "10.0.0.0/24")), others: []*networkingv1.ServiceCIDR{ranged("b", "10.0.0.0/28")},
			addresses: []*networkingv1.IPAddress{address("10.0.0.9", "IPv4", allocator)}, want: removed,
		},
		"a range within another": {
			ranged: going(ranged("a", "10.0.0.0/24")), others: []*networkingv1.ServiceCIDR{ranged("b", "10.0.0.0/16")},
			addresses: []*networkingv1.IPAddress{address("10.0.0.0", "IPv4", allocator)}, want: removed,
		},
		"one of two families, of which one is within another": {
			ranged: going(ranged("a", "10.0.0.0/24", "fd00::/112")), others: []*networkingv1.ServiceCIDR{ranged("b", "10.0.0.0/16")},
			addresses: []*networkingv1.IPAddress{address("fd00::9", "IPv6", allocator)}, want: applied("False", "Terminating", blocked),
		},
		"its time is waited for":   {ranged: going(ranged("a", "10.0.0.0/24")), now: after(9), want: []string{"deletion in 10s"}},
		"others keep it no longer": {ranged: unprotected(going(ranged("a", "10.0.0.0/24")))},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := Input{Range: c.ranged, Ranges: append(c.others, c.ranged), Addresses: c.addresses, Now: c.now}
			if in.Now.IsZero() {
				in.Now = after(10)
			}
			if diff := cmp.Diff(c.want, told(Reconcile(in))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
