package rules

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/zeroplane/zeroplane/core/plan"
)

// checkServices looks at each Service that is made or changed: no other has its addresses or ports of nodes.
func checkServices(h *History, c *Change) {
	service, is := c.New.(*corev1.Service)
	if !is {
		return
	}
	h.asked(Addresses)
	All(h, plan.Services, func(other *corev1.Service) {
		if other.UID == service.UID {
			return
		}
		for _, ip := range service.Spec.ClusterIPs {
			for _, others := range other.Spec.ClusterIPs {
				if ip == others && ip != corev1.ClusterIPNone {
					h.violate(Addresses, c.At, "services %s and %s both have %s", id(service), id(other), ip)
				}
			}
		}
		for _, port := range service.Spec.Ports {
			if port.NodePort == 0 {
				continue
			}
			h.asked(Ports)
			for _, others := range other.Spec.Ports {
				if port.NodePort == others.NodePort {
					h.violate(Ports, c.At, "services %s and %s both have port %d", id(service), id(other), port.NodePort)
				}
			}
		}
	})
}

// checkPodAddresses looks at each pod that is given an address: no other that is not over has it.
func checkPodAddresses(h *History, c *Change) {
	pod, is := c.New.(*corev1.Pod)
	if !is || pod.Status.PodIP == "" || pod.Spec.HostNetwork || isOver(pod) {
		return
	}
	if old, was := c.Old.(*corev1.Pod); was && old.Status.PodIP == pod.Status.PodIP {
		return
	}
	h.asked(Addresses)
	All(h, plan.Pods, func(other *corev1.Pod) {
		if other.UID != pod.UID && other.Status.PodIP == pod.Status.PodIP && !isOver(other) && !other.Spec.HostNetwork {
			h.violate(Addresses, c.At, "pods %s and %s both have %s", id(pod), id(other), pod.Status.PodIP)
		}
	})
}
