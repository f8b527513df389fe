// Package world is a namespace in memory, with Services, pods and nodes that change at random, and enough of the API server's rules to carry out the
// plans of core/endpoints. Its own tests and those that compare it with upstream share it.
package world

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/zeroplane/zeroplane/core/endpoints"
	"github.com/zeroplane/zeroplane/core/plan"
)

// Namespace is where everything but nodes is.
const Namespace = "ns"

// maxRounds is how often everything may be decided until nothing is written any more.
const maxRounds = 4

// World is the namespace. Objects are never altered, but replaced.
type World struct {
	Now      time.Time
	Services map[string]*corev1.Service
	Pods     map[string]*corev1.Pod
	Nodes    map[string]*corev1.Node
	Objects  map[string]*endpoints.Endpoints
	Slices   map[string]*discoveryv1.EndpointSlice
	// Log is what users did, oldest first.
	Log []Change

	version int
}

// Change is what a user did: After is nil for a deletion, Before for a creation.
type Change struct{ Before, After runtime.Object }

// New returns an empty world.
func New() *World {
	return &World{
		Now: time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC), Services: map[string]*corev1.Service{}, Pods: map[string]*corev1.Pod{},
		Nodes: map[string]*corev1.Node{}, Objects: map[string]*endpoints.Endpoints{}, Slices: map[string]*discoveryv1.EndpointSlice{},
	}
}

// object is a pointer to a kind.
type object[T any] interface {
	*T
	runtime.Object
	metav1.Object
	DeepCopy() *T
}

// stamp is what the API server does to the metadata of what is written over an object, nil for none.
func (w *World) stamp(obj, over metav1.Object) {
	w.version++
	obj.SetResourceVersion(strconv.Itoa(w.version))
	if over != nil {
		obj.SetUID(over.GetUID())
		obj.SetCreationTimestamp(over.GetCreationTimestamp())
		return
	}
	obj.SetUID(types.UID("uid-" + strconv.Itoa(w.version)))
	obj.SetCreationTimestamp(metav1.NewTime(w.Now))
}

// put is a user's write.
func put[T any, P object[T]](w *World, in map[string]P, obj P) {
	before, existed := in[obj.GetName()]
	c := Change{After: obj}
	if existed {
		c.Before = before
		w.stamp(obj, before)
	} else {
		w.stamp(obj, nil)
	}
	in[obj.GetName()] = obj
	w.Log = append(w.Log, c)
}

// remove is a user's deletion.
func remove[T any, P object[T]](w *World, in map[string]P, name string) {
	w.Log = append(w.Log, Change{Before: in[name]})
	delete(in, name)
	w.collect()
}

// collect deletes the slices whose owner is gone.
func (w *World) collect() {
	owners := map[types.UID]bool{}
	for _, svc := range w.Services {
		owners[svc.UID] = true
	}
	for _, e := range w.Objects {
		owners[e.UID] = true
	}
	maps.DeleteFunc(w.Slices, func(_ string, slice *discoveryv1.EndpointSlice) bool {
		return !slices.ContainsFunc(slice.OwnerReferences, func(o metav1.OwnerReference) bool { return owners[o.UID] })
	})
}

// Settle decides about everything, again and again, until nothing is written. It fails if that does not come to an end, or
// if a plan breaks a rule.
func (w *World) Settle() error {
	var wrote []string
	for range maxRounds {
		var err error
		if wrote, err = w.round(); err != nil || len(wrote) == 0 {
			return err
		}
	}
	return fmt.Errorf("there was something to write in each of %d rounds, in the last one: %s", maxRounds, strings.Join(wrote, ", "))
}

