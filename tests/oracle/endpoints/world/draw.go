package world

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/zeroplane/zeroplane/core/endpoints"
)

const (
	maxServices = 4
	nodes       = 4
	// manyPods is how many pods are made at once at most: more than fit into a slice.
	manyPods = 130
)

// Step lets users do something. What happens to a Service happens alone, since what comes of that is not only seen from where it ends: Endpoints
// go with a Service, and stay with one that loses its selector.
func (w *World) Step(t *rapid.T) {
	w.Now = w.Now.Add(time.Duration(rapid.IntRange(1, 100).Draw(t, "seconds")) * time.Second)
	switch rapid.IntRange(0, 11).Draw(t, "what") {
	case 0, 1, 2, 3:
		w.service(t)
	case 4:
		drop(t, w, w.Services)
	default:
		for range rapid.IntRange(1, 6).Draw(t, "changes") {
			w.change(t)
		}
	}
}

// change changes anything but a Service.
func (w *World) change(t *rapid.T) {
	switch rapid.SampledFrom([]string{"pods", "pods", "pod", "pod", "pod", "node", "endpoints", "delete pod", "delete node", "delete endpoints"}).Draw(t, "what") {
	case "pods":
		w.pods(t)
	case "pod":
		w.pod(t)
	case "node":
		w.node(t)
	case "endpoints":
		w.endpoints(t)
	case "delete pod":
		drop(t, w, w.Pods)
	case "delete node":
		drop(t, w, w.Nodes)
	case "delete endpoints":
		drop(t, w, w.Objects)
	}
}

// drop deletes an object of a kind.
func drop[T any, P object[T]](t *rapid.T, w *World, in map[string]P) {
	if name := pick(t, in); name != "" {
		remove(w, in, name)
	}
}

func pick[P any](t *rapid.T, in map[string]P) string {
	if len(in) == 0 {
		return ""
	}
	return rapid.SampledFrom(slices.Sorted(maps.Keys(in))).Draw(t, "which")
}

func drawLabels(t *rapid.T) map[string]string {
	out := map[string]string{"app": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "app")}
	if tier := rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "tier"); tier != "" {
		out["tier"] = tier
	}
	return out
}

// service makes a Service, or changes one. Its families and cluster IP never change.
func (w *World) service(t *rapid.T) {
	name := fmt.Sprintf("svc%d", rapid.IntRange(1, maxServices).Draw(t, "service"))
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: name}}
	if old := w.Services[name]; old != nil {
		svc = old.DeepCopy()
	} else {
		v4, v6 := corev1.IPv4Protocol, corev1.IPv6Protocol
		svc.Spec.IPFamilies = rapid.SampledFrom([][]corev1.IPFamily{{v4}, {v4}, {v4}, {v6}, {v4, v6}, {v6, v4}}).Draw(t, "families")
		svc.Spec.ClusterIP = rapid.SampledFrom([]string{"10.96.0.7", corev1.ClusterIPNone}).Draw(t, "cluster IP")
	}
	svc.Spec.Selector = nil
	if rapid.IntRange(0, 3).Draw(t, "selects") > 0 {
		svc.Spec.Selector = drawLabels(t)
	}
	svc.Spec.Type = rapid.SampledFrom([]corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeClusterIP, corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName}).Draw(t, "type")
	svc.Labels = rapid.SampledFrom([]map[string]string{nil, {"team": "1"}, {"team": "2", discoveryv1.LabelManagedBy: "me"}}).Draw(t, "labels")
	svc.Spec.PublishNotReadyAddresses = rapid.IntRange(0, 3).Draw(t, "publishes all") == 0
	svc.Annotations = rapid.SampledFrom([]map[string]string{nil, nil, {corev1.AnnotationTopologyMode: "Auto"}}).Draw(t, "annotations")
	svc.Spec.TrafficDistribution = rapid.SampledFrom([]*string{
		nil, nil, new(corev1.ServiceTrafficDistributionPreferClose), new(corev1.ServiceTrafficDistributionPreferSameNode), new("Elsewhere"),
	}).Draw(t, "distribution")
	svc.Spec.Ports = rapid.SampledFrom([][]corev1.ServicePort{
		{servicePort("web", intstr.FromInt32(8080))},
		{servicePort("web", intstr.FromString("http"))},
		{servicePort("web", intstr.FromInt32(8080)), servicePort("more", intstr.FromString("more")), servicePort("third", intstr.FromInt32(9))},
	}).Draw(t, "ports")
	if svc.Spec.ClusterIP == corev1.ClusterIPNone && rapid.IntRange(0, 2).Draw(t, "no ports") == 0 {
		svc.Spec.Ports = nil
	}
	put(w, w.Services, svc)
}

func servicePort(name string, target intstr.IntOrString) corev1.ServicePort {
	p := corev1.ServicePort{Name: name, Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: target}
	if name == "more" {
		p.AppProtocol = new("h2c")
	}
	return p
}

