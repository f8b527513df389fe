package differential_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"
)

const (
	// manager is the user that the scripts apply as.
	manager = "differential"
	// waitLimit bounds one wait. The longest is for upstream's collector of garbage to hear of a new kind, twice 30 s.
	waitLimit = 150 * time.Second
	// cleanUpLimit bounds the deletion of what a script leaves.
	cleanUpLimit = 20 * time.Second
)

// script is one file being run, in a namespace of its own that is named after the file.
type script struct {
	*clients
	name        string
	group       string
	upstream    bool
	differences []difference
	// found are the objects of the script that differed.
	found map[string]bool

	// namespaces are the script's own, and those that it made; applied are its objects outside namespaces.
	namespaces []string
	applied    []object
	// touched is when it did something last.
	touched time.Time
}

// object names one outside namespaces.
type object struct {
	resource schema.GroupVersionResource
	name     string
}

func newScript(t *testing.T, c *clients, name string) *script {
	t.Helper()
	s := &script{clients: c, name: name, found: map[string]bool{}}
	t.Cleanup(s.cleanUp)
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	if _, err := s.apply(ctx, "", "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+name+"}\n"); err != nil {
		t.Fatal(err)
	}
	// Pods are refused until the account that they run as is there.
	if out := s.wait(ctx, "serviceaccounts/default exists"); out != "" {
		t.Fatal(out)
	}
	return s
}

// cleanUp deletes what the script made, and waits for nothing.
func (s *script) cleanUp() {
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpLimit)
	defer cancel()
	for _, o := range s.applied {
		_ = s.dynamic.Resource(o.resource).Delete(ctx, o.name, metav1.DeleteOptions{})
	}
}

// step does what a directive says. Its output is nothing, or what was refused, or the settled state.
func (s *script) step(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	input, err := s.expand(ctx, d.Input)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	defer func() { s.touched = time.Now() }()
	var do func(context.Context, string) error
	switch d.Cmd {
	case "apply", "applystatus":
		subresource := strings.TrimPrefix(d.Cmd, "apply")
		out, err := s.apply(ctx, subresource, input)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		return out
	case "wait":
		return s.wait(ctx, input)
	case "settled":
		return s.settled(t, d)
	case "create":
		do = s.create
	case "patch":
		do = s.patch
	case "scale":
		do = s.scale
	case "delete":
		do = s.remove
	case "evict":
		do = s.evict
	default:
		d.Fatalf(t, "unknown command %q", d.Cmd)
	}
	return s.refusal(do(ctx, input))
}

// uidOf is $UID(OBJECT).
var uidOf = regexp.MustCompile(`\$UID\(([^)]+)\)`)

// expand replaces $NS by the namespace, $NOW by the time, and $UID(OBJECT).
func (s *script) expand(ctx context.Context, input string) (string, error) {
	input = strings.ReplaceAll(input, "$NS", s.name)
	input = strings.ReplaceAll(input, "$NOW", time.Now().UTC().Format(time.RFC3339))
	var errs []error
	input = uidOf.ReplaceAllStringFunc(input, func(text string) string {
		o, err := s.find(ctx, uidOf.FindStringSubmatch(text)[1])
		if err != nil {
			errs = append(errs, err)
			return ""
		}
		found, err := o.get(ctx)
		if err != nil {
			errs = append(errs, err)
			return ""
		}
		return string(found.GetUID())
	})
	return input, errors.Join(errs...)
}

// refusal is what the server answered, normalised, and nothing if it did as it was told.
func (s *script) refusal(err error) string {
	if err == nil {
		return ""
	}
	n := &normalizer{}
	return n.text(err.Error())
}

// apply applies documents, and gives what was refused.
func (s *script) apply(ctx context.Context, subresource, input string) (string, error) {
	objects, err := parse(input)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, o := range objects {
		client, err := s.clientFor(ctx, o)
		if err != nil {
			return "", err
		}
		options := metav1.ApplyOptions{FieldManager: manager, Force: true}
		if subresource == "" {
			_, err = client.Apply(ctx, o.GetName(), o, options)
		} else {
			_, err = client.ApplyStatus(ctx, o.GetName(), o, options)
		}
		if err != nil {
			fmt.Fprintf(&out, "%s/%s: %s\n", o.GetKind(), o.GetName(), s.refusal(err))
			continue
		}
		if o.GetKind() == "CustomResourceDefinition" {
			if err := s.follow(ctx, o); err != nil {
				return "", err
			}
		}
	}
	return out.String(), nil
}

