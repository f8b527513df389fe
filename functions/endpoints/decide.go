package endpoints

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/zeroplane/zeroplane/core/endpoints"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// maxRefusedPause bounds the pause after a refusal, which doubles (endpointslice_controller.go maxSyncBackOff).
const maxRefusedPause = 1000 * time.Second

// decider decides about one name after the other.
type decider struct{ *consumer.Batch }

// slices decides about the EndpointSlices of a Service. Those of one that is gone are garbage, and collected as such.
func (d decider) slices(ctx context.Context, n consumer.Named) error {
	return consumer.Step[endpoints.SlicesSnapshot]{
		Load:   func(s *consumer.Snapshot) (endpoints.SlicesSnapshot, bool, error) { return loadSlices(s, n) },
		Decide: endpoints.Slices,
		Again:  func(in endpoints.SlicesSnapshot) plan.Later { return d.again(n, consumer.LastEdited(in.Service)) },
	}.Take(ctx, d.Batch, sliceController)
}

func loadSlices(s *consumer.Snapshot, n consumer.Named) (in endpoints.SlicesSnapshot, ok bool, err error) {
	if in.Service, ok, err = consumer.Get[*corev1.Service](s, services, n.Namespace, n.Name); err != nil || !ok || !endpoints.Selected(in.Service) {
		return in, false, err
	}
	if in.Pods, err = selectedPods(s, in.Service); err != nil {
		return in, false, err
	}
	if in.Nodes, err = nodesOf(s, in.Pods); err != nil {
		return in, false, err
	}
	if endpoints.WantsZones(in.Service) {
		all, err := consumer.List[*corev1.Node](s, nodes, "")
		if err != nil {
			return in, false, err
		}
		in.Zones = endpoints.ZonesOf(all)
	}
	in.Slices, err = slicesOf(s, n, endpoints.SliceManager)
	return in, err == nil, err
}

// selectedPods are the pods that a Service's selector matches.
func selectedPods(s *consumer.Snapshot, svc *corev1.Service) ([]*corev1.Pod, error) {
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	all, err := consumer.List[*corev1.Pod](s, pods, svc.Namespace)
	var out []*corev1.Pod
	for _, pod := range all {
		if selector.Matches(labels.Set(pod.Labels)) {
			out = append(out, pod)
		}
	}
	return out, err
}

// nodesOf are the nodes that pods are on, by name, as far as they exist.
func nodesOf(s *consumer.Snapshot, on []*corev1.Pod) (map[string]*corev1.Node, error) {
	out, looked := map[string]*corev1.Node{}, map[string]bool{"": true}
	for _, pod := range on {
		name := pod.Spec.NodeName
		if looked[name] {
			continue
		}
		looked[name] = true
		node, ok, err := consumer.Get[*corev1.Node](s, nodes, "", name)
		if err != nil {
			return nil, err
		}
		if ok {
			out[name] = node
		}
	}
	return out, nil
}

// slicesOf are the slices of a Service that a controller manages.
func slicesOf(s *consumer.Snapshot, n consumer.Named, manager string) ([]*discoveryv1.EndpointSlice, error) {
	all, err := consumer.List[*discoveryv1.EndpointSlice](s, slices, n.Namespace)
	var out []*discoveryv1.EndpointSlice
	for _, slice := range all {
		if endpoints.OfService(slice, n.Name, manager) {
			out = append(out, slice)
		}
	}
	return out, err
}

// object decides about the Endpoints of a Service, or of one that is gone.
func (d decider) object(ctx context.Context, n consumer.Named) error {
	return consumer.Step[endpoints.ObjectSnapshot]{
		Load:   func(s *consumer.Snapshot) (endpoints.ObjectSnapshot, bool, error) { return loadObject(s, n) },
		Decide: endpoints.Object,
		Again: func(in endpoints.ObjectSnapshot) plan.Later {
			if in.Service == nil {
				return d.again(n, consumer.LastEdited(in.Endpoints))
			}
			return d.again(n, consumer.LastEdited(in.Service))
		},
	}.Take(ctx, d.Batch, objectController)
}

func loadObject(s *consumer.Snapshot, n consumer.Named) (in endpoints.ObjectSnapshot, ok bool, err error) {
	if in.Service, _, err = consumer.Get[*corev1.Service](s, services, n.Namespace, n.Name); err != nil {
		return in, false, err
	}
	if in.Endpoints, _, err = consumer.Get[*endpoints.Endpoints](s, objects, n.Namespace, n.Name); err != nil {
		return in, false, err
	}
	if in.Service != nil && endpoints.Selected(in.Service) {
		in.Pods, err = selectedPods(s, in.Service)
	}
	return in, err == nil, err
}

// mirror decides about the slices of Endpoints.
func (d decider) mirror(ctx context.Context, n consumer.Named) error {
	return consumer.Step[endpoints.MirrorSnapshot]{
		Load:   func(s *consumer.Snapshot) (endpoints.MirrorSnapshot, bool, error) { return loadMirror(s, n) },
		Decide: endpoints.Mirror,
		Again: func(in endpoints.MirrorSnapshot) plan.Later {
			if in.Endpoints == nil { // it is their deletion that was refused
				return d.again(n, consumer.LastEdited(in.Slices[0]))
			}
			return d.again(n, consumer.LastEdited(in.Endpoints))
		},
	}.Take(ctx, d.Batch, mirrorController)
}

func loadMirror(s *consumer.Snapshot, n consumer.Named) (in endpoints.MirrorSnapshot, ok bool, err error) {
	in.Namespace, in.Name = n.Namespace, n.Name
	if in.Service, _, err = consumer.Get[*corev1.Service](s, services, n.Namespace, n.Name); err != nil {
		return in, false, err
	}
	if in.Endpoints, _, err = consumer.Get[*endpoints.Endpoints](s, objects, n.Namespace, n.Name); err != nil {
		return in, false, err
	}
	in.Slices, err = slicesOf(s, n, endpoints.MirrorManager)
	return in, err == nil, err
}

// again puts off a name of which the API refused a write, for as long again as what it was decided on has been so.
func (d decider) again(n consumer.Named, since time.Time) plan.Later {
	return consumer.TryAgain(plan.Ref{Resource: plan.Services, Namespace: n.Namespace, Name: n.Name}, d.Now, since, maxRefusedPause)
}
