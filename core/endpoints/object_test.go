package endpoints

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// shownObjects are the Endpoints of a plan, one line each.
func shownObjects(p plan.Plan) []string {
	var out []string
	for _, w := range p.Writes {
		line := string(w.Verb) + " " + w.Name
		if e, ok := w.Object.(*Endpoints); ok {
			for _, s := range e.Subsets {
				var ports []string
				for _, p := range s.Ports {
					ports = append(ports, fmt.Sprint(p.Port))
				}
				line += fmt.Sprintf(" %d+%d:%s", len(s.Addresses), len(s.NotReadyAddresses), strings.Join(ports, ","))
			}
			if at, ok := e.Annotations[corev1.EndpointsLastChangeTriggerTime]; ok {
				line += " at " + strings.TrimSuffix(strings.TrimPrefix(at, "2026-09-01T"), "Z")
			}
			if over := e.Annotations[corev1.EndpointsOverCapacity]; over != "" {
				line += " " + over
			}
			if _, ok := e.Labels[corev1.IsHeadlessService]; ok {
				line += " headless"
			}
		}
		out = append(out, line)
	}
	return out
}

func objectAfter(t *testing.T, in ObjectSnapshot) *Endpoints {
	t.Helper()
	p := Object(in)
	if len(p.Writes) != 1 {
		t.Fatalf("there is nothing written: %v", shownObjects(p))
	}
	e := p.Writes[0].Object.(*Endpoints).DeepCopy()
	e.UID, e.ResourceVersion = "uid", "1"
	in.Endpoints = e
	if p := Object(in); !p.Empty() {
		t.Fatalf("it does not settle: %v", shownObjects(p))
	}
	return e
}

