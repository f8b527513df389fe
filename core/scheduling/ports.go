package scheduling

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

const (
	reasonPorts = "node(s) didn't have free ports for the requested pod ports"
	anyAddress  = "0.0.0.0"
)

// hostPort is a port that a pod takes on its node.
type hostPort struct {
	protocol corev1.Protocol
	port     int32
	address  string
}

// portSet counts the pods that hold each host port of a node. Upstream keeps a set, which forgets a port
// that two pods hold (bound past the scheduler) when the first of them goes.
//
// Upstream: HostPortInfo in k8s.io/kube-scheduler/framework/types.go.
type portSet map[hostPort]int

// hostPortsOf lists the host ports of a pod's containers and sidecars.
//
// Upstream: GetHostPorts in pkg/scheduler/util/utils.go.
func hostPortsOf(pod *corev1.Pod) []hostPort {
	var ports []hostPort
	take := func(c *corev1.Container) {
		for i := range c.Ports {
			if c.Ports[i].HostPort > 0 {
				ports = append(ports, newHostPort(&c.Ports[i]))
			}
		}
	}
	for i := range pod.Spec.InitContainers {
		if isSidecar(&pod.Spec.InitContainers[i]) {
			take(&pod.Spec.InitContainers[i])
		}
	}
	for i := range pod.Spec.Containers {
		take(&pod.Spec.Containers[i])
	}
	return ports
}

func newHostPort(p *corev1.ContainerPort) hostPort {
	port := hostPort{protocol: p.Protocol, port: p.HostPort, address: p.HostIP}
	if port.protocol == "" {
		port.protocol = corev1.ProtocolTCP
	}
	if port.address == "" {
		port.address = anyAddress
	}
	return port
}

func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// free reports whether none of the ports is taken: two conflict when protocol and number are equal,
// and the addresses are equal or one of them is every address.
//
// Upstream: plugins/nodeports/node_ports.go.
func (s portSet) free(ports []hostPort) bool {
	if len(s) == 0 {
		return true
	}
	return !slices.ContainsFunc(ports, s.conflicts)
}

func (s portSet) conflicts(want hostPort) bool {
	if want.address != anyAddress {
		all := want
		all.address = anyAddress
		return s[want] > 0 || s[all] > 0
	}
	for held := range s {
		if held.protocol == want.protocol && held.port == want.port {
			return true
		}
	}
	return false
}

func (s portSet) add(ports []hostPort, by int) {
	for _, port := range ports {
		s[port] += by
		if s[port] == 0 {
			delete(s, port)
		}
	}
}
