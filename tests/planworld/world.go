// Package planworld is a cluster in memory for tests of decisions: enough of the API server's rules to
// run plans, and a kubelet. What a plan must not do (write an object twice, write what did not change, write on
// an old version) is an error.
package planworld

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/zeroplane/zeroplane/core/plan"
)

// World is the cluster. All its objects are of one namespace.
type World struct {
	Now time.Time
	// Later is what plans put off, by Kind.
	Later map[string]plan.Later
	// Events are the notices, one a line.
	Events []string
	// Writes counts what plans wrote.
	Writes int
	// Instant is set where no kubelet is needed for a pod to go.
	Instant bool

	objects map[schema.GroupVersionResource]map[string]metav1.Object
	version int
}

// New returns an empty world.
func New(now time.Time) *World {
	return &World{Now: now, Later: map[string]plan.Later{}, objects: map[schema.GroupVersionResource]map[string]metav1.Object{}}
}

// Copy returns a copy of an object, as it is after a trip through the API.
func Copy[T any](object *T) *T {
	body, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	read := new(T)
	if err := json.Unmarshal(body, read); err != nil {
		panic(err)
	}
	return read
}

func copyOf(object metav1.Object) metav1.Object {
	switch o := object.(type) {
	case *corev1.Pod:
		return Copy(o)
	case *corev1.Node:
		return Copy(o)
	case *corev1.PersistentVolumeClaim:
		return Copy(o)
	case *corev1.PersistentVolume:
		return Copy(o)
	case *storagev1.StorageClass:
		return Copy(o)
	case *appsv1.StatefulSet:
		return Copy(o)
	case *appsv1.DaemonSet:
		return Copy(o)
	case *appsv1.ControllerRevision:
		return Copy(o)
	}
	panic(fmt.Sprintf("planworld: %T is not known", object))
}

// List returns the objects of a resource in the order of their names. They are not to be altered.
func List[T metav1.Object](w *World, resource schema.GroupVersionResource) []T {
	var all []T
	for _, name := range slices.Sorted(maps.Keys(w.objects[resource])) {
		all = append(all, w.objects[resource][name].(T))
	}
	return all
}

// Get returns an object, nil if there is none. It is not to be altered.
func Get[T metav1.Object](w *World, resource schema.GroupVersionResource, name string) T {
	object, _ := w.objects[resource][name].(T)
	return object
}

// Put stores an object as somebody with every right would: it is made or replaced, and its generation
// counts changes of its spec.
func (w *World) Put(resource schema.GroupVersionResource, object metav1.Object) {
	object = copyOf(object)
	w.version++
	object.SetResourceVersion(strconv.Itoa(w.version))
	if old := w.objects[resource][object.GetName()]; old == nil {
		object.SetGeneration(1)
		if object.GetUID() == "" {
			object.SetUID(types.UID("uid-" + strconv.Itoa(w.version)))
		}
		if created := object.GetCreationTimestamp(); created.IsZero() {
			object.SetCreationTimestamp(metav1.NewTime(w.Now).Rfc3339Copy())
		}
	} else if !reflect.DeepEqual(part(old, "Spec"), part(object, "Spec")) {
		object.SetGeneration(old.GetGeneration() + 1)
	}
	if w.objects[resource] == nil {
		w.objects[resource] = map[string]metav1.Object{}
	}
	w.objects[resource][object.GetName()] = object
}

// Edit changes a copy of an object and puts it.
func Edit[T metav1.Object](w *World, resource schema.GroupVersionResource, name string, change func(T)) {
	object := copyOf(w.objects[resource][name]).(T)
	change(object)
	w.Put(resource, object)
}

// Remove removes an object at once.
func (w *World) Remove(resource schema.GroupVersionResource, name string) {
	delete(w.objects[resource], name)
}

// part is the spec or the status of an object, nil where it has none.
func part(object metav1.Object, field string) any {
	value := reflect.ValueOf(object).Elem().FieldByName(field)
	if !value.IsValid() {
		return nil
	}
	return value.Interface()
}

