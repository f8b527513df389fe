package localhost

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// spelling is a webhook that converts between example.com/v1, which has spec.colour, and v2, which has spec.color.
func spelling(asked *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked.Add(1)
		var review apiextensionsv1.ConversionReview
		if err := json.NewDecoder(req.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = &apiextensionsv1.ConversionResponse{UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
		for _, o := range review.Request.Objects {
			u := &unstructured.Unstructured{}
			if err := json.Unmarshal(o.Raw, u); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			from, to := "color", "colour"
			if review.Request.DesiredAPIVersion == "example.com/v2" {
				from, to = to, from
			}
			if spec, ok := u.Object["spec"].(map[string]any); ok && u.GetAPIVersion() != review.Request.DesiredAPIVersion {
				spec[to] = spec[from]
				delete(spec, from)
			}
			u.SetAPIVersion(review.Request.DesiredAPIVersion)
			review.Response.ConvertedObjects = append(review.Response.ConvertedObjects, runtime.RawExtension{Object: u})
		}
		review.Request = nil
		_ = json.NewEncoder(w).Encode(&review)
	})
}

// TestAWebhookConvertsBetweenVersions reads and writes objects at a version that is not stored.
func TestAWebhookConvertsBetweenVersions(t *testing.T) {
	var asked atomic.Int64
	hook := httptest.NewTLSServer(spelling(&asked))
	defer hook.Close()
	h, _ := serve(t, Options{Data: t.TempDir(), MaxAwake: 1})
	config := adminConfig(t, h, h)
	crd := widgetDefinition()
	second := *crd.Spec.Versions[0].DeepCopy()
	second.Name, second.Storage = "v2", false
	spec := second.Schema.OpenAPIV3Schema.Properties["spec"]
	spec.Properties["color"] = spec.Properties["colour"]
	delete(spec.Properties, "colour")
	crd.Spec.Versions = append(crd.Spec.Versions, second)
	crd.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{
		Strategy: apiextensionsv1.WebhookConverter, Webhook: &apiextensionsv1.WebhookConversion{
			ConversionReviewVersions: []string{"v1"}, ClientConfig: &apiextensionsv1.WebhookClientConfig{
				URL: new(hook.URL), CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hook.Certificate().Raw}),
			},
		},
	}
	definitions := clientset.NewForConfigOrDie(config)
	ctx := t.Context()
	if _, err := definitions.ApiextensionsV1().CustomResourceDefinitions().Create(ctx, crd, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitEstablished(t, definitions, crd.Name)
	client := dynamic.NewForConfigOrDie(config)
	newer := schema.GroupVersionResource{Group: "example.com", Version: "v2", Resource: "widgets"}
	old, current := client.Resource(widgets).Namespace("default"), client.Resource(newer).Namespace("default")
	w, err := current.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if _, err := old.Create(ctx, widget("one", "red"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	colour := func(u *unstructured.Unstructured, field string) string {
		s, _, _ := unstructured.NestedString(u.Object, "spec", field)
		return s
	}
	select {
	case ev := <-w.ResultChan():
		if u, ok := ev.Object.(*unstructured.Unstructured); !ok || colour(u, "color") != "red" {
			t.Errorf("the watch sees %+v", ev)
		}
	case <-time.After(patience):
		t.Error("the watch sees nothing")
	}
	got, err := current.Get(ctx, "one", metav1.GetOptions{})
	if err != nil || colour(got, "color") != "red" || colour(got, "colour") != "" {
		t.Fatalf("at version 2: %+v, %v", got, err)
	}
	if err := unstructured.SetNestedField(got.Object, "green", "spec", "color"); err != nil {
		t.Fatal(err)
	}
	if _, err := current.Update(ctx, got, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	list, err := old.List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || colour(&list.Items[0], "colour") != "green" {
		t.Errorf("at version 1: %+v, %v", list, err)
	}
	if asked.Load() == 0 {
		t.Error("the webhook was never asked")
	}
}
