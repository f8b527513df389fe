package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	podutil "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/core/validation"

	"github.com/zeroplane/zeroplane/functions/placement"
)

// strictly decodes what people write, and takes no field that it does not know.
var strictly = serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict).UniversalDeserializer()

// manifests reads files of objects for a simulation.
type manifests struct {
	stdin io.Reader
	// namespace is that of objects that name none.
	namespace string
	question  placement.Question
	// ignored are the objects that have no pods, and what they are.
	ignored []string
}

// read takes all documents of a file; "-" is standard input. Errors name the file, the document and the field.
func (m *manifests) read(file string) error {
	return eachDocument(m.stdin, file, func(where string, doc []byte) error { return m.take(where, doc) })
}

// eachDocument calls take with every document of a file that is not empty.
func eachDocument(stdin io.Reader, file string, take func(where string, doc []byte) error) error {
	in, name := stdin, file
	if file == "-" {
		name = "standard input"
	} else {
		opened, err := os.Open(file) //nolint:gosec // who runs the command names the file
		if err != nil {
			return err
		}
		defer func() { _ = opened.Close() }() // only read
		in = opened
	}
	documents := utilyaml.NewYAMLReader(bufio.NewReader(in))
	for i := 1; ; i++ {
		doc, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		where := fmt.Sprintf("%s: document %d", name, i)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if isBlank(doc) {
			continue
		}
		// The decoder takes what begins with a brace for JSON, and YAML may begin so, too.
		if trimmed := bytes.TrimSpace(doc); trimmed[0] == '{' && !json.Valid(trimmed) {
			doc = append([]byte("---\n"), trimmed...)
		}
		if err := take(where, doc); err != nil {
			return err
		}
	}
}

// isBlank reports whether a document has nothing but comments.
func isBlank(doc []byte) bool {
	for line := range bytes.Lines(doc) {
		if text := bytes.TrimSpace(line); len(text) > 0 && text[0] != '#' && !bytes.Equal(text, []byte("---")) {
			return false
		}
	}
	return true
}

// take takes one object, or those of a list.
func (m *manifests) take(where string, doc []byte) error {
	obj, kind, err := strictly.Decode(doc, nil, nil)
	switch {
	case runtime.IsNotRegisteredError(err) && kind != nil:
		m.ignored = append(m.ignored, fmt.Sprintf("%s: a %s", where, kind.Kind))
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", where, located(doc, err))
	}
	if list, ok := obj.(*corev1.List); ok {
		for i := range list.Items {
			if err := m.take(fmt.Sprintf("%s, item %d", where, i), list.Items[i].Raw); err != nil {
				return err
			}
		}
		return nil
	}
	legacyscheme.Scheme.Default(obj)
	if err := m.object(obj); err != nil {
		return fmt.Errorf("%s: %s %s: %w", where, kind.Kind, nameOf(obj), err)
	}
	return nil
}

// located names the field of a quantity that cannot be read, which the decoder does not.
func located(doc []byte, err error) error {
	var tree any
	if !strings.Contains(err.Error(), "quantities must match") || utilyaml.Unmarshal(doc, &tree) != nil {
		return err
	}
	if path := badQuantity(tree, nil); path != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return err
}

// quantityMaps are the fields whose values are quantities.
var quantityMaps = map[string]bool{"requests": true, "limits": true, "capacity": true, "allocatable": true, "overhead": true}

// badQuantity is the path of the first of them that is none, nil if all are.
func badQuantity(tree any, path *field.Path) *field.Path {
	switch t := tree.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(t)) {
			next := path.Child(key)
			if values, is := t[key].(map[string]any); is && quantityMaps[key] {
				for _, name := range slices.Sorted(maps.Keys(values)) {
					if _, err := resource.ParseQuantity(fmt.Sprint(values[name])); err != nil {
						return next.Key(name)
					}
				}
			}
			if bad := badQuantity(t[key], next); bad != nil {
				return bad
			}
		}
	case []any:
		for i, one := range t {
			if bad := badQuantity(one, path.Index(i)); bad != nil {
				return bad
			}
		}
	}
	return nil
}

func nameOf(obj runtime.Object) string {
	o, ok := obj.(metav1.Object)
	if !ok {
		return ""
	}
	if o.GetName() == "" {
		return o.GetGenerateName()
	}
	return o.GetName()
}

