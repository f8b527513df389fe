package localhost

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	memorytable "github.com/zeroplane/zeroplane/adapters/table/memory"
)

var widgets = schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"}

// adminConfig is how the default cluster's admin reaches a host, by what another host's kubeconfig says.
func adminConfig(t *testing.T, at, of *Host) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", of.opts.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.Host, config.QPS = "https://"+at.Address(), -1
	return config
}

func widgetDefinition() *apiextensionsv1.CustomResourceDefinition {
	text := apiextensionsv1.JSONSchemaProps{Type: "string", Enum: []apiextensionsv1.JSON{{Raw: []byte(`"red"`)}, {Raw: []byte(`"green"`)}}}
	spec := apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"colour": text}}
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "widgets.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: widgets.Group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "widgets", Singular: "widget", Kind: "Widget", ListKind: "WidgetList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: widgets.Version, Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{
					OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": spec}},
				},
			}},
		},
	}
}

func widget(name, colour string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Widget", "metadata": map[string]any{"name": name}, "spec": map[string]any{"colour": colour},
	}}
}

// awaitEstablished waits until a definition's kind is served.
func awaitEstablished(t *testing.T, c clientset.Interface, name string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		crd, err := c.ApiextensionsV1().CustomResourceDefinitions().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, cond := range crd.Status.Conditions {
			if cond.Type == apiextensionsv1.Established && cond.Status == apiextensionsv1.ConditionTrue {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("not established: %+v", crd.Status)
		}
	}
}