// create makes an object, whose name the server may choose, as the user of one request.
func (s *script) create(ctx context.Context, input string) error {
	objects, err := parse(input)
	if err != nil {
		return err
	}
	for _, o := range objects {
		client, err := s.clientFor(ctx, o)
		if err != nil {
			return err
		}
		if _, err := client.Create(ctx, o, metav1.CreateOptions{FieldManager: manager}); err != nil {
			return err
		}
	}
	return nil
}

// parse reads YAML documents.
func parse(input string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for document := range strings.SplitSeq("\n"+input, "\n---\n") {
		var content map[string]any
		if err := yaml.Unmarshal([]byte(document), &content); err != nil {
			return nil, fmt.Errorf("%w in:\n%s", err, document)
		}
		if len(content) > 0 {
			objects = append(objects, &unstructured.Unstructured{Object: content})
		}
	}
	return objects, nil
}

// clientFor gives the client for an object, and notes what the script makes outside its namespace.
func (s *script) clientFor(ctx context.Context, o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := o.GroupVersionKind()
	var mapping *meta.RESTMapping
	err := s.again(ctx, func() (err error) {
		mapping, err = s.mapper.RESTMapping(kind.GroupKind(), kind.Version)
		return err
	})
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		s.note(object{mapping.Resource, o.GetName()})
		return s.dynamic.Resource(mapping.Resource), nil
	}
	namespace := o.GetNamespace()
	if namespace == "" {
		namespace = s.name
	}
	return s.dynamic.Resource(mapping.Resource).Namespace(namespace), nil
}

func (s *script) note(o object) {
	if slices.Contains(s.applied, o) {
		return
	}
	s.applied = append(s.applied, o)
	if o.resource.Resource == "namespaces" {
		s.namespaces = append(s.namespaces, o.name)
	}
}

// subject is an object, or the first that a selector finds.
type subject struct {
	client   dynamic.ResourceInterface
	resource schema.GroupVersionResource
	name     string
	selector string
}

// find reads RESOURCE[.GROUP]/[NAMESPACE/]NAME, where the name may be a selector, as label=value.
func (s *script) find(ctx context.Context, text string) (subject, error) {
	parts := strings.SplitN(text, "/", 3)
	var resource schema.GroupVersionResource
	var namespaced bool
	err := s.again(ctx, func() (err error) {
		if resource, err = s.mapper.ResourceFor(schema.ParseGroupResource(parts[0]).WithVersion("")); err != nil {
			return err
		}
		kind, err := s.mapper.KindFor(resource)
		if err != nil {
			return err
		}
		mapping, err := s.mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err == nil {
			namespaced = mapping.Scope.Name() == meta.RESTScopeNameNamespace
		}
		return err
	})
	if err != nil {
		return subject{}, err
	}
	out := subject{resource: resource, client: s.dynamic.Resource(resource)}
	name := ""
	if len(parts) > 1 {
		name = strings.Join(parts[1:], "/")
	}
	if namespaced {
		namespace := s.name
		if len(parts) == 3 && !strings.Contains(name, "=") {
			namespace, name = parts[1], parts[2]
		}
		out.client = s.dynamic.Resource(resource).Namespace(namespace)
	}
	if strings.Contains(name, "=") {
		out.selector = name
	} else {
		out.name = name
	}
	return out, nil
}

// get reads the object; of those that a selector finds, the first by name.
func (o subject) get(ctx context.Context) (*unstructured.Unstructured, error) {
	if o.selector == "" {
		return o.client.Get(ctx, o.name, metav1.GetOptions{})
	}
	list, err := o.client.List(ctx, metav1.ListOptions{LabelSelector: o.selector})
	if err != nil {
		return nil, err
	}
	if len(list.Items) == 0 {
		return nil, apierrors.NewNotFound(o.resource.GroupResource(), o.selector)
	}
	return &list.Items[0], nil
}

// cut splits off the first line's words.
func (s *script) cut(ctx context.Context, input string) (subject, []string, string, error) {
	line, rest, _ := strings.Cut(input, "\n")
	words := strings.Fields(line)
	if len(words) == 0 {
		return subject{}, nil, "", errors.New("the first line names no object")
	}
	o, err := s.find(ctx, words[0])
	if err == nil && o.selector != "" {
		var found *unstructured.Unstructured
		if found, err = o.get(ctx); err == nil {
			o.name = found.GetName()
		}
	}
	return o, words[1:], rest, err
}

// patch is OBJECT [SUBRESOURCE], then a merge patch as YAML; a list is a JSON patch.
func (s *script) patch(ctx context.Context, input string) error {
	o, subresources, body, err := s.cut(ctx, input)
	if err != nil {
		return err
	}
	data, err := yaml.YAMLToJSON([]byte(body))
	if err != nil {
		return err
	}
	kind := types.MergePatchType
	if strings.HasPrefix(string(data), "[") {
		kind = types.JSONPatchType
	}
	_, err = o.client.Patch(ctx, o.name, kind, data, metav1.PatchOptions{FieldManager: manager}, subresources...)
	return err
}