// object takes the pods of an object.
func (m *manifests) object(obj runtime.Object) error {
	switch o := obj.(type) {
	case *corev1.Pod:
		return m.pod(o)
	case *appsv1.Deployment:
		// Its ReplicaSet is known by the name of the Deployment: the real one has a hash that nobody sees.
		return m.replicas("apps/v1", "ReplicaSet", o, o.Spec.Template, placement.Replicas{Count: o.Spec.Replicas, Selector: o.Spec.Selector})
	case *appsv1.ReplicaSet:
		return m.replicas("apps/v1", "ReplicaSet", o, o.Spec.Template, placement.Replicas{Count: o.Spec.Replicas, Selector: o.Spec.Selector})
	case *appsv1.StatefulSet:
		r := placement.Replicas{Count: o.Spec.Replicas, Selector: o.Spec.Selector, ClaimTemplates: o.Spec.VolumeClaimTemplates}
		if o.Spec.Ordinals != nil {
			r.First = o.Spec.Ordinals.Start
		}
		return m.replicas("apps/v1", "StatefulSet", o, o.Spec.Template, r)
	case *corev1.ReplicationController:
		if o.Spec.Template == nil {
			return field.Required(field.NewPath("spec", "template"), "")
		}
		return m.replicas("v1", "ReplicationController", o, *o.Spec.Template, placement.Replicas{
			Count: o.Spec.Replicas, Selector: &metav1.LabelSelector{MatchLabels: o.Spec.Selector},
		})
	case *batchv1.Job:
		return m.job(o)
	case *corev1.PersistentVolumeClaim:
		m.place(o)
		m.question.Claims = append(m.question.Claims, o)
	case *resourceapi.ResourceClaim:
		m.place(o)
		m.question.ResourceClaims = append(m.question.ResourceClaims, o)
	case *resourceapi.ResourceClaimTemplate:
		m.place(o)
		m.question.ResourceClaimTemplates = append(m.question.ResourceClaimTemplates, o)
	case *schedulingv1.PriorityClass:
		m.question.PriorityClasses = append(m.question.PriorityClasses, o)
	default:
		m.ignored = append(m.ignored, fmt.Sprintf("%s %s", obj.GetObjectKind().GroupVersionKind().Kind, nameOf(obj)))
	}
	return nil
}

func (m *manifests) job(o *batchv1.Job) error {
	if o.Spec.Suspend != nil && *o.Spec.Suspend {
		m.ignored = append(m.ignored, "Job "+nameOf(o)+" (suspended)")
		return nil
	}
	count := o.Spec.Parallelism
	if o.Spec.Completions != nil && count != nil && *o.Spec.Completions < *count {
		count = o.Spec.Completions
	}
	return m.replicas("batch/v1", "Job", o, o.Spec.Template, placement.Replicas{Count: count})
}

func (m *manifests) place(o metav1.Object) {
	if o.GetNamespace() == "" {
		o.SetNamespace(m.namespace)
	}
}

func (m *manifests) pod(pod *corev1.Pod) error {
	m.place(pod)
	if pod.Name == "" && pod.GenerateName != "" {
		pod.Name = strings.TrimSuffix(pod.GenerateName, "-")
	}
	if err := validate(pod, "", nil); err != nil {
		return err
	}
	m.question.Pods = append(m.question.Pods, placement.Replicas{Pod: pod})
	return nil
}

// replicas takes pods of a template.
func (m *manifests) replicas(version, kind string, owner metav1.Object, template corev1.PodTemplateSpec, r placement.Replicas) error {
	m.place(owner)
	if owner.GetName() == "" && owner.GetGenerateName() != "" {
		owner.SetName(strings.TrimSuffix(owner.GetGenerateName(), "-"))
	}
	if owner.GetName() == "" {
		return field.Required(field.NewPath("metadata", "name"), "name or generateName is required")
	}
	if r.Count != nil && *r.Count < 0 {
		return field.Invalid(field.NewPath("spec", "replicas"), *r.Count, "must not be negative")
	}
	pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	pod.Name, pod.Namespace = owner.GetName(), owner.GetNamespace()
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: version, Kind: kind, Name: owner.GetName(), UID: "what-if", Controller: new(true)}}
	legacyscheme.Scheme.Default(pod)
	if err := validate(pod, "spec.template.", r.ClaimTemplates); err != nil {
		return err
	}
	r.Pod = pod
	m.question.Pods = append(m.question.Pods, r)
	return nil
}

// validate is what the API server does with a pod. The path is put before that of fields. Volumes of claim templates come
// when the pod has its number.
func validate(pod *corev1.Pod, path string, claims []corev1.PersistentVolumeClaim) error {
	checked := pod.DeepCopy()
	for i := range claims {
		name := claims[i].Name
		checked.Spec.Volumes = slices.DeleteFunc(checked.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
		checked.Spec.Volumes = append(checked.Spec.Volumes, corev1.Volume{
			Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}},
		})
	}
	var internal core.Pod
	if err := legacyscheme.Scheme.Convert(checked, &internal, nil); err != nil {
		return err
	}
	var errs []error
	for _, e := range validation.ValidatePodCreate(&internal, podutil.GetValidationOptionsFromPodSpecAndMeta(&internal.Spec, nil, &internal.ObjectMeta, nil)) {
		if strings.HasPrefix(e.Field, "spec.") {
			e.Field = path + e.Field
		}
		errs = append(errs, e)
	}
	if len(errs) == 0 {
		return nil
	}
	return errors.New(joined(errs))
}

func joined(errs []error) string {
	var texts []string
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}
