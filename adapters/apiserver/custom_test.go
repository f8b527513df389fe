package apiserver_test

import (
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster/clustertest"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// TestADefinitionIsNotDecodedBeforeItIsUsed has a definition in the store that cannot be decoded: nobody notices but who asks for its group,
// or for all of them.
func TestADefinitionIsNotDecodedBeforeItIsUsed(t *testing.T) {
	c := clustertest.New(t)
	logs := c.Logs(tablelog.Options{})
	sound := definitionNumber(1)
	data, err := apiserver.Encode(apiextensionsv1.SchemeGroupVersion, sound)
	if err != nil {
		t.Fatal(err)
	}
	gr := schema.GroupResource{Group: apiextensionsv1.GroupName, Resource: "customresourcedefinitions"}
	for name, value := range map[string][]byte{sound.Name: data, "things.elsewhere.com": []byte("nothing of the kind")} {
		if _, _, err := logs.Of(gr).Commit(t.Context(), []tablelog.Change{{Key: kubestorage.KeyOf(gr, "", name), Value: value}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	server, err := c.Server(logs)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client := dynamic.NewForConfigOrDie(server.ClientConfig(apiserver.System, "test"))
	list := func(group, version, resource string) error {
		gvr := schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
		_, err := client.Resource(gvr).Namespace("default").List(t.Context(), metav1.ListOptions{})
		return err
	}
	if err := list("", "v1", "pods"); err != nil {
		t.Errorf("pods: %v", err)
	}
	if err := list("example.com", "v1", sound.Spec.Names.Plural); err != nil {
		t.Errorf("a sound definition's objects: %v", err)
	}
	if err := list("elsewhere.com", "v1", "things"); err == nil {
		t.Error("a broken definition's objects are listed")
	}
	discovered, err := server.Discover()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []schema.GroupKind{{Group: "apps", Kind: "Deployment"}, {Group: "example.com", Kind: sound.Spec.Names.Kind}} {
		if _, err := discovered.Mapper.RESTMapping(kind); err != nil {
			t.Errorf("mapping %v: %v", kind, err)
		}
	}
	if _, err := discovered.Namespaced(); err == nil {
		t.Error("all resources are told though a definition cannot be read")
	}
}

// TestObjectsOfACustomKindAreUnstructuredToFunctions reads one as functions do.
func TestObjectsOfACustomKindAreUnstructuredToFunctions(t *testing.T) {
	obj, err := apiserver.NewDecoder(nil).Object(&tablelog.Entry{Key: "example.com/widgets/default/one", Rev: 7, Value: []byte(
		`{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"one","namespace":"default"},"spec":{"colour":"red"}}`,
	)})
	if err != nil {
		t.Fatal(err)
	}
	u, ok := obj.(*unstructured.Unstructured)
	if !ok || u.GetKind() != "Widget" || u.GetResourceVersion() != "7" || u.GetName() != "one" {
		t.Errorf("%+v", obj)
	}
}
