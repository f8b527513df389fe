package autoscaling

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	resourcehelpers "k8s.io/component-helpers/resource"
)

// grouped is what pods are for a metric.
type grouped struct {
	// samples of the pods that count.
	samples map[string]Sample
	ready   int
	// unready pods are not measured yet, missing ones should have a sample.
	unready, missing sets.Set[string]
}

// group takes the samples of pods that are not to count away: of those that go or have failed, are
// pending, or start. It is an error if none is left.
//
// Upstream: groupPods, removeMetricsForPods (replica_calculator.go).
func (c Calculator) group(name corev1.ResourceName, samples map[string]Sample) (grouped, error) {
	g := grouped{samples: maps.Clone(samples), unready: sets.New[string](), missing: sets.New[string]()}
	for _, pod := range c.Pods {
		sample, measured := samples[pod.Name]
		switch {
		case pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed:
			delete(g.samples, pod.Name)
		case pod.Status.Phase == corev1.PodPending:
			g.unready.Insert(pod.Name)
			delete(g.samples, pod.Name)
		case !measured:
			g.missing.Insert(pod.Name)
		case name == corev1.ResourceCPU && c.starts(pod, sample):
			g.unready.Insert(pod.Name)
			delete(g.samples, pod.Name)
		default:
			g.ready++
		}
	}
	if len(g.samples) == 0 {
		return g, fmt.Errorf("did not receive metrics for targeted pods (pods might be unready)")
	}
	return g, nil
}

// starts reports whether the processor time of a pod says nothing yet: it is not ready, or has not been
// for a whole window, within the time in which pods start; or it has never been ready after that.
func (c Calculator) starts(pod *corev1.Pod, sample Sample) bool {
	ready := readiness(pod)
	if ready == nil || pod.Status.StartTime == nil {
		return true
	}
	began, changed, unready := pod.Status.StartTime.Time, ready.LastTransitionTime.Time, ready.Status == corev1.ConditionFalse
	if began.Add(cpuInitialization).After(c.Now) {
		return unready || sample.Timestamp.Before(changed.Add(sample.Window))
	}
	return unready && began.Add(initialReadinessDelay).After(changed)
}

func readiness(pod *corev1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == corev1.PodReady {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// ready counts the pods that run and are ready.
//
// Upstream: getReadyPodsCount (replica_calculator.go).
func (c Calculator) ready() int {
	n := 0
	for _, pod := range c.Pods {
		if ready := readiness(pod); pod.Status.Phase == corev1.PodRunning && ready != nil && ready.Status == corev1.ConditionTrue {
			n++
		}
	}
	return n
}

// requests are the thousandths of a resource that each pod requests, or one container of it if it is
// named. Every pod has to request some.
//
// Upstream: calculateRequests (replica_calculator.go).
func requests(pods []*corev1.Pod, container string, name corev1.ResourceName) (map[string]int64, error) {
	out := make(map[string]int64, len(pods))
	for _, pod := range pods {
		if container == "" && resourcehelpers.IsPodLevelRequestsSet(pod) {
			request, ok := resourcehelpers.PodRequests(pod, resourcehelpers.PodResourcesOptions{})[name]
			if !ok {
				return nil, fmt.Errorf("missing pod-level request for %s in Pod %s", name, pod.Name)
			}
			out[pod.Name] = request.MilliValue()
			continue
		}
		request, err := containerRequests(pod, container, name)
		if err != nil {
			return nil, err
		}
		out[pod.Name] = request
	}
	return out, nil
}

// containerRequests follows calculatePodRequestsFromContainers (replica_calculator.go): sidecars count,
// other init containers do not.
func containerRequests(pod *corev1.Pod, container string, name corev1.ResourceName) (int64, error) {
	containers := slices.Clone(pod.Spec.Containers)
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	var total int64
	for _, c := range containers {
		if container != "" && container != c.Name {
			continue
		}
		request, ok := c.Resources.Requests[name]
		if !ok {
			return 0, fmt.Errorf("missing request for %s in container %s of Pod %s", name, c.Name, pod.Name)
		}
		if container != "" {
			return request.MilliValue(), nil
		}
		total += request.MilliValue()
	}
	if container != "" {
		return 0, fmt.Errorf("container %s not found in Pod %s", container, pod.Name)
	}
	return total, nil
}
