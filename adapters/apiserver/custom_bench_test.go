package apiserver_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/cluster/clustertest"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
	"github.com/zeroplane/zeroplane/adapters/table/pebble"
	"github.com/zeroplane/zeroplane/adapters/tablelog"
)

// definitionNumber returns an established definition, with a schema of some 60 fields.
func definitionNumber(i int) *apiextensionsv1.CustomResourceDefinition {
	name := fmt.Sprintf("kind%03d", i)
	spec := apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{}}
	for f := range 60 {
		spec.Properties[fmt.Sprintf("field%02d", f)] = apiextensionsv1.JSONSchemaProps{
			Type: "string", Description: strings.Repeat("What this field is for. ", 3), XValidations: apiextensionsv1.ValidationRules{{Rule: "self.size() < 100"}},
		}
	}
	d := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: name + "s.example.com", UID: types.UID(name)}}
	d.Spec.Group, d.Spec.Scope = "example.com", apiextensionsv1.NamespaceScoped
	d.Spec.Names = apiextensionsv1.CustomResourceDefinitionNames{
		Plural: name + "s", Singular: name, Kind: strings.ToTitle(name), ListKind: strings.ToTitle(name) + "List",
	}
	d.Spec.Versions = []apiextensionsv1.CustomResourceDefinitionVersion{{
		Name: "v1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
			Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": spec},
		}},
	}}
	d.Status.AcceptedNames, d.Status.StoredVersions = d.Spec.Names, []string{"v1"}
	for _, c := range []apiextensionsv1.CustomResourceDefinitionConditionType{apiextensionsv1.NamesAccepted, apiextensionsv1.Established} {
		d.Status.Conditions = append(d.Status.Conditions, apiextensionsv1.CustomResourceDefinitionCondition{Type: c, Status: apiextensionsv1.ConditionTrue})
	}
	return d
}

// fill stores definitions, and objects of them.
func fill(b *testing.B, logs kubestorage.Logs, definitions, objects int) {
	b.Helper()
	put := func(gr schema.GroupResource, changes []tablelog.Change) {
		for _, chunk := range tablelog.Split(changes) {
			if _, _, err := logs.Of(gr).Commit(b.Context(), chunk, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
	gr := schema.GroupResource{Group: apiextensionsv1.GroupName, Resource: "customresourcedefinitions"}
	var changes []tablelog.Change
	for i := range definitions {
		d := definitionNumber(i)
		data, err := apiserver.Encode(apiextensionsv1.SchemeGroupVersion, d)
		if err != nil {
			b.Fatal(err)
		}
		changes = append(changes, tablelog.Change{Key: kubestorage.KeyOf(gr, "", d.Name), Value: data})
	}
	put(gr, changes)
	changes = nil
	for i := range objects {
		d := definitionNumber(i % definitions)
		name := fmt.Sprintf("object-%d", i)
		data, err := json.Marshal(map[string]any{
			"apiVersion": "example.com/v1", "kind": d.Spec.Names.Kind,
			"metadata": map[string]any{"name": name, "namespace": "default", "uid": name, "generation": 1},
			"spec":     map[string]any{"field00": strings.Repeat("x", 90), "field01": strings.Repeat("y", 90)},
		})
		if err != nil {
			b.Fatal(err)
		}
		of := schema.GroupResource{Group: "example.com", Resource: d.Spec.Names.Plural}
		changes = append(changes, tablelog.Change{Key: kubestorage.KeyOf(of, "default", name), Value: data})
	}
	put(schema.GroupResource{Group: "example.com", Resource: "any"}, changes)
}

// BenchmarkColdStart opens a store, assembles a server and asks it for one thing: with and without 500 definitions that have
// 10,000 objects. What it asks for first of a custom kind, or of all of them, is what they are paid for.
func BenchmarkColdStart(b *testing.B) {
	for _, c := range []struct {
		name                 string
		definitions, objects int
		path                 string
	}{
		{"pods/none", 0, 0, "/api/v1/namespaces/default/pods"},
		{"pods/500_definitions", 500, 10_000, "/api/v1/namespaces/default/pods"},
		{"configmap/none", 0, 0, "/api/v1/namespaces/kube-system/configmaps"},
		{"configmap/500_definitions", 500, 10_000, "/api/v1/namespaces/kube-system/configmaps"},
		{"custom/500_definitions", 500, 10_000, "/apis/example.com/v1/namespaces/default/kind007s"},
		{"discovery/none", 0, 0, "/apis"},
		{"discovery/500_definitions", 500, 10_000, "/apis"},
		{"openapi/none", 0, 0, "/openapi/v3"},
		{"openapi/500_definitions", 500, 10_000, "/openapi/v3"},
	} {
		b.Run(c.name, func(b *testing.B) {
			dir := b.TempDir()
			store, err := pebble.Open(dir)
			if err != nil {
				b.Fatal(err)
			}
			born := clustertest.In(b, store)
			fill(b, born.Logs(tablelog.Options{SoleWriter: true}), c.definitions, c.objects)
			if err := store.Close(); err != nil {
				b.Fatal(err)
			}
			apiserver.Warm()
			for b.Loop() {
				coldStart(b, born, dir, c.path)
			}
		})
	}
}

func coldStart(b *testing.B, born *clustertest.Cluster, dir, path string) {
	store, err := pebble.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	server, err := born.Again(store).Server(born.Again(store).Logs(tablelog.Options{SoleWriter: true}))
	if err != nil {
		b.Fatal(err)
	}
	client, err := discovery.NewDiscoveryClientForConfig(server.ClientConfig(apiserver.System, "bench"))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := client.RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").DoRaw(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	server.Close()
	if err := store.Close(); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
}
