package endpoints

import (
	"bytes"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	hashutil "k8s.io/kubernetes/pkg/util/hash"
)

// portsOf are the ports of a Service at a pod: those that it has (utils.go getEndpointPorts).
func portsOf(svc *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	ports := []discoveryv1.EndpointPort{}
	for i := range svc.Spec.Ports {
		port := &svc.Spec.Ports[i]
		number, found := targetPort(pod, port)
		if !found {
			continue
		}
		ports = append(ports, discoveryv1.EndpointPort{
			Name: new(port.Name), Port: &number, Protocol: new(port.Protocol), AppProtocol: port.AppProtocol,
		})
	}
	return ports
}

// targetPort is the port of a pod that one of a Service leads to (utils.go FindPort).
func targetPort(pod *corev1.Pod, port *corev1.ServicePort) (number int32, found bool) {
	if port.TargetPort.Type == intstr.Int {
		return port.TargetPort.IntVal, true
	}
	for i := range pod.Spec.Containers {
		if number, found := containerPort(&pod.Spec.Containers[i], port); found {
			return number, true
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			continue
		}
		if number, found := containerPort(c, port); found {
			return number, true
		}
	}
	return 0, false
}

func containerPort(c *corev1.Container, port *corev1.ServicePort) (number int32, found bool) {
	for i := range c.Ports {
		if p := &c.Ports[i]; p.Name == port.TargetPort.StrVal && p.Protocol == port.Protocol {
			return p.ContainerPort, true
		}
	}
	return 0, false
}

// keyOfPorts is equal for lists of the same ports, in any order (util/controller_utils.go NewPortMapKey).
func keyOfPorts(ports []discoveryv1.EndpointPort) string {
	keys := make([]string, len(ports))
	for i := range ports {
		keys[i] = keyOfPort(&ports[i])
	}
	slices.Sort(keys)
	return strings.Join(keys, "\n")
}

func keyOfPort(p *discoveryv1.EndpointPort) string {
	var b strings.Builder
	part := func(s *string) {
		if s != nil {
			b.WriteString(strconv.Quote(*s))
		}
		b.WriteByte('/')
	}
	part(p.Name)
	part((*string)(p.Protocol))
	part(p.AppProtocol)
	if p.Port != nil {
		b.WriteString(strconv.Itoa(int(*p.Port)))
	}
	return b.String()
}

// sortPorts puts ports into the order that upstream gives them, which is that of their hashes
// (util/controller_utils.go portsInOrder).
func sortPorts(ports []discoveryv1.EndpointPort) {
	if len(ports) < 2 {
		return
	}
	slices.SortFunc(ports, func(a, b discoveryv1.EndpointPort) int { return bytes.Compare(hashOf(a), hashOf(b)) })
}

func hashOf(port discoveryv1.EndpointPort) []byte {
	h := fnv.New128a()
	hashutil.DeepHashObject(h, port)
	return h.Sum(nil)
}
