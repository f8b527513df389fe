package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/scheduling"
)

const (
	// schedulingNodes is the size of the clusters that the core is asked about, and growthNodes are others.
	schedulingNodes = 5000
	// schedulingRuns are made of each question; the median counts.
	schedulingRuns = 3
	// schedulingZones is how many zones the nodes are in.
	schedulingZones = 10
)

var growthNodes = []int{500, 50_000}

// question is pods that the core places: how many on how many nodes, and what they ask of each other.
type question struct {
	name        string
	nodes, pods int
	alter       func(*corev1.Pod)
	// full has pods of low priority take all of each node, so that room must be made for the others.
	full bool
	// least is how many it is asked to place in a second.
	least float64
}

func questions(divisor int) []question {
	const host, zone = corev1.LabelHostname, corev1.LabelTopologyZone
	plain := func(*corev1.Pod) {}
	n := schedulingNodes / divisor
	out := []question{
		{name: "plain pods", nodes: n, pods: 2 * n, alter: plain, least: 50_000},
		{name: "required topology spread", nodes: n, pods: n, alter: spreadOver(zone, corev1.DoNotSchedule), least: 5000},
		{name: "preferred topology spread", nodes: n, pods: n, alter: spreadOver(zone, corev1.ScheduleAnyway), least: 5000},
		{name: "required affinity", nodes: n, pods: n, alter: func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: alike(zone)}}
		}, least: 5000},
		{name: "preferred affinity", nodes: n, pods: n, alter: func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: weighted(alike(host))}}
		}, least: 5000},
		{name: "required anti-affinity", nodes: n, pods: n, alter: func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: alike(host)}}
		}, least: 5000},
		{name: "preferred anti-affinity", nodes: n, pods: n, alter: func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: weighted(alike(host))}}
		}, least: 5000},
	}
	out = append(out, question{name: "pods that preempt others", nodes: n, pods: n, alter: important, full: true, least: 1000})
	for _, nodes := range growthNodes {
		out = append(out, question{name: "plain pods", nodes: nodes / divisor, pods: 2 * n, alter: plain})
	}
	return out
}

func spreadOver(topology string, when corev1.UnsatisfiableConstraintAction) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: topology, WhenUnsatisfiable: when, LabelSelector: &metav1.LabelSelector{MatchLabels: p.Labels},
		}}
	}
}

// important pods ask for most of a node, and may have others go for that.
func important(p *corev1.Pod) {
	p.Spec.Priority = new(int32(100))
	p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("24")
}

// alike asks for pods of the same app in a domain.
func alike(topology string) []corev1.PodAffinityTerm {
	return []corev1.PodAffinityTerm{{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, TopologyKey: topology}}
}

func weighted(terms []corev1.PodAffinityTerm) []corev1.WeightedPodAffinityTerm {
	return []corev1.WeightedPodAffinityTerm{{Weight: 10, PodAffinityTerm: terms[0]}}
}

// cluster returns the state that the question is about.
func (q question) cluster() *scheduling.Cluster {
	c := scheduling.NewCluster()
	for i := range q.nodes {
		name := fmt.Sprintf("node-%d", i)
		c.SetNode(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
				corev1.LabelHostname: name, corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", i%schedulingZones),
			}},
			Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("128Gi"), corev1.ResourcePods: resource.MustParse("256"),
			}},
		})
	}
	for i := range q.nodes {
		for k := range 4 * q.filling() {
			p := examplePod(fmt.Sprintf("low-%d-%d", i, k))
			p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("8")
			p.Spec.NodeName = fmt.Sprintf("node-%d", i)
			p.Status.StartTime = new(metav1.NewTime(time.Unix(int64(1000+i+k), 0)))
			c.SetPod(p)
		}
	}
	for i := range q.pods {
		p := examplePod(fmt.Sprintf("pod-%d", i))
		q.alter(p)
		c.SetPod(p)
	}
	return c
}

func (q question) filling() int {
	if q.full {
		return 1
	}
	return 0
}

func examplePod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{SchedulerName: corev1.DefaultSchedulerName, Containers: []corev1.Container{{
			Name: "main", Image: "example.com/web", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi"),
			}},
		}}},
	}
}

// answer has the core place the pods, and returns how long that took and how often it allocated.
func (q question) answer() (took time.Duration, allocations uint64, err error) {
	c := q.cluster()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	result := c.Place(1, start)
	took = time.Since(start)
	placed := len(result.Placements) + len(result.Preemptions)
	runtime.ReadMemStats(&after)
	if placed != q.pods {
		err = fmt.Errorf("%s: %d of %d pods were placed on %d nodes", q.name, placed, q.pods, q.nodes)
	}
	return took, after.Mallocs - before.Mallocs, err
}

// measureScheduling measures the core alone: a snapshot in, a plan out.
func measureScheduling(_ context.Context, _ platform, s sizes) ([]value, error) {
	var values []value
	for _, q := range questions(s.storageDivisor) {
		var allocations uint64
		milliseconds, err := median(schedulingRuns, func(int) (took time.Duration, err error) {
			took, allocations, err = q.answer()
			return took, err
		})
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("core, %d %s on %d nodes", q.pods, q.name, q.nodes)
		values = append(values,
			value{name: name, unit: "pods/s", amount: float64(q.pods) * 1000 / milliseconds, more: true, ask: ask{amount: q.least}},
			value{name: name + ", for each", unit: "allocations", amount: float64(allocations) / float64(q.pods)})
	}
	return values, nil
}
