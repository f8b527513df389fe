package rules_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/tests/schedulers/rules"
)

// Two zones with two nodes each, all of 2 CPUs, 2 GiB and 3 pods; d is in no zone.
func nodes() []*corev1.Node {
	var out []*corev1.Node
	for name, zone := range map[string]string{"a1": "a", "a2": "a", "b1": "b", "b2": "b", "d": ""} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
		if zone != "" {
			n.Labels[corev1.LabelTopologyZone] = zone
		}
		n.Status.Allocatable = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("2Gi"), corev1.ResourcePods: resource.MustParse("3"),
		}
		out = append(out, n)
	}
	return out
}

type change func(*corev1.Pod)

// pod is one of app web, altered. Its UID is its name's, unless it is altered.
func pod(name string, changes ...change) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}},
	}
	for _, f := range changes {
		f(p)
	}
	return p
}

func on(node string) change      { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
func db(p *corev1.Pod)           { p.Labels["app"] = "db" }
func uid(uid string) change      { return func(p *corev1.Pod) { p.UID = types.UID(uid) } }
func in(namespace string) change { return func(p *corev1.Pod) { p.Namespace = namespace } }
func selecting(zone string) change {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelTopologyZone: zone} }
}
func over(p *corev1.Pod)    { p.Status.Phase = corev1.PodSucceeded }
func leaving(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }
func gone(p *corev1.Pod)    { p.UID = "" }
func web() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
}
func asking(cpu, memory string) change {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
		}
	}
}

func port80(address string, protocol corev1.Protocol) change {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports, corev1.ContainerPort{HostPort: 80, HostIP: address, Protocol: protocol})
	}
}

func evenly(key string, whenNot corev1.UnsatisfiableConstraintAction) change {
	return func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: whenNot, LabelSelector: web(),
		})
	}
}

// everywhere has pods count on nodes that the pod cannot be on.
func everywhere(p *corev1.Pod) {
	p.Spec.TopologySpreadConstraints[0].NodeAffinityPolicy = new(corev1.NodeInclusionPolicyIgnore)
}

func terms(key string, namespaces *metav1.LabelSelector) []corev1.PodAffinityTerm {
	return []corev1.PodAffinityTerm{{TopologyKey: key, LabelSelector: web(), NamespaceSelector: namespaces}}
}

// awayFrom pods of app web of the own namespace, and awayFromAll those of any.
func awayFrom(key string) change {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms(key, nil)}}
	}
}

func awayFromAll(key string) change {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms(key, &metav1.LabelSelector{})}}
	}
}

func inZoneOfItsLike(p *corev1.Pod) {
	p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms(zone, nil)}}
}

const (
	zone     = corev1.LabelTopologyZone
	hostname = corev1.LabelHostname
	must     = corev1.DoNotSchedule
)

