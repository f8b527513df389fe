package rules

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	podresources "k8s.io/component-helpers/resource"
)

// checkRoom adds up what is on a node. Pods that go away take their room until they are gone.
func (h *History) checkRoom(rev uint64, name string) {
	node := h.nodes[name]
	if node == nil {
		return
	}
	taken, pods := corev1.ResourceList{}, int64(0)
	for _, p := range h.pods {
		if p.Spec.NodeName != name || !counts(p) {
			continue
		}
		pods++
		for of, quantity := range podresources.PodRequests(p, podresources.PodResourcesOptions{}) {
			sum := taken[of]
			sum.Add(quantity)
			taken[of] = sum
		}
	}
	taken[corev1.ResourcePods] = *resource.NewQuantity(pods, resource.DecimalSI)
	for _, of := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourcePods} {
		quantity, most := taken[of], node.Status.Allocatable[of]
		switch quantity.Cmp(most) {
		case 1:
			h.report(Room, rev, "%s has %s %s on it and offers %s", name, quantity.String(), of, most.String())
		case 0:
			if of == corev1.ResourceCPU {
				h.Full++
			}
		}
	}
}

// checkPorts looks for another pod on the node with one of a pod's host ports.
func (h *History) checkPorts(rev uint64, pod *corev1.Pod) {
	own := hostPorts(pod)
	if len(own) == 0 || !counts(pod) {
		return
	}
	for _, p := range h.pods {
		if p.UID == pod.UID || p.Spec.NodeName != pod.Spec.NodeName || !counts(p) {
			continue
		}
		for _, a := range own {
			for _, b := range hostPorts(p) {
				if a.clashes(b) {
					h.report(HostPorts, rev, "%s and %s have port %v of %s", full(pod), full(p), a, pod.Spec.NodeName)
				}
			}
		}
	}
}

type hostPort struct {
	address  string
	protocol corev1.Protocol
	port     int32
}

// everyAddress stands for all addresses of a node.
const everyAddress = "0.0.0.0"

func (a hostPort) clashes(b hostPort) bool {
	return a.port == b.port && a.protocol == b.protocol &&
		(a.address == b.address || a.address == everyAddress || b.address == everyAddress)
}

func hostPorts(pod *corev1.Pod) []hostPort {
	var out []hostPort
	for i := range pod.Spec.Containers {
		for _, p := range pod.Spec.Containers[i].Ports {
			if p.HostPort == 0 {
				continue
			}
			port := hostPort{address: p.HostIP, protocol: p.Protocol, port: p.HostPort}
			if port.address == "" {
				port.address = everyAddress
			}
			if port.protocol == "" {
				port.protocol = corev1.ProtocolTCP
			}
			out = append(out, port)
		}
	}
	return out
}