// TestObject checks what is written about the Endpoints of a Service that had some pods before, nil for a new one.
func TestObject(t *testing.T) {
	v6 := func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "fd00::1"}} }
	headless := func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }
	for claim, tc := range map[string]struct {
		service *corev1.Service
		had     []*corev1.Pod
		has     []*corev1.Pod
		want    []string
	}{
		"a new Service has Endpoints":                {has: pods(1, 2), want: []string{"create web 2+0:8080 at 12:00:00"}},
		"without pods they are empty":                {want: []string{"create web at 12:00:00"}},
		"ready pods and others are kept apart":       {had: pods(1, 2), has: []*corev1.Pod{pod(1), pod(2, unready)}, want: []string{"update web 1+1:8080 at 12:02:00"}},
		"if all are published, they are not":         {service: service(func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }), has: []*corev1.Pod{pod(1), pod(2, unready), pod(3, deleting)}, want: []string{"create web 3+0:8080 at 12:00:00"}},
		"a pod that goes is left out":                {had: pods(1, 2), has: []*corev1.Pod{pod(1), pod(2, deleting)}, want: []string{"update web 1+0:8080"}},
		"one that has no address of the family also": {had: pods(1, 2), has: []*corev1.Pod{pod(1), pod(2, v6)}, want: []string{"update web 1+0:8080"}},
		"nothing new is not written":                 {had: pods(1, 2), has: pods(1, 2)},
		"a headless Service is labelled, and needs no port": {service: service(headless, func(s *corev1.Service) { s.Spec.Ports = nil }), has: pods(1, 2),
			want: []string{"create web 2+0: at 12:00:00 headless"}},
		"labels follow the Service": {service: service(func(s *corev1.Service) { s.Labels = map[string]string{"team": "1"} }), had: pods(1, 2), has: pods(1, 2),
			want: []string{"update web 2+0:8080"}},
		"a Service of others is left alone":             {service: service(func(s *corev1.Service) { s.Spec.Selector = nil }), had: pods(1, 2)},
		"of more than a thousand a thousand are listed": {had: pods(1, 2), has: pods(1, 1100), want: []string{"update web 1000+0:8080 at 12:03:00 truncated"}},
		"and those that are not ready go first": {has: append(pods(1, 900), unreadyPods(901, 1100)...),
			want: []string{"create web 900+100:8080 at 12:00:00 truncated"}},
		"the mark goes when there is room again": {had: pods(1, 1100), has: pods(1, 1000), want: []string{"update web 1000+0:8080"}},
	} {
		t.Run(claim, func(t *testing.T) {
			in := ObjectSnapshot{Service: service(), Pods: tc.had}
			if tc.had != nil {
				in.Endpoints = objectAfter(t, in)
			}
			if tc.service != nil {
				in.Service = tc.service
			}
			in.Pods = tc.has
			if diff := cmp.Diff(tc.want, shownObjects(Object(in))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func unreadyPods(from, to int) []*corev1.Pod {
	out := pods(from, to)
	for _, p := range out {
		unready(p)
	}
	return out
}

// TestWhatIsLeftOverGoes checks the Endpoints of a Service that is gone.
func TestWhatIsLeftOverGoes(t *testing.T) {
	e := objectAfter(t, ObjectSnapshot{Service: service(), Pods: pods(1, 2)})
	if diff := cmp.Diff([]string{"delete web"}, shownObjects(Object(ObjectSnapshot{Endpoints: e}))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	e.Annotations["control-plane.alpha.kubernetes.io/leader"] = "{}"
	if p := Object(ObjectSnapshot{Endpoints: e}); !p.Empty() {
		t.Errorf("what elects a leader goes too: %v", shownObjects(p))
	}
	if p := Object(ObjectSnapshot{}); !p.Empty() {
		t.Errorf("nothing at all leads to %v", shownObjects(p))
	}
}

// manual is an Endpoints that a user wrote.
func manual(alter ...func(*Endpoints)) *Endpoints {
	e := &Endpoints{Subsets: []subset{{
		Addresses: []address{{IP: "1.0.0.1"}, {IP: "fd00::1"}}, NotReadyAddresses: []address{{IP: "1.0.0.2"}},
		Ports: []port{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
	}}}
	e.Namespace, e.Name, e.UID = "ns", "web", "uid-e"
	e.Labels = map[string]string{"team": "1"}
	e.Annotations = map[string]string{"note": "1", corev1.LastAppliedConfigAnnotation: "x"}
	for _, f := range alter {
		f(e)
	}
	return e
}

// TestMirror checks what is written about the slices that mirrored some Endpoints before, none if nil.
func TestMirror(t *testing.T) {
	bare := service(func(s *corev1.Service) { s.Spec.Selector = nil })
	many := manual(func(e *Endpoints) {
		e.Subsets[0].Addresses, e.Subsets[0].NotReadyAddresses = nil, nil
		for n := range 1005 {
			e.Subsets[0].Addresses = append(e.Subsets[0].Addresses, address{IP: fmt.Sprintf("1.0.%d.%d", n/250, n%250)})
		}
	})
	for claim, tc := range map[string]struct {
		service  *corev1.Service
		had, has *Endpoints
		want     []string
		notice   string
		nobody   bool
	}{
		"each family has a slice":             {has: manual(), want: []string{"create  IPv4 2", "create  IPv6 1"}},
		"nothing new is not written":          {had: manual(), has: manual()},
		"nor is when they changed":            {had: manual(), has: manual(func(e *Endpoints) { e.Annotations[corev1.EndpointsLastChangeTriggerTime] = "now" })},
		"addresses are followed":              {had: manual(), has: manual(func(e *Endpoints) { e.Subsets[0].NotReadyAddresses = nil }), want: []string{"update web-0-0 IPv4 1"}},
		"labels are":                          {had: manual(), has: manual(func(e *Endpoints) { e.Labels = nil }), want: []string{"update web-0-0 IPv4 2", "update web-0-1 IPv6 1"}},
		"annotations are":                     {had: manual(), has: manual(func(e *Endpoints) { e.Annotations["note"] = "2" }), want: []string{"update web-0-0 IPv4 2", "update web-0-1 IPv6 1"}},
		"others of the name are":              {had: manual(), has: manual(func(e *Endpoints) { e.UID = "other" }), want: []string{"update web-0-0 IPv4 2", "update web-0-1 IPv6 1"}},
		"other ports use the slices of these": {had: manual(), has: manual(func(e *Endpoints) { e.Subsets[0].Ports[0].Port = 81 }), want: []string{"update web-0-0 IPv4 2", "update web-0-1 IPv6 1"}},
		"without Endpoints there are none":    {had: manual(), want: []string{"delete web-0-0", "delete web-0-1"}},
		"without a Service there are none":    {had: manual(), has: manual(), nobody: true, want: []string{"delete web-0-0", "delete web-0-1"}},
		"a Service with a selector has none":  {had: manual(), has: manual(), service: service(), want: []string{"delete web-0-0", "delete web-0-1"}},
		"some are not mirrored by wish":       {had: manual(), has: manual(func(e *Endpoints) { e.Labels = map[string]string{"endpointslice.kubernetes.io/skip-mirror": "true"} }), want: []string{"delete web-0-0", "delete web-0-1"}},
		"those that go make none":             {has: manual(func(e *Endpoints) { e.DeletionTimestamp = new(service().CreationTimestamp) })},
		"a thousand are mirrored at most": {has: many, want: []string{"create  IPv4 1000"},
			notice: "TooManyAddressesToMirror: A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 5 addresses were skipped"},
		"what is no address is not": {has: manual(func(e *Endpoints) { e.Subsets[0].Addresses[0].IP = "web" }), want: []string{"create  IPv4 1", "create  IPv6 1"},
			notice: "InvalidIPAddress: Skipped 1 invalid IP addresses when mirroring to EndpointSlices"},
	} {
		t.Run(claim, func(t *testing.T) {
			in := MirrorSnapshot{Namespace: "ns", Name: "web", Service: bare, Endpoints: tc.had}
			in.Slices = apply(nil, Mirror(in))
			if tc.service != nil {
				in.Service = tc.service
			}
			if tc.nobody {
				in.Service = nil
			}
			in.Endpoints = tc.has
			p := Mirror(in)
			notice := ""
			for _, n := range p.Notices {
				notice += n.Reason + ": " + n.Message
			}
			if diff := cmp.Diff(tc.want, written(p)) + cmp.Diff(tc.notice, notice); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			in.Slices = apply(in.Slices, p)
			if p := Mirror(in); !p.Empty() {
				t.Errorf("it does not settle: %v", written(p))
			}
		})
	}
}