func TestAViolationIsFoundAtTheRevisionThatBringsIt(t *testing.T) {
	type history []*corev1.Pod
	for name, c := range map[string]struct {
		// pods of the revisions from 2 on; one without a UID is deleted.
		history history
		// want is the rule that the last revision breaks, none if it is empty.
		want string
	}{
		"a pod moves":                             {history{pod("p"), pod("p", on("a1")), pod("p", on("a2"))}, rules.Rebound},
		"a pod is taken off its node":             {history{pod("p"), pod("p", on("a1")), pod("p")}, rules.Rebound},
		"a bound pod changes":                     {history{pod("p"), pod("p", on("a1")), pod("p", on("a1"), over)}, ""},
		"another pod of the name":                 {history{pod("p", on("a1")), pod("p", gone), pod("p", uid("2")), pod("p", uid("2"), on("a2"))}, ""},
		"a pod comes back elsewhere":              {history{pod("p", on("a1")), pod("p", gone), pod("p", on("a2"))}, rules.Rebound},
		"a node that there is not":                {history{pod("p"), pod("p", on("c"))}, rules.Nowhere},
		"too much CPU":                            {history{pod("p", on("a1"), asking("1500m", "0")), pod("q", on("a1"), asking("501m", "0"))}, rules.Room},
		"all CPU":                                 {history{pod("p", on("a1"), asking("1500m", "0")), pod("q", on("a1"), asking("500m", "0"))}, ""},
		"too much memory":                         {history{pod("p", on("a1"), asking("0", "2Gi")), pod("q", on("a1"), asking("0", "1"))}, rules.Room},
		"too many pods":                           {history{pod("p", on("a1")), pod("q", on("a1")), pod("r", on("a1")), pod("s", on("a1"))}, rules.Room},
		"room that one left that is over":         {history{pod("p", on("a1"), asking("2", "0"), over), pod("q", on("a1"), asking("2", "0"))}, ""},
		"room that one left that is gone":         {history{pod("p", on("a1"), asking("2", "0")), pod("p", gone), pod("q", on("a1"), asking("2", "0"))}, ""},
		"room of one that is leaving":             {history{pod("p", on("a1"), asking("2", "0"), leaving), pod("q", on("a1"), asking("2", "0"))}, rules.Room},
		"a port twice":                            {history{pod("p", on("a1"), port80("", "TCP")), pod("q", on("a1"), port80("", ""))}, rules.HostPorts},
		"a port of one address and of all":        {history{pod("p", on("a1"), port80("10.0.0.1", "TCP")), pod("q", on("a1"), port80("", "TCP"))}, rules.HostPorts},
		"a port of two addresses":                 {history{pod("p", on("a1"), port80("10.0.0.1", "TCP")), pod("q", on("a1"), port80("10.0.0.2", "TCP"))}, ""},
		"a port of two protocols":                 {history{pod("p", on("a1"), port80("", "TCP")), pod("q", on("a1"), port80("", "UDP"))}, ""},
		"a port of two nodes":                     {history{pod("p", on("a1"), port80("", "TCP")), pod("q", on("a2"), port80("", "TCP"))}, ""},
		"a port of one that is over":              {history{pod("p", on("a1"), port80("", "TCP"), over), pod("q", on("a1"), port80("", "TCP"))}, ""},
		"a second of a zone before the other":     {history{pod("p", on("a1")), pod("q"), pod("q", on("a2"), evenly(zone, must))}, rules.Spread},
		"one for the other zone":                  {history{pod("p", on("a1")), pod("q"), pod("q", on("b1"), evenly(zone, must))}, ""},
		"one that may go anyway":                  {history{pod("p", on("a1")), pod("q", on("a2"), evenly(zone, corev1.ScheduleAnyway))}, ""},
		"a second where one is leaving":           {history{pod("p", on("a1"), leaving), pod("q", on("a2"), evenly(zone, must))}, ""},
		"a second where one is over":              {history{pod("p", on("a1"), over), pod("q", on("a2"), evenly(zone, must))}, ""},
		"a second where one is another's":         {history{pod("p", on("a1"), in("other")), pod("q", on("a2"), evenly(zone, must))}, ""},
		"a second where one has other labels":     {history{pod("p", on("a1"), db), pod("q", on("a2"), evenly(zone, must))}, ""},
		"a second of the only zone that it takes": {history{pod("p", on("a1"), evenly(zone, must)), pod("q", on("a2"), evenly(zone, must), selecting("a"))}, ""},
		"a second of the zone that it takes, and more count": {
			history{pod("p", on("a1"), evenly(zone, must)), pod("q", on("a2"), evenly(zone, must), selecting("a"), everywhere)}, rules.Spread,
		},
		"a node without the label": {history{pod("p", on("d"), evenly(zone, must))}, rules.Spread},
		"a second of a node":       {history{pod("p", on("a1")), pod("q", on("a1"), evenly(hostname, must))}, rules.Spread},
		"a second of a node, by the other constraint": {
			history{pod("p", on("a1")), pod("r", on("b1")), pod("q", on("a1"), evenly(zone, must), evenly(hostname, must))}, rules.Spread,
		},
		"one that counts nobody":        {history{pod("p", on("a1"), db), pod("q", on("a2"), db, evenly(zone, must))}, ""},
		"a zone becomes uneven later":   {history{pod("p", on("a1")), pod("q", on("b1"), evenly(zone, must)), pod("r", on("a2"), evenly(zone, must)), pod("q", gone)}, ""},
		"next to one to be away from":   {history{pod("p", on("a1")), pod("q", on("a2"), awayFrom(zone))}, rules.Apart},
		"away from one":                 {history{pod("p", on("a1")), pod("q", on("b1"), awayFrom(zone))}, ""},
		"next to one that is over":      {history{pod("p", on("a1"), over), pod("q", on("a2"), awayFrom(zone))}, ""},
		"next to one that is leaving":   {history{pod("p", on("a1"), leaving), pod("q", on("a2"), awayFrom(zone))}, rules.Apart},
		"next to one of others":         {history{pod("p", on("a1"), in("other")), pod("q", on("a2"), awayFrom(zone))}, ""},
		"next to one of all":            {history{pod("p", on("a1"), in("other")), pod("q", on("a2"), awayFromAll(zone))}, rules.Apart},
		"next to itself alone":          {history{pod("p"), pod("p", on("a1"), awayFrom(hostname))}, ""},
		"next to one that keeps off":    {history{pod("p", on("a1"), db, awayFrom(zone)), pod("q", on("a2"))}, rules.KeptOff},
		"away from one that keeps off":  {history{pod("p", on("a1"), db, awayFrom(zone)), pod("q", on("b2"))}, ""},
		"both where there is no zone":   {history{pod("p", on("d"), db, awayFrom(zone)), pod("q", on("d"))}, ""},
		"away from one to be near":      {history{pod("p", on("a1")), pod("q", on("b1"), inZoneOfItsLike)}, rules.Near},
		"near one":                      {history{pod("p", on("a1")), pod("q", on("a2"), inZoneOfItsLike)}, ""},
		"the first of those to be near": {history{pod("q", on("b1"), inZoneOfItsLike)}, ""},
		"nobody to be near":             {history{pod("q", on("b1"), db, inZoneOfItsLike)}, rules.Near},
	} {
		t.Run(name, func(t *testing.T) {
			h := rules.New(nodes())
			for i, p := range c.history {
				if n := len(h.Violations); n > 0 {
					t.Fatalf("too early: %v", h.Violations)
				}
				id := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
				if p.UID == "" {
					p = nil
				}
				h.Set(uint64(2+i), id, p)
			}
			if c.want == "" && len(h.Violations) > 0 {
				t.Fatalf("%v", h.Violations)
			}
			if c.want != "" && (len(h.Violations) != 1 || h.Violations[0].Rule != c.want || h.Violations[0].Rev != uint64(1+len(c.history))) {
				t.Errorf("%v, want one of the rule %q in the end", h.Violations, c.want)
			}
		})
	}
}

func TestAHistoryTellsHowNearItCame(t *testing.T) {
	h := rules.New(nodes())
	for i, p := range []*corev1.Pod{
		pod("p", on("a1"), asking("2", "0")), pod("q", on("b1"), evenly(zone, must)), pod("r", on("a2"), evenly(zone, must)),
		pod("s"), pod("s", on("b2"), db, awayFrom(hostname)),
	} {
		h.Set(uint64(2+i), types.NamespacedName{Namespace: p.Namespace, Name: p.Name}, p)
	}
	got := fmt.Sprintf("%d revisions, %d bound, %d full, %d at the edge, %d refused, %v", h.Revisions, h.Bound, h.Full, h.Edge, h.Refused, h.Violations)
	if want := "5 revisions, 4 bound, 1 full, 2 at the edge, 1 refused, []"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	var names []string
	for _, p := range h.Pods() {
		names = append(names, p.Name)
	}
	if !slices.IsSorted(names) || strings.Join(names, "") != "pqrs" {
		t.Errorf("pods %v", names)
	}
}
