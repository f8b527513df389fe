package apiserver

import (
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

// Scheme knows every kind that is stored, as clients see it: those of client-go, and those of the
// two groups that upstream's extension server and aggregator serve.
var Scheme = newScheme()

// Codecs of Scheme.
var Codecs = serializer.NewCodecFactory(Scheme)

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, apiextensionsv1.AddToScheme, apiregistrationv1.AddToScheme} {
		utilruntime.Must(add(s))
	}
	return s
}

// Encode sets the defaults of an object and returns it as it is stored.
func Encode(gv schema.GroupVersion, obj runtime.Object) ([]byte, error) {
	if g, ok := ownSchemes[gv.Group]; ok {
		g.scheme.Default(obj)
		return runtime.Encode(g.codec, obj)
	}
	info, ok := runtime.SerializerInfoForMediaType(legacyscheme.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	if !ok {
		return nil, fmt.Errorf("no serializer for %s", runtime.ContentTypeProtobuf)
	}
	legacyscheme.Scheme.Default(obj)
	return runtime.Encode(legacyscheme.Codecs.EncoderForVersion(info.Serializer, gv), obj)
}

// stored decodes what is stored, in protobuf or JSON, without converting it: built-in kinds as clients see them, custom ones as
// unstructured objects.
type stored struct{}

// Decode implements runtime.Decoder.
func (stored) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	obj, gvk, err := Codecs.UniversalDeserializer().Decode(data, defaults, into)
	if err != nil && runtime.IsNotRegisteredError(err) {
		return unstructured.UnstructuredJSONScheme.Decode(data, defaults, into)
	}
	return obj, gvk, err
}
