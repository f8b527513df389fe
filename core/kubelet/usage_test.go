package kubelet

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var usageNow = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// using is a pod that has been ready for a time, with two containers, on node "n".
func using(readyFor time.Duration, change func(*corev1.Pod)) *corev1.Pod {
	ran := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Annotations: map[string]string{CPUUsage: "1", MemoryUsage: "64Mi"}},
		Spec:       corev1.PodSpec{NodeName: "n"},
		Status: corev1.PodStatus{
			Phase:             corev1.PodRunning,
			ContainerStatuses: []corev1.ContainerStatus{{Name: "a", State: ran}, {Name: "b", State: ran}},
			Conditions: []corev1.PodCondition{{
				Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(usageNow.Add(-readyFor)),
			}},
		},
	}
	if change != nil {
		change(pod)
	}
	return pod
}

func TestWhatASimulatedPodUsesIsWhatItsAnnotationsSay(t *testing.T) {
	simulated := map[string]string{Simulated: "true"}
	tests := map[string]struct {
		pod    *corev1.Pod
		node   map[string]string
		want   string // CPU and memory of container a
		window time.Duration
	}{
		"in equal parts":                       {pod: using(time.Minute, nil), node: simulated, want: "500m 32Mi", window: usageWindow},
		"for as long as it is ready":           {pod: using(3*time.Second, nil), node: simulated, want: "500m 32Mi", window: 3 * time.Second},
		"from the first moment":                {pod: using(0, nil), node: simulated, want: "500m 32Mi"},
		"nothing by itself":                    {pod: using(time.Minute, func(p *corev1.Pod) { p.Annotations = nil }), node: simulated, want: "0 0", window: usageWindow},
		"nothing for what is no quantity":      {pod: using(time.Minute, func(p *corev1.Pod) { p.Annotations[CPUUsage] = "much" }), node: simulated, want: "0 32Mi", window: usageWindow},
		"nothing for what is negative":         {pod: using(time.Minute, func(p *corev1.Pod) { p.Annotations[CPUUsage] = "-1" }), node: simulated, want: "0 32Mi", window: usageWindow},
		"nothing for more than can be counted": {pod: using(time.Minute, func(p *corev1.Pod) { p.Annotations[CPUUsage] = "9E" }), node: simulated, want: "0 32Mi", window: usageWindow},
		"all in the one that runs": {
			pod: using(time.Minute, func(p *corev1.Pod) { p.Status.ContainerStatuses[1].State = corev1.ContainerState{} }), node: simulated, want: "1 64Mi", window: usageWindow,
		},
		"not measured before it is ready": {pod: using(time.Minute, func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }), node: simulated},
		"not measured before it runs":     {pod: using(time.Minute, func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }), node: simulated},
		"not measured on a real node":     {pod: using(time.Minute, nil)},
		"not measured elsewhere":          {pod: using(time.Minute, func(p *corev1.Pod) { p.Spec.NodeName = "other" }), node: simulated},
		"not measured once the node stopped": {
			pod: using(time.Minute, nil), node: map[string]string{Simulated: "true", StoppedAt: "2026-11-24T11:00:00Z"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Annotations: test.node}}
			used, ok := PodUsage(test.pod, node, usageNow)
			if ok != (test.want != "") {
				t.Fatalf("it was measured: %t", ok)
			}
			if !ok {
				return
			}
			cpu, memory := used.Containers["a"][corev1.ResourceCPU], used.Containers["a"][corev1.ResourceMemory]
			if got := cpu.String() + " " + memory.String(); got != test.want || used.Window != test.window {
				t.Errorf("%s over %v, want %s over %v", got, used.Window, test.want, test.window)
			}
		})
	}
}

func TestASimulatedNodeUsesWhatItsPodsDo(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Annotations: map[string]string{Simulated: "true"}}}
	pods := []*corev1.Pod{using(time.Minute, nil), using(time.Second, nil), using(time.Minute, func(p *corev1.Pod) { p.Spec.NodeName = "other" })}
	used, window, ok := NodeUsage(node, pods, usageNow)
	cpu, memory := used[corev1.ResourceCPU], used[corev1.ResourceMemory]
	if diff := cmp.Diff("2 128Mi 15s", cpu.String()+" "+memory.String()+" "+window.String()); diff != "" || !ok {
		t.Errorf("measured %t (-want +got):\n%s", ok, diff)
	}
	node.Annotations = nil
	if _, _, ok := NodeUsage(node, pods, usageNow); ok {
		t.Error("a real node's usage is made up")
	}
}