// scale is OBJECT REPLICAS.
func (s *script) scale(ctx context.Context, input string) error {
	o, words, _, err := s.cut(ctx, input)
	if err != nil {
		return err
	}
	data := fmt.Sprintf(`{"spec":{"replicas":%s}}`, words[0])
	_, err = o.client.Patch(ctx, o.name, types.MergePatchType, []byte(data), metav1.PatchOptions{FieldManager: manager}, "scale")
	return err
}

// remove is lines of OBJECT [Foreground|Background|Orphan] [now].
func (s *script) remove(ctx context.Context, input string) error {
	for line := range strings.SplitSeq(strings.TrimSpace(input), "\n") {
		o, words, _, err := s.cut(ctx, line)
		if err != nil {
			return err
		}
		options := metav1.DeleteOptions{}
		for _, word := range words {
			if word == "now" {
				options.GracePeriodSeconds = new(int64)
				continue
			}
			policy := metav1.DeletionPropagation(word)
			options.PropagationPolicy = &policy
		}
		if err := o.client.Delete(ctx, o.name, options); err != nil {
			return err
		}
	}
	return nil
}

// evict is a pod.
func (s *script) evict(ctx context.Context, input string) error {
	o, _, _, err := s.cut(ctx, input)
	if err != nil {
		return err
	}
	return s.typed.PolicyV1().Evictions(s.name).Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: o.name}})
}

// wait waits until all lines hold, and says which does not in time:
//
//	OBJECT exists
//	OBJECT gone
//	OBJECT {JSONPATH} VALUE
//	RESOURCE[/SELECTOR] count N
func (s *script) wait(ctx context.Context, input string) string {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	for line := range strings.SplitSeq(strings.TrimSpace(input), "\n") {
		for {
			changed := s.tracker.next()
			reason := s.holds(ctx, line)
			if reason == nil {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				n := &normalizer{}
				return n.text(fmt.Sprintf("not in time: %s: %v", line, reason))
			}
		}
	}
	return ""
}

// holds looks once, and gives the reason to wait.
func (s *script) holds(ctx context.Context, line string) error {
	name, condition, _ := strings.Cut(line, " ")
	o, err := s.find(ctx, name)
	if err != nil {
		return err
	}
	if count, ok := strings.CutPrefix(condition, "count "); ok {
		list, err := o.client.List(ctx, metav1.ListOptions{LabelSelector: o.selector})
		if err != nil {
			return err
		}
		if strconv.Itoa(len(list.Items)) != count {
			return fmt.Errorf("there are %d", len(list.Items))
		}
		return nil
	}
	found, err := o.get(ctx)
	switch {
	case condition == "gone" && apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return err
	case condition == "gone":
		return errors.New("it is there")
	case condition == "exists":
		return nil
	}
	// No value is an empty one, as of what is not there.
	path, value, _ := strings.Cut(condition+" ", "} ")
	got, err := evaluate(path+"}", found)
	if err != nil {
		return err
	}
	if got != strings.TrimSpace(value) {
		return fmt.Errorf("it is %q", got)
	}
	return nil
}

func evaluate(path string, o *unstructured.Unstructured) (string, error) {
	j := jsonpath.New("wait").AllowMissingKeys(true)
	if err := j.Parse(path); err != nil {
		return "", err
	}
	var out strings.Builder
	err := j.Execute(&out, o.Object)
	return out.String(), err
}

// follow waits until a new kind is served, and has the tracker watch it.
func (s *script) follow(ctx context.Context, definition *unstructured.Unstructured) error {
	if out := s.wait(ctx, "customresourcedefinitions.apiextensions.k8s.io/"+definition.GetName()+
		` {.status.conditions[?(@.type=="Established")].status} True`); out != "" {
		return errors.New(out)
	}
	data, err := json.Marshal(definition.Object["spec"])
	if err != nil {
		return err
	}
	var spec struct {
		Group    string `json:"group"`
		Names    struct{ Plural string }
		Versions []struct{ Name string }
	}
	if err := json.Unmarshal(data, &spec); err != nil {
		return err
	}
	resource := schema.GroupVersionResource{Group: spec.Group, Version: spec.Versions[0].Name, Resource: spec.Names.Plural}
	// A server that says Established may answer 404 for some moments yet.
	for {
		if _, err = s.dynamic.Resource(resource).List(ctx, metav1.ListOptions{}); err == nil {
			return s.tracker.add(ctx, resource)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryPause):
		}
	}
}
