package apiserver

import (
	"reflect"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubernetes/pkg/kubeapiserver"
)

// TestWhatIsStoredAtAnOlderVersionIsReadAtTheStableOne, whatever upstream stores so.
func TestWhatIsStoredAtAnOlderVersionIsReadAtTheStableOne(t *testing.T) {
	stored := certificatesv1beta1.ClusterTrustBundle{
		ObjectMeta: metav1.ObjectMeta{Name: "example.com:ca"},
		Spec:       certificatesv1beta1.ClusterTrustBundleSpec{SignerName: "example.com/ca", TrustBundle: "pem"},
	}
	data, err := runtime.Encode(Codecs.LegacyCodec(certificatesv1beta1.SchemeGroupVersion), &stored)
	if err != nil {
		t.Fatal(err)
	}
	obj, kind, err := newNewest().Decode(data, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &certificatesv1.ClusterTrustBundle{ObjectMeta: stored.ObjectMeta, Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: "example.com/ca", TrustBundle: "pem"}}
	if got, ok := obj.(*certificatesv1.ClusterTrustBundle); !ok || got.Name != want.Name || !reflect.DeepEqual(got.Spec, want.Spec) || kind.Version != "v1" {
		t.Errorf("read as %T %v at %v, want %v", obj, obj, kind, want)
	}
}

// TestEveryVersionThatIsStoredCanBeRead as the preferred one: of each kind that has several.
func TestEveryVersionThatIsStoredCanBeRead(t *testing.T) {
	n, several := newNewest(), 0
	for stored, typ := range Scheme.AllKnownTypes() {
		want := n.kindOf(stored)
		if want == stored || strings.HasSuffix(stored.Kind, "List") || strings.HasSuffix(stored.Kind, "Options") || stored.Kind == "WatchEvent" {
			continue
		}
		obj := reflect.New(typ).Interface().(runtime.Object)
		if _, ok := obj.(metav1.Object); !ok {
			continue
		}
		data, err := runtime.Encode(Codecs.LegacyCodec(stored.GroupVersion()), obj)
		if err != nil {
			t.Fatal(err)
		}
		got, kind, err := n.Decode(data, nil, nil)
		if err != nil {
			t.Errorf("%s: %v", stored, err)
			continue
		}
		if as, _, err := Scheme.ObjectKinds(got); err != nil || as[0] != want || *kind != want {
			t.Errorf("%s is read as %v (%v), want %s", stored, as, err, want)
		}
		several++
	}
	if several < 20 {
		t.Errorf("%d kinds at several versions were tried", several)
	}
	for _, r := range kubeapiserver.NewStorageFactoryConfig().ResourceEncodingOverrides {
		t.Logf("%s is stored at %s", r.GroupResource(), r.Version)
	}
	if got, want := n.kindOf(schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "HorizontalPodAutoscaler"}).Version, "v2"; got != want {
		t.Errorf("autoscalers are read at %s, want %s", got, want)
	}
}
