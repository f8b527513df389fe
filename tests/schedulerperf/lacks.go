package schedulerperf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/zeroplane/zeroplane/tests/upstream/target"
)

// probeNamespace is where a Checker asks.
const probeNamespace = metav1.NamespaceDefault

// Checker finds out what a server lacks for a workload, by asking that server. Nothing is known beforehand: a workload begins to
// run when what it needs does.
//
//   - Its operations and parameters must be known here.
//   - An object of every kind that it makes is made without being kept (dryRun). An API that is not served, a refusal, and
//     a field that is gone from the answer are lacks: the last is how a feature gate that is off shows.
//   - What its objects ask of the scheduler is tried out once (probes.go).
type Checker struct {
	e *executor
	// asked has the lack of each object asked about, and tried that of each probe.
	asked map[string]string
	tried map[string]string
}

// NewChecker is for a server that has nothing else to do: the probes make nodes and pods.
func NewChecker(ctx context.Context, kubeconfig string) (*Checker, error) {
	e, err := newExecutor(Options{Kubeconfig: kubeconfig})
	if err != nil {
		return nil, err
	}
	if err := e.namespaceNamed(ctx, probeNamespace); err != nil {
		return nil, err
	}
	return &Checker{e: e, asked: map[string]string{}, tried: map[string]string{}}, nil
}

// WithChecker calls do with a Checker of a server of its own.
func WithChecker(ctx context.Context, do func(*Checker) error) error {
	return OnServer(ctx, target.ServerOptions{}, "", func(kubeconfig string) error {
		c, err := NewChecker(ctx, kubeconfig)
		if err != nil {
			return err
		}
		return do(c)
	})
}

// Lacks says what is lacking, in words; nothing for a workload that can run. An error means that it could not be found out.
func (c *Checker) Lacks(ctx context.Context, w *Workload) ([]string, error) {
	ops, err := w.operations()
	if err != nil {
		return []string{err.Error()}, nil //nolint:nilerr // that is the finding
	}
	var lacks []string
	add := func(lack string) {
		if lack != "" && !slices.Contains(lacks, lack) {
			lacks = append(lacks, lack)
		}
	}
	var needs demands
	for _, op := range ops {
		objects, err := op.objects(w)
		if err != nil {
			add(err.Error())
			continue
		}
		for _, object := range objects {
			lack, err := c.ask(ctx, object)
			if err != nil {
				return nil, err
			}
			add(lack)
			needs.object(object)
		}
		needs.order(w, op)
	}
	for _, p := range probes {
		if !p.needed(&needs) {
			continue
		}
		lack, err := c.try(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("trying %s: %w", p.plugin, err)
		}
		add(lack)
	}
	return lacks, nil
}

// ask has an object made without being kept.
func (c *Checker) ask(ctx context.Context, object runtime.Object) (lack string, err error) {
	sent, err := c.generic(ctx, object)
	if err != nil {
		return "", err
	}
	raw, err := json.Marshal(nameless(sent))
	if err != nil {
		return "", err
	}
	if known, asked := c.asked[string(raw)]; asked {
		return known, nil
	}
	lack, err = c.dryRun(ctx, sent)
	if err == nil {
		c.asked[string(raw)] = lack
	}
	return lack, err
}

// nameless is the object without what differs between two of the same kind.
func nameless(object *unstructured.Unstructured) map[string]any {
	out := object.DeepCopy()
	out.SetName("")
	out.SetLabels(nil)
	unstructured.RemoveNestedField(out.Object, "status", "conditions")
	return out.Object
}

// generic is the object as it would be sent.
func (c *Checker) generic(ctx context.Context, object runtime.Object) (*unstructured.Unstructured, error) {
	switch o := object.(type) {
	case *unstructured.Unstructured:
		o = o.DeepCopy()
		return o, c.e.classifyAny(ctx, o)
	case *corev1.Pod:
		if o.Spec.Priority != nil {
			if err := c.e.class(ctx, *o.Spec.Priority); err != nil {
				return nil, err
			}
		}
		o = o.DeepCopy()
		classify(o)
		object = o
	case *schedulingv1beta1.PodGroup:
		o = o.DeepCopy()
		classifyGroup(o)
		object = o
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, err
	}
	kinds, _, err := scheme.Scheme.ObjectKinds(object)
	if err != nil {
		return nil, err
	}
	out := &unstructured.Unstructured{Object: fields}
	out.SetGroupVersionKind(kinds[0])
	return out, nil
}