// Apply commits a plan. An error is a rule that the plan broke.
func (w *World) Apply(p plan.Plan) error {
	written := map[string]bool{}
	for _, write := range p.Writes {
		name, err := w.write(write)
		if err != nil {
			return fmt.Errorf("%s %s/%s: %w", write.Verb, write.Resource.Resource, write.Name, err)
		}
		key := write.Resource.Resource + "/" + name
		if written[key] {
			return fmt.Errorf("%s is written twice in one plan", key)
		}
		written[key] = true
		w.Writes++
		w.notice(write.OnSuccess, name)
	}
	for _, n := range p.Notices {
		w.notice(&n, "")
	}
	for _, l := range p.Later {
		w.Later[l.Kind] = l
		if l.At.IsZero() {
			delete(w.Later, l.Kind)
		}
	}
	return nil
}

// Due goes to the first moment that something was put off to, if there is any, and handles it.
func (w *World) Due() bool {
	first := ""
	for _, kind := range slices.Sorted(maps.Keys(w.Later)) {
		if first == "" || w.Later[kind].At.Before(w.Later[first].At) {
			first = kind
		}
	}
	if first == "" {
		return false
	}
	if at := w.Later[first].At; at.After(w.Now) {
		w.Now = at
	}
	delete(w.Later, first)
	return true
}

func (w *World) notice(n *plan.Notice, name string) {
	if n != nil {
		w.Events = append(w.Events, n.Type+" "+n.Reason+" "+strings.ReplaceAll(n.Message, "{{name}}", name))
	}
}

func (w *World) write(write plan.Write) (string, error) {
	old := w.objects[write.Resource][write.Name]
	switch write.Verb {
	case plan.Create:
		return w.create(write)
	case plan.Update, plan.UpdateStatus:
		return write.Name, w.update(write, old)
	case plan.Patch:
		return write.Name, w.patch(write, old)
	case plan.Delete:
		if old == nil || old.GetUID() != write.UID || write.ResourceVersion != "" && write.ResourceVersion != old.GetResourceVersion() {
			return "", errors.New("conflict")
		}
		return write.Name, w.delete(write.Resource, old)
	default:
		return "", errors.New("the world does not know this write")
	}
}

func (w *World) create(write plan.Write) (string, error) {
	object := copyOf(write.Object.(metav1.Object))
	if object.GetName() == "" {
		object.SetName(object.GetGenerateName() + fmt.Sprintf("%05d", w.version))
	}
	if w.objects[write.Resource][object.GetName()] != nil {
		return "", errors.New("already exists")
	}
	if pod, ok := object.(*corev1.Pod); ok {
		pod.Status = corev1.PodStatus{Phase: corev1.PodPending}
	}
	w.Put(write.Resource, object)
	return object.GetName(), nil
}

func (w *World) update(write plan.Write, old metav1.Object) error {
	object := copyOf(write.Object.(metav1.Object))
	if old == nil || old.GetResourceVersion() != object.GetResourceVersion() {
		return errors.New("conflict")
	}
	kept := "Status"
	if write.Verb == plan.UpdateStatus {
		kept = "Spec"
	}
	if field := reflect.ValueOf(object).Elem().FieldByName(kept); field.IsValid() {
		field.Set(reflect.ValueOf(old).Elem().FieldByName(kept))
	}
	if reflect.DeepEqual(copyOf(object), old) {
		return errors.New("nothing changed")
	}
	w.Put(write.Resource, object)
	return nil
}

func (w *World) patch(write plan.Write, old metav1.Object) error {
	if old == nil {
		return errors.New("not found")
	}
	body, err := json.Marshal(old)
	if err != nil {
		return err
	}
	if body, err = strategicpatch.StrategicMergePatch(body, write.PatchBody, old); err != nil {
		return err
	}
	patched := reflect.New(reflect.TypeOf(old).Elem()).Interface()
	if err := json.Unmarshal(body, patched); err != nil {
		return err
	}
	w.Put(write.Resource, patched.(metav1.Object))
	return nil
}

// delete takes an object away at once, but leaves a pod that runs to the kubelet.
func (w *World) delete(resource schema.GroupVersionResource, object metav1.Object) error {
	pod, ok := object.(*corev1.Pod)
	switch {
	case w.Instant || !ok || pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded:
		w.Remove(resource, object.GetName())
	case pod.DeletionTimestamp != nil:
		return errors.New("it is being deleted already")
	default:
		deleted := metav1.NewTime(w.Now).Rfc3339Copy()
		Edit(w, resource, pod.Name, func(pod *corev1.Pod) { pod.DeletionTimestamp = &deleted })
	}
	return nil
}

// Text is an object as the API encodes it.
func Text[T any](object *T) string {
	body, err := json.Marshal(Copy(object))
	if err != nil {
		panic(err)
	}
	return string(body)
}