// round decides about everything once, and says what it wrote.
func (w *World) round() (wrote []string, err error) {
	names := map[string]bool{}
	for name := range w.Services {
		names[name] = true
	}
	for name := range w.Objects {
		names[name] = true
	}
	for _, slice := range w.Slices {
		names[slice.Labels[discoveryv1.LabelServiceName]] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		for _, decide := range []func(string) plan.Plan{w.slices, w.object, w.mirror} {
			before := w.shown()
			p := decide(name)
			if w.shown() != before {
				return nil, fmt.Errorf("%s: the decision altered its snapshot", name)
			}
			if len(p.Writes) == 0 && !p.Empty() {
				return nil, fmt.Errorf("%s: notices without writes: %v", name, p.Notices)
			}
			for _, write := range p.Writes {
				wrote = append(wrote, fmt.Sprintf("%s %s %s: %v", write.Verb, write.Resource.Resource, write.Name, write.Object))
			}
			if err := w.apply(p); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return wrote, nil
}

// shown is what decisions could alter.
func (w *World) shown() string {
	body, err := json.Marshal([]any{w.Services, w.Objects, w.Slices})
	if err != nil {
		panic(err)
	}
	return string(body)
}

func sorted[P any](in map[string]P) []P {
	var out []P
	for _, name := range slices.Sorted(maps.Keys(in)) {
		out = append(out, in[name])
	}
	return out
}

// Selected are the pods that a Service selects.
func (w *World) Selected(svc *corev1.Service) []*corev1.Pod {
	return slices.DeleteFunc(sorted(w.Pods), func(pod *corev1.Pod) bool {
		return !labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(pod.Labels))
	})
}

// SlicesOf are the slices of a Service that a controller manages.
func (w *World) SlicesOf(service, manager string) []*discoveryv1.EndpointSlice {
	return slices.DeleteFunc(sorted(w.Slices), func(slice *discoveryv1.EndpointSlice) bool { return !endpoints.OfService(slice, service, manager) })
}

func (w *World) slices(name string) plan.Plan {
	svc := w.Services[name]
	if svc == nil {
		return plan.Plan{}
	}
	return endpoints.Slices(endpoints.SlicesSnapshot{
		Service: svc, Pods: w.Selected(svc), Nodes: w.Nodes, Slices: w.SlicesOf(name, endpoints.SliceManager), Zones: endpoints.ZonesOf(sorted(w.Nodes)),
	})
}

func (w *World) object(name string) plan.Plan {
	in := endpoints.ObjectSnapshot{Service: w.Services[name], Endpoints: w.Objects[name]}
	if in.Service != nil {
		in.Pods = w.Selected(in.Service)
	}
	return endpoints.Object(in)
}

func (w *World) mirror(name string) plan.Plan {
	return endpoints.Mirror(endpoints.MirrorSnapshot{
		Namespace: Namespace, Name: name, Service: w.Services[name], Endpoints: w.Objects[name], Slices: w.SlicesOf(name, endpoints.MirrorManager),
	})
}

// apply carries a plan out.
func (w *World) apply(p plan.Plan) error { return w.applySome(p, len(p.Writes)) }

// applySome carries out the first writes of a plan.
func (w *World) applySome(p plan.Plan, most int) error {
	written := map[string]bool{}
	for _, write := range p.Writes[:most] {
		var err error
		if write.Resource == plan.Endpoints {
			err = apply(w, w.Objects, write)
		} else {
			err = apply(w, w.Slices, write)
		}
		if err == nil && write.Name != "" && written[write.Name] {
			err = fmt.Errorf("it is written twice")
		}
		written[write.Name] = true
		if err != nil {
			return fmt.Errorf("%s %s %q: %w", write.Verb, write.Resource.Resource, write.Name, err)
		}
	}
	w.collect()
	return nil
}

func apply[T any, P object[T]](w *World, in map[string]P, write plan.Write) error {
	current, exists := in[write.Name]
	if write.Verb == plan.Delete {
		if !exists || current.GetUID() != write.UID || current.GetResourceVersion() != write.ResourceVersion {
			return fmt.Errorf("it is not what is deleted: %v", current)
		}
		delete(in, write.Name)
		return nil
	}
	obj, ok := write.Object.(P)
	if !ok {
		return fmt.Errorf("the object is a %T", write.Object)
	}
	obj = obj.DeepCopy()
	if write.Verb == plan.Create {
		if exists {
			return fmt.Errorf("it exists")
		}
		w.stamp(obj, nil)
		if obj.GetName() == "" {
			if !strings.HasSuffix(obj.GetGenerateName(), "-") {
				return fmt.Errorf("it has no name")
			}
			obj.SetName(obj.GetGenerateName() + string(obj.GetUID()))
		}
	} else {
		if !exists || current.GetResourceVersion() != obj.GetResourceVersion() {
			return fmt.Errorf("version %q is not that of %v", obj.GetResourceVersion(), current)
		}
		w.stamp(obj, current)
	}
	in[obj.GetName()] = obj
	return nil
}

// DecideSlices decides about the slices of one Service, carries that out, and returns it.
func (w *World) DecideSlices(name string) (plan.Plan, error) {
	p := w.slices(name)
	return p, w.apply(p)
}
