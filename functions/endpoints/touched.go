package endpoints

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
	"github.com/zeroplane/zeroplane/core/endpoints"
	"github.com/zeroplane/zeroplane/core/plan"
	"github.com/zeroplane/zeroplane/functions/consumer"
)

// touched collects the names of a batch: whose EndpointSlices, whose Endpoints and whose mirrored EndpointSlices to look at.
type touched struct {
	slices, objects, mirrors consumer.Set

	snapshot *consumer.Snapshot
	// selecting are the Services with a selector, by namespace: those of namespaces that were asked for.
	selecting map[string][]selecting
	// moved are the nodes whose pods' endpoints may be others.
	moved map[string]bool
	// zones is set if the zones' shares may be others.
	zones bool
}

// selecting is a Service's selector.
type selecting struct {
	name     string
	selector labels.Selector
}

func newTouched(s *consumer.Snapshot) *touched {
	return &touched{
		slices: consumer.Set{}, objects: consumer.Set{}, mirrors: consumer.Set{},
		snapshot: s, selecting: map[string][]selecting{}, moved: map[string]bool{},
	}
}

// everything adds all Services, and all names of which there are Endpoints or slices without one.
func (t *touched) everything() error {
	for _, set := range []consumer.Set{t.slices, t.objects, t.mirrors} {
		if err := consumer.AddAll[*corev1.Service](t.snapshot, services, set); err != nil {
			return err
		}
	}
	for _, set := range []consumer.Set{t.objects, t.mirrors} {
		if err := consumer.AddAll[*endpoints.Endpoints](t.snapshot, objects, set); err != nil {
			return err
		}
	}
	all, err := consumer.List[*discoveryv1.EndpointSlice](t.snapshot, slices, "")
	for _, slice := range all {
		t.slice(slice)
	}
	return err
}

func (t *touched) service(namespace, name string) {
	t.slices.Add(namespace, name)
	t.objects.Add(namespace, name)
	t.mirrors.Add(namespace, name)
}

// due adds what was put off because a write was refused.
func (t *touched) due(l plan.Later) {
	if l.Subject.Resource == plan.Services {
		t.service(l.Subject.Namespace, l.Subject.Name)
	}
}

func (t *touched) change(ev tablelog.Event) error {
	gr, namespace, name := kubestorage.ParseKey(ev.Key)
	switch gr {
	case services:
		t.service(namespace, name)
	case pods:
		return t.pod(ev)
	case nodes:
		return t.node(ev)
	case objects:
		return t.object(ev)
	case slices:
		return between(t.snapshot, ev, func(before, after *discoveryv1.EndpointSlice) error {
			t.slice(before)
			t.slice(after)
			return nil
		})
	}
	return nil
}

// between calls do with an object before and after a change, nil where there is none.
func between[T any](s *consumer.Snapshot, ev tablelog.Event, do func(before, after *T) error) error {
	before, _, err := consumer.Read[*T](s, ev.Prev)
	if err != nil {
		return err
	}
	after, _, err := consumer.Read[*T](s, ev.Entry)
	if err != nil {
		return err
	}
	return do(before, after)
}

// pod adds the Services that select a pod whose endpoints may be others, and those that select it no more, or only now.
//
// Upstream: GetServicesToUpdate of k8s.io/endpointslice/util.
func (t *touched) pod(ev tablelog.Event) error {
	return between(t.snapshot, ev, func(before, after *corev1.Pod) error {
		relabelled, changed := endpoints.PodChange(before, after)
		if !relabelled && !changed {
			return nil
		}
		was, err := t.selectors(before)
		if err != nil {
			return err
		}
		is, err := t.selectors(after)
		if err != nil {
			return err
		}
		for n := range was {
			if changed || !is[n] {
				t.endpoints(n)
			}
		}
		for n := range is {
			if changed || !was[n] {
				t.endpoints(n)
			}
		}
		return nil
	})
}

func (t *touched) endpoints(n consumer.Named) {
	t.slices.Add(n.Namespace, n.Name)
	t.objects.Add(n.Namespace, n.Name)
}

// selectors are the Services that select a pod.
func (t *touched) selectors(pod *corev1.Pod) (consumer.Set, error) {
	out := consumer.Set{}
	if pod == nil {
		return out, nil
	}
	known, ok := t.selecting[pod.Namespace]
	if !ok {
		all, err := consumer.List[*corev1.Service](t.snapshot, services, pod.Namespace)
		if err != nil {
			return nil, err
		}
		for _, svc := range all {
			if endpoints.Selected(svc) {
				known = append(known, selecting{svc.Name, labels.SelectorFromSet(svc.Spec.Selector)})
			}
		}
		t.selecting[pod.Namespace] = known
	}
	for _, s := range known {
		if s.selector.Matches(labels.Set(pod.Labels)) {
			out.Add(pod.Namespace, s.name)
		}
	}
	return out, nil
}

func (t *touched) node(ev tablelog.Event) error {
	_, _, name := kubestorage.ParseKey(ev.Key)
	return between(t.snapshot, ev, func(before, after *corev1.Node) error {
		moved, zones := endpoints.NodeChange(before, after)
		if moved {
			t.moved[name] = true
		}
		t.zones = t.zones || zones
		return nil
	})
}

// ofNodes adds the Services of the pods on nodes that have come, gone or moved, and those whose endpoints are spread by zones if
// the zones' shares may be others.
func (t *touched) ofNodes() error {
	if t.zones {
		if err := consumer.AddMatching(t.snapshot, services, "", t.slices, endpoints.WantsZones); err != nil {
			return err
		}
	}
	if len(t.moved) == 0 {
		return nil
	}
	all, err := consumer.List[*corev1.Pod](t.snapshot, pods, "")
	if err != nil {
		return err
	}
	for _, pod := range all {
		if !t.moved[pod.Spec.NodeName] {
			continue
		}
		of, err := t.selectors(pod)
		if err != nil {
			return err
		}
		for n := range of {
			t.slices.Add(n.Namespace, n.Name)
		}
	}
	return nil
}

// object adds a name whose Endpoints changed: they are mirrored, and made again if they were deleted. What somebody else writes into
// those of a Service with a selector stays until the Service's endpoints change, as upstream.
func (t *touched) object(ev tablelog.Event) error {
	return between(t.snapshot, ev, func(before, after *endpoints.Endpoints) error {
		_, namespace, name := kubestorage.ParseKey(ev.Key)
		if after == nil {
			t.objects.Add(namespace, name)
		}
		if endpoints.Mirrorable(before) || endpoints.Mirrorable(after) {
			t.mirrors.Add(namespace, name)
		}
		return nil
	})
}

// slice adds the Service that a slice of ours says it is of.
func (t *touched) slice(slice *discoveryv1.EndpointSlice) {
	if slice == nil || slice.Labels[discoveryv1.LabelServiceName] == "" {
		return
	}
	switch slice.Labels[discoveryv1.LabelManagedBy] {
	case endpoints.SliceManager:
		t.slices.Add(slice.Namespace, slice.Labels[discoveryv1.LabelServiceName])
	case endpoints.MirrorManager:
		t.mirrors.Add(slice.Namespace, slice.Labels[discoveryv1.LabelServiceName])
	}
}
