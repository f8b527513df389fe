package endpoints

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/zeroplane/zeroplane/core/plan"
)

var noon = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

func service(alter ...func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "uid-web", CreationTimestamp: metav1.NewTime(noon)},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.9", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	for _, f := range alter {
		f(svc)
	}
	return svc
}

// pod is one with the address 10.0.0.N, ready for N minutes after noon.
func pod(n int, alter ...func(*corev1.Pod)) *corev1.Pod {
	name := fmt.Sprintf("p%04d", n)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: "n"},
		Status: corev1.PodStatus{PodIP: fmt.Sprintf("10.0.%d.%d", n/250, n%250), Conditions: []corev1.PodCondition{{
			Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(noon.Add(time.Duration(n) * time.Minute)),
		}}},
	}
	p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
	for _, f := range alter {
		f(p)
	}
	return p
}

func unready(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }

func deleting(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.NewTime(noon)) }

func ended(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }

func node(name, zone string, alter ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: *newCPU(4)}
	for _, f := range alter {
		f(n)
	}
	return n
}

// apply returns slices as they are after the plan, with names made of numbers.
func apply(slices []*discoveryv1.EndpointSlice, p plan.Plan) []*discoveryv1.EndpointSlice {
	byName := map[string]*discoveryv1.EndpointSlice{}
	for _, s := range slices {
		byName[s.Name] = s
	}
	for i, w := range p.Writes {
		if w.Verb == plan.Delete {
			delete(byName, w.Name)
			continue
		}
		s := w.Object.(*discoveryv1.EndpointSlice).DeepCopy()
		if s.Name == "" {
			s.Name = fmt.Sprintf("%s%d-%d", s.GenerateName, len(slices), i)
		}
		s.UID, s.ResourceVersion = types.UID(s.Name), s.ResourceVersion+"1"
		byName[s.Name] = s
	}
	var out []*discoveryv1.EndpointSlice
	for _, name := range sortedKeys(byName) {
		out = append(out, byName[name])
	}
	return out
}