func (c *Checker) dryRun(ctx context.Context, sent *unstructured.Unstructured) (lack string, err error) {
	kind := sent.GroupVersionKind()
	mapping, err := c.e.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		return "API " + kind.GroupVersion().String() + " " + kind.Kind, nil
	}
	if err != nil {
		return "", err
	}
	namespace := ""
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		namespace = probeNamespace
	}
	resource, err := c.e.resource(kind, namespace)
	if err != nil {
		return "", err
	}
	got, err := resource.Create(ctx, sent, metav1.CreateOptions{FieldValidation: strict, DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		if ctx.Err() != nil {
			return "", err
		}
		return fmt.Sprintf("%s is refused: %v", kind.Kind, err), nil
	}
	// Who creates an object does not say its status, but for a node.
	fields := sent.DeepCopy().Object
	if kind.Kind != "Node" {
		delete(fields, "status")
	}
	if gone := missing("", fields, got.Object); gone != "" {
		return fmt.Sprintf("field %s of %s", gone, kind.Kind), nil
	}
	return "", nil
}

// missing is the path of the first field that was sent and is not in the answer. Values may be written in another way.
func missing(path string, sent, got any) string {
	switch s := sent.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		for _, key := range sortedKeys(s) {
			if empty(s[key]) {
				continue
			}
			below := strings.TrimPrefix(path+"."+key, ".")
			if !ok || g[key] == nil {
				return below
			}
			if gone := missing(below, s[key], g[key]); gone != "" {
				return gone
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) < len(s) {
			return path
		}
		for i := range s {
			if gone := missing(path+"[]", s[i], g[i]); gone != "" {
				return gone
			}
		}
	}
	return ""
}

// empty values say nothing, and are left out of answers.
func empty(value any) bool {
	switch v := value.(type) {
	case map[string]any:
		for _, each := range v {
			if !empty(each) {
				return false
			}
		}
		return true
	case []any:
		return len(v) == 0
	default:
		return v == nil || reflect.ValueOf(v).IsZero()
	}
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// demands are what the objects of a workload ask of a scheduler.
type demands struct {
	claims, exclusive, limited, devices, groups, preemption bool
	// asked and offered are extended resources, of pods and of nodes.
	asked, offered map[corev1.ResourceName]bool
	// lowest is the lowest priority of the pods so far.
	pods   bool
	lowest int32
}

func (d *demands) extended() bool {
	for name := range d.asked {
		if !d.offered[name] {
			return true
		}
	}
	return false
}

func (d *demands) object(object runtime.Object) {
	switch o := object.(type) {
	case *corev1.Node:
		d.offered = extendedOf(d.offered, o.Status.Capacity)
	case *storagev1.CSINode:
		for _, driver := range o.Spec.Drivers {
			d.limited = d.limited || driver.Allocatable != nil && driver.Allocatable.Count != nil
		}
	case *corev1.PersistentVolumeClaim:
		d.exclusive = d.exclusive || slices.Contains(o.Spec.AccessModes, corev1.ReadWriteOncePod)
	case *corev1.Pod:
		for _, v := range o.Spec.Volumes {
			d.claims = d.claims || v.PersistentVolumeClaim != nil
		}
		d.devices = d.devices || len(o.Spec.ResourceClaims) > 0
		d.groups = d.groups || o.Spec.SchedulingGroup != nil
		for _, container := range o.Spec.Containers {
			d.asked = extendedOf(d.asked, container.Resources.Requests)
			d.asked = extendedOf(d.asked, container.Resources.Limits)
		}
	}
}

// extendedOf adds the resources with names of a domain of their own.
func extendedOf(set map[corev1.ResourceName]bool, list corev1.ResourceList) map[corev1.ResourceName]bool {
	for name := range list {
		if strings.Contains(string(name), "/") && !strings.Contains(string(name), "kubernetes.io/") {
			if set == nil {
				set = map[corev1.ResourceName]bool{}
			}
			set[name] = true
		}
	}
	return set
}

// order looks at pods that are waited for after others of less priority: such workloads fill the nodes with those.
func (d *demands) order(w *Workload, op operation) {
	create, ok := op.(*createPods)
	if !ok {
		return
	}
	pod, err := create.pod(w, 0, max(create.total(), 1))
	if err != nil {
		return
	}
	var priority int32
	if pod.Spec.Priority != nil {
		priority = *pod.Spec.Priority
	}
	d.preemption = d.preemption || d.pods && priority > d.lowest && !create.SkipWaitToCompletion
	if !d.pods || priority < d.lowest {
		d.pods, d.lowest = true, priority
	}
}

// try tries a plugin out, once.
func (c *Checker) try(ctx context.Context, p probe) (lack string, err error) {
	if known, tried := c.tried[p.plugin]; tried {
		return known, nil
	}
	follows, err := p.try(ctx, c.e, strings.ToLower(p.plugin))
	if err != nil && !errors.Is(err, errUnserved) {
		return "", err
	}
	if err != nil {
		lack = fmt.Sprintf("plugin %s: %v", p.plugin, err)
	} else if !follows {
		lack = "plugin " + p.plugin
	}
	c.tried[p.plugin] = lack
	return lack, nil
}
