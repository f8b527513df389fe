package kubelet

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// usageWindow is the longest time that the usage of a simulated pod is given for, as long as the metrics
// server's are.
const usageWindow = 15 * time.Second

// Usage is what the containers of a pod used over the Window that ends now.
type Usage struct {
	Window     time.Duration
	Containers map[string]corev1.ResourceList
}

// PodUsage returns what the running containers of a pod on a simulated node use: what its annotations say, in
// equal parts, for as long as it has been ready. It follows from the pod and the time, so nobody has to report
// it. There is none if the node has stopped, or nothing runs.
func PodUsage(pod *corev1.Pod, node *corev1.Node, now time.Time) (Usage, bool) {
	if pod.Spec.NodeName != node.Name || !alive(node) || pod.Status.Phase != corev1.PodRunning {
		return Usage{}, false
	}
	var running []string
	for i := range pod.Status.ContainerStatuses {
		if status := &pod.Status.ContainerStatuses[i]; status.State.Running != nil {
			running = append(running, status.Name)
		}
	}
	since, ready := readySince(pod)
	if len(running) == 0 || !ready {
		return Usage{}, false
	}
	parts := int64(len(running))
	used := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewScaledQuantity(annotated(pod, CPUUsage, resource.Nano)/parts, resource.Nano),
		corev1.ResourceMemory: *resource.NewQuantity(annotated(pod, MemoryUsage, 0)/parts, resource.BinarySI),
	}
	u := Usage{Window: min(max(now.Sub(since).Truncate(time.Second), 0), usageWindow), Containers: map[string]corev1.ResourceList{}}
	for _, name := range running {
		u.Containers[name] = used.DeepCopy()
	}
	return u, true
}

// NodeUsage is what the pods of a simulated node use together. There is none if the node is not simulated, or
// has stopped.
func NodeUsage(node *corev1.Node, pods []*corev1.Pod, now time.Time) (corev1.ResourceList, time.Duration, bool) {
	if !alive(node) {
		return nil, 0, false
	}
	cpu, memory := resource.NewScaledQuantity(0, resource.Nano), resource.NewQuantity(0, resource.BinarySI)
	for _, pod := range pods {
		used, ok := PodUsage(pod, node, now)
		if !ok {
			continue
		}
		for _, container := range used.Containers {
			cpu.Add(container[corev1.ResourceCPU])
			memory.Add(container[corev1.ResourceMemory])
		}
	}
	return corev1.ResourceList{corev1.ResourceCPU: *cpu, corev1.ResourceMemory: *memory}, usageWindow, true
}

// maxUsage bounds what an annotation may say, in units: it fits in an int64 in billionths.
const maxUsage = 1 << 33

// annotated is the value of an annotation in a unit; what is absent, negative, too much for its unit or no
// quantity is 0.
func annotated(pod *corev1.Pod, annotation string, unit resource.Scale) int64 {
	value, err := resource.ParseQuantity(pod.Annotations[annotation])
	if err != nil || value.Sign() < 0 || unit == resource.Nano && value.CmpInt64(maxUsage) > 0 {
		return 0
	}
	return value.ScaledValue(unit)
}

// readySince is when the pod became ready, and whether it is.
func readySince(pod *corev1.Pod) (time.Time, bool) {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.LastTransitionTime.Time, c.Status == corev1.ConditionTrue
		}
	}
	return time.Time{}, false
}
