package endpoints

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/zeroplane/zeroplane/core/plan"
)

func newCPU(n int64) *resource.Quantity { return resource.NewQuantity(n, resource.DecimalSI) }

var here = map[string]*corev1.Node{"n": node("n", "z1")}

// written are the writes of a plan about slices, one line each.
func written(p plan.Plan) []string {
	var out []string
	for _, w := range p.Writes {
		line := string(w.Verb) + " " + w.Name
		if s, ok := w.Object.(*discoveryv1.EndpointSlice); ok {
			line += fmt.Sprintf(" %s %d", s.AddressType, len(s.Endpoints))
			if at, ok := s.Annotations[corev1.EndpointsLastChangeTriggerTime]; ok {
				line += " at " + strings.TrimSuffix(strings.TrimPrefix(at, "2026-09-01T"), "Z")
			}
		}
		out = append(out, line)
	}
	return out
}

func pods(from, to int) []*corev1.Pod {
	var out []*corev1.Pod
	for n := from; n <= to; n++ {
		out = append(out, pod(n))
	}
	return out
}

func settled(t *testing.T, in SlicesSnapshot) []*discoveryv1.EndpointSlice {
	t.Helper()
	in.Slices = apply(in.Slices, Slices(in))
	if p := Slices(in); !p.Empty() {
		t.Fatalf("it does not settle: %v", written(p))
	}
	return in.Slices
}

// TestSlices checks what is written about the slices of a Service that had some pods before.
func TestSlices(t *testing.T) {
	both := func(svc *corev1.Service) {
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
	}
	for claim, tc := range map[string]struct {
		before, after *corev1.Service
		had, has      []*corev1.Pod
		fresh         bool
		nodes         map[string]*corev1.Node
		want          []string
	}{
		"a new Service has a slice, triggered by its creation":  {has: pods(1, 2), fresh: true, want: []string{"create  IPv4 2 at 12:00:00"}},
		"one without pods has an empty one":                     {fresh: true, want: []string{"create  IPv4 0 at 12:00:00"}},
		"each family has one":                                   {before: service(both), after: service(both), fresh: true, has: pods(1, 2), want: []string{"create  IPv4 2 at 12:00:00", "create  IPv6 0 at 12:00:00"}},
		"a family that is not wanted any more goes":             {before: service(both), has: pods(1, 2), had: pods(1, 2), want: []string{"delete web-0-1"}},
		"a hundred fit into one":                                {fresh: true, has: pods(1, 101), want: []string{"create  IPv4 100 at 12:00:00", "create  IPv4 1 at 12:00:00"}},
		"a new pod triggers by becoming ready":                  {had: pods(1, 2), has: pods(1, 3), want: []string{"update web-0-0 IPv4 3 at 12:03:00"}},
		"the first of several does":                             {had: pods(1, 2), has: pods(1, 5), want: []string{"update web-0-0 IPv4 5 at 12:03:00"}},
		"one that goes leaves no trigger":                       {had: pods(1, 3), has: pods(1, 2), want: []string{"update web-0-0 IPv4 2"}},
		"one that is not ready any more triggers":               {had: pods(1, 2), has: []*corev1.Pod{pod(1), pod(2, unready)}, want: []string{"update web-0-0 IPv4 2 at 12:02:00"}},
		"one that is being deleted does not":                    {had: pods(1, 2), has: []*corev1.Pod{pod(1), pod(2, deleting)}, want: []string{"update web-0-0 IPv4 2"}},
		"one that has ended is left out":                        {had: pods(1, 2), has: []*corev1.Pod{pod(1), pod(2, ended)}, want: []string{"update web-0-0 IPv4 1"}},
		"without a node there are no endpoints":                 {had: pods(1, 2), has: pods(1, 3), nodes: map[string]*corev1.Node{}, want: []string{"update web-0-0 IPv4 0"}},
		"without any pod the slice stays":                       {had: pods(1, 2), want: []string{"update web-0-0 IPv4 0"}},
		"new pods fill the fullest slice that has room":         {had: pods(1, 140), has: pods(1, 150), want: []string{"update web-0-1 IPv4 50 at 14:21:00"}},
		"a Service of others is left alone":                     {after: service(func(s *corev1.Service) { s.Spec.Selector = nil }), had: pods(1, 2)},
		"so is one that is a name for another":                  {after: service(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), had: pods(1, 2)},
		"labels of a Service are those of its slices":           {after: service(func(s *corev1.Service) { s.Labels = map[string]string{"team": "1"} }), had: pods(1, 2), has: pods(1, 2), want: []string{"update web-0-0 IPv4 2"}},
		"a Service that is made anew takes slices of its own":   {after: service(func(s *corev1.Service) { s.UID = "other" }), had: pods(1, 2), has: pods(1, 2), want: []string{"create  IPv4 2", "delete web-0-0"}},
		"one that is being deleted makes none":                  {after: service(func(s *corev1.Service) { s.DeletionTimestamp = new(s.CreationTimestamp) }), fresh: true, has: pods(1, 2)},
		"one with other ports has the slices of the former":     {after: service(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort.IntVal = 9 }), had: pods(1, 2), has: pods(1, 2), want: []string{"update web-0-0 IPv4 2"}},
		"pods that go from two slices leave the slices as full": {had: pods(1, 150), has: append(pods(1, 90), pods(111, 150)...), want: []string{"update web-0-0 IPv4 90", "update web-0-1 IPv4 40"}},
	} {
		t.Run(claim, func(t *testing.T) {
			in := SlicesSnapshot{Service: tc.before, Pods: tc.had, Nodes: here}
			if in.Service == nil {
				in.Service = service()
			}
			if !tc.fresh {
				in.Slices = settled(t, in)
			}
			if tc.after != nil {
				in.Service = tc.after
			} else if !tc.fresh {
				in.Service = service()
			}
			in.Pods = tc.has
			if tc.nodes != nil {
				in.Nodes = tc.nodes
			}
			if diff := cmp.Diff(tc.want, written(Slices(in))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			settled(t, in)
		})
	}
}