// pods makes some pods.
func (w *World) pods(t *rapid.T) {
	count := rapid.IntRange(1, 4).Draw(t, "count")
	if rapid.IntRange(0, 9).Draw(t, "many") == 0 {
		count = rapid.IntRange(90, manyPods).Draw(t, "count")
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Labels: drawLabels(t)}}
	pod.Spec.Hostname = rapid.SampledFrom([]string{"", "", "me"}).Draw(t, "hostname")
	pod.Spec.Subdomain = rapid.SampledFrom([]string{"", "svc1"}).Draw(t, "subdomain")
	ports := []corev1.ContainerPort{{Name: "http", ContainerPort: rapid.SampledFrom([]int32{80, 81}).Draw(t, "port"), Protocol: corev1.ProtocolTCP}}
	if rapid.Bool().Draw(t, "has more") {
		ports = append(ports, corev1.ContainerPort{Name: "more", ContainerPort: 99, Protocol: corev1.ProtocolTCP})
	}
	pod.Spec.Containers = []corev1.Container{{Name: "c", Ports: ports}}
	family := rapid.IntRange(0, 5).Draw(t, "family")
	for range count {
		p := pod.DeepCopy()
		n := w.version
		p.Name = fmt.Sprintf("pod%d", n)
		p.Spec.NodeName = fmt.Sprintf("node%d", n%nodes)
		if family != 1 {
			p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: fmt.Sprintf("10.0.%d.%d", n/250, n%250)})
		}
		if family == 1 || family == 2 {
			p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: fmt.Sprintf("fd00::%x", n+1)})
		}
		if family == 3 {
			p.Status.PodIPs = nil
		} else {
			p.Status.PodIP = p.Status.PodIPs[0].IP
		}
		w.ready(p, family != 3 && n%5 != 0)
		put(w, w.Pods, p)
	}
}

// ready says whether a pod is ready, from now on.
func (w *World) ready(pod *corev1.Pod, ready bool) {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(w.Now)}}
}

// pod changes one.
func (w *World) pod(t *rapid.T) {
	name := pick(t, w.Pods)
	if name == "" {
		return
	}
	pod := w.Pods[name].DeepCopy()
	switch rapid.IntRange(0, 5).Draw(t, "change") {
	case 0, 1:
		w.ready(pod, pod.Status.Conditions[0].Status != corev1.ConditionTrue)
	case 2:
		pod.DeletionTimestamp = new(metav1.NewTime(w.Now))
	case 3:
		pod.Status.Phase = corev1.PodFailed
		w.ready(pod, false)
	case 4:
		pod.Labels = drawLabels(t)
	case 5:
		pod.Status.PodIP = strings.Replace(pod.Status.PodIP, "10.0.", "10.1.", 1)
		if pod.Status.PodIP == "" {
			pod.Status.PodIP = "10.2.0.1"
		}
		pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
	}
	put(w, w.Pods, pod)
}

// node makes a node, or another of one.
func (w *World) node(t *rapid.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node%d", rapid.IntRange(0, nodes-1).Draw(t, "node"))}}
	if zone := rapid.SampledFrom([]string{"z1", "z2", "z1", "z2", ""}).Draw(t, "zone"); zone != "" {
		node.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	status := rapid.SampledFrom([]corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionTrue, corev1.ConditionFalse}).Draw(t, "ready")
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}
	node.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}
	put(w, w.Nodes, node)
}

// endpoints writes Endpoints that no controller keeps.
func (w *World) endpoints(t *rapid.T) {
	name := fmt.Sprintf("svc%d", rapid.IntRange(1, maxServices).Draw(t, "service"))
	if svc := w.Services[name]; svc == nil || svc.Spec.Selector != nil {
		return
	}
	e := &endpoints.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: name}}
	e.Labels = rapid.SampledFrom([]map[string]string{nil, {"team": "1"}, {discoveryv1.LabelSkipMirror: "true"}}).Draw(t, "labels")
	e.Annotations = rapid.SampledFrom([]map[string]string{nil, {"note": "1", corev1.LastAppliedConfigAnnotation: "x"}}).Draw(t, "annotations")
	for i := range rapid.IntRange(0, 3).Draw(t, "subsets") {
		s := corev1.EndpointSubset{} //nolint:staticcheck // it is what is mirrored
		for _, ip := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"1.0.0.1", "1.0.0.2", "fd00::1", "1.0.0.3"}), rapid.ID).Draw(t, "addresses") {
			a := corev1.EndpointAddress{IP: ip}
			if rapid.Bool().Draw(t, "ready") {
				s.Addresses = append(s.Addresses, a)
			} else {
				s.NotReadyAddresses = append(s.NotReadyAddresses, a)
			}
		}
		for j := range rapid.IntRange(0, 3).Draw(t, "ports") {
			s.Ports = append(s.Ports, corev1.EndpointPort{Name: fmt.Sprintf("p%d", j), Port: int32(80 + i), Protocol: corev1.ProtocolTCP})
		}
		e.Subsets = append(e.Subsets, s)
	}
	put(w, w.Objects, e)
}
