package scheduling

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	podresource "k8s.io/component-helpers/resource"
)

// The keys below hold every field that a rule reads, each with its length before it, so that two
// pods have one key only if no rule can tell them apart.

// appendResources writes all that newCharge and newRequest read.
func appendResources(key []byte, pod *corev1.Pod) []byte {
	key = appendCount(key, len(pod.Spec.Containers))
	for i := range pod.Spec.Containers {
		key = appendContainer(key, pod, &pod.Spec.Containers[i])
	}
	key = appendCount(key, len(pod.Spec.InitContainers))
	for i := range pod.Spec.InitContainers {
		key = appendContainer(key, pod, &pod.Spec.InitContainers[i])
	}
	key = appendList(key, pod.Spec.Overhead)
	if pod.Spec.Resources == nil {
		key = append(key, 0)
	} else {
		key = appendList(append(key, 1), pod.Spec.Resources.Requests)
		key = appendList(key, pod.Spec.Resources.Limits)
	}
	if pod.Status.Resources == nil {
		key = append(key, 0)
	} else {
		key = appendList(append(key, 1), pod.Status.Resources.Requests)
	}
	key = appendList(key, pod.Status.AllocatedResources)
	return appendBool(key, podresource.IsPodResizeInfeasible(pod))
}

func appendContainer(key []byte, pod *corev1.Pod, c *corev1.Container) []byte {
	key = appendBool(key, isSidecar(c))
	key = appendList(key, c.Resources.Requests)
	for i := range c.Ports {
		if c.Ports[i].HostPort > 0 {
			p := newHostPort(&c.Ports[i])
			key = appendString(appendString(append(key, 1), string(p.protocol)), p.address)
			key = binary.AppendVarint(key, int64(p.port))
		}
	}
	key = append(key, 0)
	status := statusOf(pod, c.Name)
	if status == nil || status.AllocatedResources == nil && status.Resources == nil {
		return append(key, 0)
	}
	key = appendList(append(key, 1), status.AllocatedResources)
	if status.Resources == nil {
		return append(key, 0)
	}
	return appendList(append(key, 1), status.Resources.Requests)
}

func statusOf(pod *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for i := range statuses {
			if statuses[i].Name == name {
				return &statuses[i]
			}
		}
	}
	return nil
}

// appendConstraints writes all else that newClass reads.
func appendConstraints(key []byte, pod *corev1.Pod) []byte {
	key = binary.AppendVarint(key, int64(priorityOf(pod)))
	policy := pod.Spec.PreemptionPolicy
	key = appendBool(key, policy != nil && *policy == corev1.PreemptNever)
	for _, name := range imageNames(pod) {
		key = appendString(key, name)
	}
	key = appendCount(key, -1) // no length: the end of the images
	if needed := featuresOf(pod); !needed.IsEmpty() {
		key = appendString(append(key, 1), needed.String())
	} else {
		key = append(key, 0)
	}
	key = appendCount(key, len(pod.Spec.Tolerations))
	for i := range pod.Spec.Tolerations {
		t := &pod.Spec.Tolerations[i]
		key = appendString(appendString(key, t.Key), string(t.Operator))
		key = appendString(appendString(key, t.Value), string(t.Effect))
	}
	key = appendCount(key, len(pod.Spec.NodeSelector))
	if len(pod.Spec.NodeSelector) > 0 {
		for _, label := range slices.Sorted(maps.Keys(pod.Spec.NodeSelector)) {
			key = appendString(appendString(key, label), pod.Spec.NodeSelector[label])
		}
	}
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.NodeAffinity == nil {
		return append(key, 0)
	}
	// Of plain strings and numbers, which always encode.
	terms, _ := json.Marshal(pod.Spec.Affinity.NodeAffinity)
	return appendString(append(key, 1), string(terms))
}

// appendSpreading writes constraints: of the pod's labels only what they make of them.
func appendSpreading(key []byte, s *spreading) []byte {
	if len(s.hard)+len(s.soft) == 0 {
		return append(key, 0)
	}
	key = appendBool(appendString(append(key, 1), s.namespace), s.defaulted)
	for kind, list := range [][]spreadConstraint{s.hard, s.soft} {
		for i := range list {
			c := &list[i]
			key = appendString(appendString(append(key, byte(kind)), c.topologyKey), c.selector.String())
			key = binary.AppendVarint(binary.AppendVarint(key, int64(c.maxSkew)), int64(c.minDomains))
			key = appendBool(appendBool(appendBool(key, c.honorAffinity), c.honorTaints), c.self)
		}
	}
	return append(key, 2)
}

// appendList writes a resource list in order of name, each value whole and in thousandths, since
// sums are rounded up only at the end. A nil list differs from an empty one.
func appendList(key []byte, list corev1.ResourceList) []byte {
	if list == nil {
		return append(key, 0)
	}
	key = appendCount(append(key, 1), len(list))
	var room [8]corev1.ResourceName
	names := room[:0]
	for name := range list {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		q := list[name]
		key = appendString(key, string(name))
		key = binary.AppendVarint(binary.AppendVarint(key, q.Value()), q.MilliValue())
	}
	return key
}

func appendString(key []byte, s string) []byte {
	return append(appendCount(key, len(s)), s...)
}

func appendCount(key []byte, n int) []byte { return binary.AppendVarint(key, int64(n)) }

func appendBool(key []byte, b bool) []byte {
	if b {
		return append(key, 1)
	}
	return append(key, 0)
}