// TestEndpoint checks what a slice says of a pod.
func TestEndpoint(t *testing.T) {
	all := func(svc *corev1.Service) { svc.Spec.PublishNotReadyAddresses = true }
	named := func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "me", "web" }
	conditions := func(ready, serving, terminating bool) discoveryv1.EndpointConditions {
		return discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating}
	}
	for claim, tc := range map[string]struct {
		service  *corev1.Service
		pod      *corev1.Pod
		want     discoveryv1.EndpointConditions
		hostname *string
	}{
		"a ready pod":                          {pod: pod(1), want: conditions(true, true, false)},
		"one that is not ready":                {pod: pod(1, unready), want: conditions(false, false, false)},
		"one that goes and serves still":       {pod: pod(1, deleting), want: conditions(false, true, true)},
		"one that is not ready, if all are":    {service: service(all), pod: pod(1, unready), want: conditions(true, false, false)},
		"one that goes, if all are ready":      {service: service(all), pod: pod(1, deleting), want: conditions(true, true, true)},
		"one that is named in the domain":      {pod: pod(1, named), want: conditions(true, true, false), hostname: new("me")},
		"one that is named in another":         {pod: pod(1, named, func(p *corev1.Pod) { p.Spec.Subdomain = "other" }), want: conditions(true, true, false)},
		"one whose address is written oddly":   {pod: pod(1, func(p *corev1.Pod) { p.Status.PodIPs[0].IP = "010.000.0.1" }), want: conditions(true, true, false)},
		"one that has an address of each kind": {pod: pod(1, func(p *corev1.Pod) { p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: "fd00::1"}) }), want: conditions(true, true, false)},
	} {
		t.Run(claim, func(t *testing.T) {
			svc := tc.service
			if svc == nil {
				svc = service()
			}
			got := settled(t, SlicesSnapshot{Service: svc, Pods: []*corev1.Pod{tc.pod}, Nodes: here})[0].Endpoints
			want := []discoveryv1.Endpoint{{
				Addresses: []string{"10.0.0.1"}, Conditions: tc.want, Hostname: tc.hostname, NodeName: new("n"), Zone: new("z1"),
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: "p0001", UID: "uid-p0001"},
			}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestHints checks whom endpoints are hinted to.
func TestHints(t *testing.T) {
	nodes := map[string]*corev1.Node{"n": node("n", "z1"), "m": node("m", "z2")}
	on := func(name string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = name } }
	prefer := func(what string) *corev1.Service {
		return service(func(s *corev1.Service) { s.Spec.TrafficDistribution = &what })
	}
	auto := service(func(s *corev1.Service) { s.Annotations = map[string]string{corev1.AnnotationTopologyMode: "Auto"} })
	two := []*corev1.Pod{pod(1, on("n")), pod(2, on("m"))}
	four := []*corev1.Pod{pod(1, on("n")), pod(2, on("n")), pod(3, on("n")), pod(4, on("m"))}
	for claim, tc := range map[string]struct {
		service *corev1.Service
		pods    []*corev1.Pod
		nodes   map[string]*corev1.Node
		want    []string
		notices []string
	}{
		"to none, if nothing is said":      {service: service(), pods: two, want: []string{"", ""}},
		"to their zones":                   {service: prefer(corev1.ServiceTrafficDistributionPreferClose), pods: two, want: []string{"z1", "z2"}},
		"to their zones, in newer words":   {service: prefer(corev1.ServiceTrafficDistributionPreferSameZone), pods: two, want: []string{"z1", "z2"}},
		"to their nodes as well":           {service: prefer(corev1.ServiceTrafficDistributionPreferSameNode), pods: two, want: []string{"z1/n", "z2/m"}},
		"to none, if the words are others": {service: prefer("Elsewhere"), pods: two, want: []string{"", ""}},
		"to zones by their shares":         {service: auto, pods: four, want: []string{"z2", "z1", "z1", "z2"}, notices: []string{"Normal TopologyAwareHintsEnabled: Topology Aware Hints has been enabled, addressType: IPv4"}},
		"to none, if endpoints are too few": {service: auto, pods: two[:1], want: []string{""}, notices: []string{
			"Warning TopologyAwareHintsDisabled: Insufficient number of endpoints (1 endpoints, 2 zones), addressType: IPv4"}},
		"to none, if there is one zone": {service: auto, pods: two[:1], nodes: here, want: []string{""}, notices: []string{
			"Warning TopologyAwareHintsDisabled: Insufficient Node information: allocatable CPU or zone not specified on one or more nodes, addressType: IPv4"}},
	} {
		t.Run(claim, func(t *testing.T) {
			in := SlicesSnapshot{Service: tc.service, Pods: tc.pods, Nodes: nodes}
			if tc.nodes != nil {
				in.Nodes = tc.nodes
			}
			var all []*corev1.Node
			for _, name := range sortedKeys(in.Nodes) {
				all = append(all, in.Nodes[name])
			}
			in.Zones = ZonesOf(all)
			var notices []string
			for _, n := range Slices(in).Notices {
				notices = append(notices, n.Type+" "+n.Reason+": "+n.Message)
			}
			var got []string
			in.Slices = settled(t, in)
			for _, e := range in.Slices[0].Endpoints {
				got = append(got, shownHints(e.Hints))
			}
			if diff := cmp.Diff(tc.want, got) + cmp.Diff(tc.notices, notices); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			in.Service = service()
			for _, e := range settled(t, in)[0].Endpoints {
				if e.Hints != nil {
					t.Error("hints stay when nothing asks for them any more")
				}
			}
		})
	}
}

func shownHints(h *discoveryv1.EndpointHints) string {
	var out []string
	if h != nil {
		for _, z := range h.ForZones {
			out = append(out, z.Name)
		}
		for _, n := range h.ForNodes {
			out = append(out, n.Name)
		}
	}
	return strings.Join(out, "/")
}

// TestChanges checks which changes of pods and nodes matter.
func TestChanges(t *testing.T) {
	beat := func(n *corev1.Node) { n.Status.Conditions[0].LastHeartbeatTime.Time = noon.Add(time.Minute) }
	for claim, tc := range map[string]struct {
		before, after *corev1.Node
		moved, zones  bool
	}{
		"a heartbeat":         {before: node("n", "z1"), after: node("n", "z1", beat)},
		"another zone":        {before: node("n", "z1"), after: node("n", "z2"), moved: true, zones: true},
		"a new node":          {after: node("n", "z1"), moved: true, zones: true},
		"a node that is gone": {before: node("n", "z1"), moved: true, zones: true},
		"one that is not ready": {before: node("n", "z1"), zones: true, after: node("n", "z1", func(n *corev1.Node) {
			n.Status.Conditions[0].Status = corev1.ConditionUnknown
		})},
		"more processors": {before: node("n", "z1"), zones: true, after: node("n", "z1", func(n *corev1.Node) {
			n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: *newCPU(8)}
		})},
	} {
		if moved, zones := NodeChange(tc.before, tc.after); moved != tc.moved || zones != tc.zones {
			t.Errorf("%s: moved=%t, zones=%t", claim, moved, zones)
		}
	}
	for claim, tc := range map[string]struct {
		before, after       *corev1.Pod
		relabelled, changed bool
	}{
		"nothing":             {before: pod(1), after: pod(1, func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "b"} })},
		"a new pod":           {after: pod(1), changed: true},
		"one that is gone":    {before: pod(1), changed: true},
		"labels":              {before: pod(1), after: pod(1, func(p *corev1.Pod) { p.Labels = nil }), relabelled: true},
		"readiness":           {before: pod(1), after: pod(1, unready), changed: true},
		"deletion":            {before: pod(1), after: pod(1, deleting), changed: true},
		"its end":             {before: pod(1), after: pod(1, ended), changed: true},
		"an address":          {before: pod(1), after: pod(1, func(p *corev1.Pod) { p.Status.PodIPs[0].IP = "10.9.9.9" }), changed: true},
		"another of its name": {before: pod(1), after: pod(1, func(p *corev1.Pod) { p.UID = "other" }), changed: true},
	} {
		if relabelled, changed := PodChange(tc.before, tc.after); relabelled != tc.relabelled || changed != tc.changed {
			t.Errorf("%s: relabelled=%t, changed=%t", claim, relabelled, changed)
		}
	}
}