// TestADefinitionIsServedByEveryInstanceAtItsNextRequest makes a definition at one instance, and asks another for each thing only
// once.
func TestADefinitionIsServedByEveryInstanceAtItsNextRequest(t *testing.T) {
	store := memorytable.New()
	first := shareStore(t, store, 0)
	second := shareStore(t, store, 0)
	here, there := adminConfig(t, first, first), adminConfig(t, second, first)
	definitions := clientset.NewForConfigOrDie(here)
	objects := dynamic.NewForConfigOrDie(there).Resource(widgets).Namespace("default")
	ctx := t.Context()
	if _, err := objects.List(ctx, metav1.ListOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("before there is a definition: %v", err)
	}
	if _, err := definitions.ApiextensionsV1().CustomResourceDefinitions().Create(ctx, widgetDefinition(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitEstablished(t, definitions, "widgets.example.com")

	w, err := objects.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatalf("the watch: %v", err)
	}
	defer w.Stop()
	if _, err := objects.Create(ctx, widget("blue", "blue"), metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("an invalid object: %v", err)
	}
	found, err := discovery.NewDiscoveryClientForConfigOrDie(there).ServerResourcesForGroupVersion("example.com/v1")
	if err != nil || len(found.APIResources) != 1 || found.APIResources[0].Kind != "Widget" {
		t.Errorf("discovery finds %+v, %v", found, err)
	}
	if _, err := dynamic.NewForConfigOrDie(here).Resource(widgets).Namespace("default").Create(ctx, widget("one", "red"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case ev := <-w.ResultChan():
		if ev.Type != watch.Added || ev.Object.(*unstructured.Unstructured).GetName() != "one" {
			t.Errorf("the watch sees %+v", ev)
		}
	case <-time.After(patience):
		t.Error("the watch sees nothing")
	}

	// A change of the schema holds at the next request, too.
	body := []byte(`[{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/colour/enum/-", "value": "blue"}]`)
	if _, err := definitions.ApiextensionsV1().CustomResourceDefinitions().Patch(ctx, "widgets.example.com", types.JSONPatchType, body, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := objects.Create(ctx, widget("blue", "blue"), metav1.CreateOptions{}); err != nil {
		t.Errorf("what has become valid: %v", err)
	}
	if err := definitions.ApiextensionsV1().CustomResourceDefinitions().Delete(ctx, "widgets.example.com", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := objects.Create(ctx, widget("late", "red"), metav1.CreateOptions{}); !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) && !isMethodNotAllowed(err) {
		t.Errorf("after the deletion: %v", err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := objects.List(ctx, metav1.ListOptions{}); apierrors.IsNotFound(err) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the kind is served though its definition is deleted")
		}
	}
}

func isMethodNotAllowed(err error) bool { return apierrors.IsMethodNotSupported(err) }

// document is what is asked for, and what is in it when it tells of the kind.
type document struct{ accept, tells string }

// TestDocumentsHaveAKindInTheAnswerThatFollowsItsCreation asks for each document before and after.
func TestDocumentsHaveAKindInTheAnswerThatFollowsItsCreation(t *testing.T) {
	h, _ := serve(t, Options{Data: t.TempDir(), MaxAwake: 1})
	config := adminConfig(t, h, h)
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	aggregated := "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
	has := func(path string, d document) bool {
		t.Helper()
		data, err := client.RESTClient().Get().AbsPath(path).SetHeader("Accept", d.accept).DoRaw(t.Context())
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatalf("%s: %v", path, err)
		}
		return err == nil && strings.Contains(string(data), d.tells)
	}
	const plain = "application/json"
	documents := map[string]document{
		"/apis": {plain, `"example.com/v1"`}, "/apis/": {aggregated, `"Widget"`}, "/apis/example.com": {plain, `"example.com/v1"`},
		"/apis/example.com/v1": {plain, `"Widget"`}, "/openapi/v2": {plain, "com.example.v1.Widget"}, "/openapi/v3": {plain, `"apis/example.com/v1"`},
		"/openapi/v3/apis/example.com/v1": {plain, "com.example.v1.Widget"},
	}
	check := func(want bool) {
		t.Helper()
		for path, d := range documents {
			if got := has(path, d); got != want {
				t.Errorf("%s tells of the kind: %t, want %t", path, got, want)
			}
		}
	}
	check(false)
	definitions := clientset.NewForConfigOrDie(config)
	crds := definitions.ApiextensionsV1().CustomResourceDefinitions()
	if _, err := crds.Create(t.Context(), widgetDefinition(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitEstablished(t, definitions, "widgets.example.com")
	check(true)
	if err := crds.Delete(t.Context(), "widgets.example.com", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := crds.Get(t.Context(), "widgets.example.com", metav1.GetOptions{}); apierrors.IsNotFound(err) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the definition stays")
		}
	}
	check(false)
}

// TestAWatchEndsWhenItsDefinitionChanges has who watches begin again with the new schema, as upstream has.
func TestAWatchEndsWhenItsDefinitionChanges(t *testing.T) {
	h, _ := serve(t, Options{Data: t.TempDir(), MaxAwake: 1})
	config := adminConfig(t, h, h)
	definitions := clientset.NewForConfigOrDie(config)
	crds := definitions.ApiextensionsV1().CustomResourceDefinitions()
	if _, err := crds.Create(t.Context(), widgetDefinition(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitEstablished(t, definitions, "widgets.example.com")
	w, err := dynamic.NewForConfigOrDie(config).Resource(widgets).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	body := []byte(`[{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size", "value": {"type": "integer"}}]`)
	if _, err := crds.Patch(t.Context(), "widgets.example.com", types.JSONPatchType, body, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := crds.List(t.Context(), metav1.ListOptions{}); err != nil { // any request sees that it has changed
		t.Fatal(err)
	}
	for timeout := time.After(patience); ; {
		select {
		case ev, open := <-w.ResultChan():
			if !open {
				return
			}
			t.Errorf("the watch sees %+v", ev)
		case <-timeout:
			t.Fatal("the watch goes on")
		}
	}
}

// TestADependentIsDecidedWhenItsOwnersKindIsServed makes a dependent of a kind that nobody knows: it stays until the kind is served, and
// then goes, since its owner is not there.
func TestADependentIsDecidedWhenItsOwnersKindIsServed(t *testing.T) {
	h, _ := serve(t, Options{Data: t.TempDir(), MaxAwake: 1})
	a, c := inside(t, h)
	orphan := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "orphan", OwnerReferences: []metav1.OwnerReference{
		{APIVersion: "example.com/v1", Kind: "Widget", Name: "none", UID: "none"},
	}}}
	maps := c.CoreV1().ConfigMaps("default")
	if _, err := maps.Create(t.Context(), orphan, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := a.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Get(t.Context(), "orphan", metav1.GetOptions{}); err != nil {
		t.Fatalf("while its owner's kind is unknown: %v", err)
	}
	definitions := clientset.NewForConfigOrDie(a.server.ClientConfig(apiserver.System, "test"))
	if _, err := definitions.ApiextensionsV1().CustomResourceDefinitions().Create(t.Context(), widgetDefinition(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitEstablished(t, definitions, "widgets.example.com")
	if err := a.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Get(t.Context(), "orphan", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("when it is known: %v", err)
	}
}

// TestNamesThatAreFreedGoToWhoWaits deletes a definition whose kind another one wants.
func TestNamesThatAreFreedGoToWhoWaits(t *testing.T) {
	h, _ := serve(t, Options{Data: t.TempDir(), MaxAwake: 1})
	definitions := clientset.NewForConfigOrDie(adminConfig(t, h, h))
	crds := definitions.ApiextensionsV1().CustomResourceDefinitions()
	if _, err := crds.Create(t.Context(), widgetDefinition(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitEstablished(t, definitions, "widgets.example.com")
	other := widgetDefinition()
	other.Name, other.Spec.Names.Plural, other.Spec.Names.Singular = "gizmos.example.com", "gizmos", "gizmo"
	if _, err := crds.Create(t.Context(), other, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	refused := func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apiextensionsv1.NamesAccepted && c.Status == apiextensionsv1.ConditionFalse
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		crd, err := crds.Get(t.Context(), other.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(crd.Status.Conditions, refused) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the names are not refused: %+v", crd.Status)
		}
	}
	if err := crds.Delete(t.Context(), "widgets.example.com", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitEstablished(t, definitions, other.Name)
}
