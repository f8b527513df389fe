package audit

import (
	"bytes"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/zeroplane/zeroplane/adapters/apiserver"
	"github.com/zeroplane/zeroplane/adapters/kubestorage"
)

// encrypted begins a value that upstream's transformers have made.
var encrypted = []byte("k8s:enc:")

// checkObject returns what is wrong with an object in a log, and the invariant.
func checkObject(group, key string, value []byte) (invariant, message string) {
	gr, namespace, name := kubestorage.ParseKey(key)
	switch {
	case name == "" || kubestorage.KeyOf(gr, namespace, name) != key:
		return Objects, fmt.Sprintf("%q is no name of an object", key)
	case kubestorage.GroupOf(gr) != group:
		return Groups, fmt.Sprintf("%q belongs into the log %s", key, kubestorage.GroupOf(gr))
	case bytes.HasPrefix(value, encrypted):
		return "", "" // nobody can look into it without the key
	}
	obj, err := decode(value)
	if err != nil {
		return Objects, fmt.Sprintf("%q cannot be decoded: %v", key, err)
	}
	m, err := meta.Accessor(obj)
	if err != nil {
		// A kind without metadata, such as the allocation of a range, has no name to compare.
		return "", ""
	}
	return checkMetadata(key, namespace, name, m)
}

func checkMetadata(key, namespace, name string, m metav1.Object) (invariant, message string) {
	switch {
	case m.GetResourceVersion() != "":
		return Objects, fmt.Sprintf("%q is stored with resourceVersion %q", key, m.GetResourceVersion())
	case m.GetName() != "" && m.GetName() != name:
		return Objects, fmt.Sprintf("%q holds an object named %q", key, m.GetName())
	case namespace != m.GetNamespace():
		return Objects, fmt.Sprintf("%q holds an object in namespace %q", key, m.GetNamespace())
	}
	return "", ""
}

// decode reads a built-in kind, in protobuf or JSON, or one that was defined by the cluster's users, in JSON.
func decode(value []byte) (runtime.Object, error) {
	obj, _, err := apiserver.Codecs.UniversalDeserializer().Decode(value, nil, nil)
	if err == nil || !runtime.IsNotRegisteredError(err) {
		return obj, err
	}
	custom := &unstructured.Unstructured{}
	if jsonErr := json.Unmarshal(value, custom); jsonErr != nil {
		return nil, err
	}
	return custom, nil
}
